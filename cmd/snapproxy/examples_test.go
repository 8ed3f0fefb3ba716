package main

import (
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// TestThreeProcessesExample runs the script with a page that the exit alone is
// allowed to reach.
func TestThreeProcessesExample(t *testing.T) {
	for _, program := range []string{"bash", "curl", "mktemp"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skip(err)
		}
	}
	page := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(http.StatusAccepted) }))
	defer page.Close()
	cmd := exec.Command("bash", "../../examples/three-processes.sh", page.URL)
	// The twin of --allow reaches the exit, which alone knows it.
	cmd.Env = append(os.Environ(), "SNAPPROXY_ALLOW=127.0.0.0/8")
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, want := range []string{"SOCKS5: 202\n", "HTTP:   202\n"} {
		if !strings.Contains(string(out), want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
}
