//go:build unix

package test

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strconv"
	"syscall"
	"testing"
	"time"
)

// What follows speaks to the proxies byte by byte.

// REP values of RFC 1928 §6.
const (
	repGranted      = 0
	repFailure      = 1
	repPolicy       = 2
	repNetwork      = 3
	repHost         = 4
	repRefused      = 5
	repTimeout      = 6
	repCommand      = 7
	repAddressType  = 8
	cmdConnect      = 1
	cmdBind         = 2
	cmdAssociate    = 3
	noAuthGreeting  = "\x05\x01\x00"
	noAuthSelected  = "\x05\x00"
	passwordOffered = "\x05\x01\x02"
)

// A wire is a connection to a proxy whose bytes the test writes and reads.
type wire struct {
	t *testing.T
	*net.TCPConn
	r *bufio.Reader
}

func dialWire(t *testing.T, addr string) *wire {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(patience))
	return newWire(t, c)
}

func newWire(t *testing.T, c net.Conn) *wire { return &wire{t, c.(*net.TCPConn), bufio.NewReader(c)} }

func (w *wire) Read(b []byte) (int, error) { return w.r.Read(b) }

// WriteTo hides that of the connection, which knows nothing of what was read
// ahead.
func (w *wire) WriteTo(dst io.Writer) (int64, error) { return w.r.WriteTo(dst) }

func (w *wire) write(parts ...string) {
	w.t.Helper()
	for _, p := range parts {
		if _, err := io.WriteString(w.TCPConn, p); err != nil {
			w.t.Fatalf("write %q: %v", p, err)
		}
	}
}

func (w *wire) wants(want string) {
	w.t.Helper()
	got := make([]byte, len(want))
	n, err := io.ReadFull(w, got)
	if string(got[:n]) != want {
		w.t.Fatalf("got %q (%v), want %q", got[:n], err, want)
	}
}

// wantsEnd wants the end of the stream, not its reset.
func (w *wire) wantsEnd() {
	w.t.Helper()
	if rest, err := io.ReadAll(w); err != nil || len(rest) > 0 {
		w.t.Errorf("got %q (%v), want the end", rest, err)
	}
}

// reply reads the reply to a SOCKS request.
func (w *wire) reply() (rep byte, bound netip.AddrPort) {
	w.t.Helper()
	head := make([]byte, 4)
	if n, err := io.ReadFull(w, head); err != nil {
		w.t.Fatalf("reply: got %x, %v", head[:n], err)
	}
	if head[0] != 5 || head[2] != 0 {
		w.t.Fatalf("reply begins with %x", head)
	}
	size := map[byte]int{1: 4, 4: 16}[head[3]]
	if size == 0 {
		w.t.Fatalf("reply with address type %d", head[3])
	}
	addr := make([]byte, size+2)
	if _, err := io.ReadFull(w, addr); err != nil {
		w.t.Fatalf("reply: %v", err)
	}
	ip, _ := netip.AddrFromSlice(addr[:size])
	return head[1], netip.AddrPortFrom(ip, binary.BigEndian.Uint16(addr[size:]))
}

func (w *wire) wantsReply(want byte) netip.AddrPort {
	w.t.Helper()
	rep, bound := w.reply()
	if rep != want {
		w.t.Fatalf("REP %d, want %d", rep, want)
	}
	return bound
}

// response reads an HTTP response whose content ends with it.
func (w *wire) response(method string) (*http.Response, string) {
	w.t.Helper()
	res, err := http.ReadResponse(w.r, &http.Request{Method: method})
	if err != nil {
		w.t.Fatalf("response: %v", err)
	}
	if method == http.MethodConnect && res.StatusCode == http.StatusOK {
		return res, ""
	}
	body, err := io.ReadAll(res.Body)
	if err != nil {
		w.t.Fatalf("content of response %s: %v", res.Status, err)
	}
	return res, string(body)
}

// request is a SOCKS request for HOST:PORT, with the host as an address if it is
// one.
func request(cmd byte, addr string) string {
	return string(appendAddr([]byte{5, cmd, 0}, addr))
}

// requestByName is a SOCKS request with the host as a name, whatever it is.
func requestByName(cmd byte, name string, port uint16) string {
	return string(appendName([]byte{5, cmd, 0}, name, port))
}

// appendAddr appends ATYP, ADDR and PORT of HOST:PORT.
func appendAddr(b []byte, addr string) []byte {
	host, service, err := net.SplitHostPort(addr)
	if err != nil {
		panic(err)
	}
	port, err := strconv.ParseUint(service, 10, 16)
	if err != nil {
		panic(err)
	}
	ip, err := netip.ParseAddr(host)
	switch {
	case err != nil:
		return appendName(b, host, uint16(port))
	case ip.Is4():
		b = append(b, 1)
	default:
		b = append(b, 4)
	}
	return binary.BigEndian.AppendUint16(append(b, ip.AsSlice()...), uint16(port))
}

func appendName(b []byte, name string, port uint16) []byte {
	return binary.BigEndian.AppendUint16(append(append(b, 3, byte(len(name))), name...), port)
}

// connectSOCKS returns a stream to a target through a SOCKS proxy.
func connectSOCKS(t *testing.T, proxy, target string) *wire {
	t.Helper()
	w := dialWire(t, proxy)
	w.write(noAuthGreeting)
	w.wants(noAuthSelected)
	w.write(request(cmdConnect, target))
	w.wantsReply(repGranted)
	return w
}

// askSOCKS returns the reply to a request. After a refusal the stream must end.
func askSOCKS(t *testing.T, proxy, request string) (rep byte) {
	t.Helper()
	w := dialWire(t, proxy)
	w.write(noAuthGreeting, request)
	w.wants(noAuthSelected)
	rep, _ = w.reply()
	if rep != repGranted {
		w.wantsEnd()
	}
	return rep
}

// connectHTTP returns a stream to a target through an HTTP proxy.
func connectHTTP(t *testing.T, proxy, target string) *wire {
	t.Helper()
	w := dialWire(t, proxy)
	w.write("CONNECT " + target + " HTTP/1.1\r\nHost: " + target + "\r\n\r\n")
	if res, body := w.response(http.MethodConnect); res.StatusCode != http.StatusOK {
		t.Fatalf("CONNECT %s: %s %s", target, res.Status, body)
	}
	return w
}

// askHTTP returns the response to a request, all of whose bytes are given.
func askHTTP(t *testing.T, proxy, request string) (*http.Response, string) {
	t.Helper()
	w := dialWire(t, proxy)
	w.write(request)
	method, _, _ := bytes.Cut([]byte(request), []byte(" "))
	return w.response(string(method))
}

// isReset reports whether a connection was cut and not ended.
func isReset(err error) bool {
	return errors.Is(err, syscall.ECONNRESET) || errors.Is(err, io.ErrUnexpectedEOF)
}

func isClosed(err error) bool { return errors.Is(err, net.ErrClosed) }

func isTimeout(err error) bool { return errors.Is(err, os.ErrDeadlineExceeded) }
