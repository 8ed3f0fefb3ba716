//go:build interop && linux

package pocketscion

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// TestTransferThroughGateway is client and exit of ours on the data plane of the
// peers' SNAP alone: what a download of 64 MiB does there. Bursts that the
// gateway cannot take in whole would show.
func TestTransferThroughGateway(t *testing.T) {
	t.Parallel()
	attach := strings.Fields(startPeer(t, "gateway").awaitLine(0))
	p := startPair(t, attach, attach)
	const size = 64 << 20
	blob := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPut {
			n, err := io.Copy(io.Discard, r.Body)
			fmt.Fprint(w, n, err)
			return
		}
		w.Write(make([]byte, size))
	}))
	defer blob.Close()
	client := proxied(p.http, 2*time.Minute)
	begin := time.Now()
	r, err := client.Get(blob.URL)
	if err != nil {
		t.Fatal(err)
	}
	n, err := io.Copy(io.Discard, r.Body)
	r.Body.Close()
	if n != size || err != nil {
		t.Fatalf("download of %d bytes, %v, want %d", n, err, size)
	}
	t.Logf("download of 64 MiB at %.0f Mbit/s", size*8/1e6/time.Since(begin).Seconds())
	begin = time.Now()
	req, err := http.NewRequest(http.MethodPut, blob.URL, io.LimitReader(zeros{}, size))
	if err != nil {
		t.Fatal(err)
	}
	if r, err = client.Do(req); err != nil {
		t.Fatal(err)
	}
	text, _ := io.ReadAll(r.Body)
	r.Body.Close()
	if want := fmt.Sprint(size, nil); string(text) != want {
		t.Fatalf("upload: %q, want %q", text, want)
	}
	t.Logf("upload of 64 MiB at %.0f Mbit/s", size*8/1e6/time.Since(begin).Seconds())
}

// zeros reads as zeros without end.
type zeros struct{}

func (zeros) Read(b []byte) (int, error) { clear(b); return len(b), nil }
