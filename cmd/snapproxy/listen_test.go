package main

import (
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/pflag"
)

func TestParseListenAddr(t *testing.T) {
	for _, tt := range []struct{ text, want string }{
		{"1080", "127.0.0.1:1080"},
		{"0", "127.0.0.1:0"},
		{"01080", "127.0.0.1:1080"},
		{"localhost:1080", "localhost:1080"},
		{"[::1]:1080", "[::1]:1080"},
		{":1080", ":1080"},
		{"off", ""},
	} {
		if got, err := parseListenAddr(tt.text); err != nil || got.hostPort != tt.want {
			t.Errorf("parseListenAddr(%q) = %q, %v, want %q", tt.text, got.hostPort, err, tt.want)
		}
	}
	for _, text := range []string{"", "on", "-1", "65536", "::1:1080", "127.0.0.1", "127.0.0.1:http", "socks5h://127.0.0.1:1080"} {
		if got, err := parseListenAddr(text); err == nil {
			t.Errorf("parseListenAddr(%q) = %q", text, got.hostPort)
		}
	}
}

func FuzzParseListenAddr(f *testing.F) {
	for _, seed := range []string{"1080", "off", "[::1]:0", ":1", "localhost:1080"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		a, err := parseListenAddr(text)
		if err != nil || a == (listenAddr{}) {
			return
		}
		if again, err := parseListenAddr(a.hostPort); err != nil || again != a {
			t.Errorf("%q reads as %q and then as %q, %v", text, a.hostPort, again.hostPort, err)
		}
	})
}

func TestParseForward(t *testing.T) {
	for _, tt := range []struct{ text, listen, target string }{
		{"2222=host.example.org:22", "127.0.0.1:2222", "host.example.org:22"},
		{"tcp:2222=192.0.2.1:22", "127.0.0.1:2222", "192.0.2.1:22"},
		{"tcp:[::1]:0=[2001:db8::1]:22", "[::1]:0", "[2001:db8::1]:22"},
		{"tcp:22=tcp:22", "127.0.0.1:22", "tcp:22"},
	} {
		if got, err := parseForward(tt.text); err != nil || got.listen.hostPort != tt.listen || got.target != tt.target {
			t.Errorf("parseForward(%q) = %v, %v", tt.text, got, err)
		}
	}
	for _, text := range []string{"", "=", "2222", "2222=", "2222=host", "=host:22", "off=host:22", "udp:53=host:53", "2222=:22", "2222=host:ssh"} {
		if got, err := parseForward(text); err == nil {
			t.Errorf("parseForward(%q) = %v", text, got)
		}
	}
}

func FuzzParseForward(f *testing.F) {
	f.Add("tcp:2222=host.example.org:22")
	f.Add("[::1]:0=[2001:db8::1]:22")
	f.Fuzz(func(t *testing.T, text string) {
		fw, err := parseForward(text)
		if err != nil {
			return
		}
		if again, err := parseForward(fw.listen.hostPort + "=" + fw.target); err != nil || again != fw {
			t.Errorf("%q reads as %v and then as %v, %v", text, fw, again, err)
		}
	})
}

// proxyFlags is what a command line makes of the proxy's flags.
func proxyFlags(t *testing.T, args ...string) *proxyOptions {
	t.Helper()
	var o proxyOptions
	fs := pflag.NewFlagSet("exec", pflag.ContinueOnError)
	o.add(fs, "127.0.0.1:0")
	o.addForwards(fs)
	if err := fs.Parse(args); err != nil {
		t.Fatal(err)
	}
	return &o
}

func TestCommandsProxyHasACredentialUnlessAddressed(t *testing.T) {
	for _, tt := range []struct {
		args string
		want bool
	}{
		{"", true},
		{"--socks off", true},
		{"--forward 0=host:22", true},
		{"--socks 1080", false},
		{"--http 127.0.0.1:0", false},
		{"--http 1080 --users users", true},
	} {
		if got := proxyFlags(t, strings.Fields(tt.args)...).credential(); (got != nil) != tt.want {
			t.Errorf("credential with %q: %v", tt.args, got)
		}
	}
	if a, b := newCredential().String(), newCredential().String(); a == b {
		t.Error("two credentials are the same")
	}
}

func TestCommandsEnvironment(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	user := url.UserPassword("u", "p")
	at := "u:p@" + ln.Addr().String()
	caller := []string{"HOME=/home/u", "http_proxy=http://elsewhere", "ALL_PROXY=socks5://elsewhere", "SNAPPROXY_PRIVATE_KEY=sesame",
		"SNAPPROXY_SOCKS=1080", "NO_PROXY=*", "ftp_proxy=http://elsewhere"}

	both := (&proxy{socks: ln, http: ln, user: user}).environ(caller)
	want := []string{"HOME=/home/u", "ftp_proxy=http://elsewhere",
		"ALL_PROXY=http://" + at, "HTTPS_PROXY=http://" + at, "HTTP_PROXY=http://" + at,
		"all_proxy=http://" + at, "https_proxy=http://" + at, "http_proxy=http://" + at,
		"SNAPPROXY_SOCKS=socks5h://" + at, "NO_PROXY=localhost,127.0.0.1,::1", "no_proxy=localhost,127.0.0.1,::1"}
	if !slices.Equal(both, want) {
		t.Errorf("environment is %q\nwant %q", both, want)
	}
	socksOnly := (&proxy{socks: ln, user: user}).environ(caller)
	if slices.ContainsFunc(socksOnly, func(s string) bool {
		return strings.HasPrefix(strings.ToLower(s), "http") || strings.Contains(s, "ALL_PROXY")
	}) {
		t.Errorf("with --http off the environment is %q", socksOnly)
	}
}

func TestBindRefusesOthersUnlessOpen(t *testing.T) {
	for _, text := range []string{"0.0.0.0:0", ":0", "[::]:0"} {
		a, err := parseListenAddr(text)
		if err != nil {
			t.Fatal(err)
		}
		if ln, err := a.bind("--socks", errOpen); err == nil {
			ln.Close()
			t.Errorf("%s is bound", text)
		} else if !strings.Contains(err.Error(), "--insecure-open") {
			t.Errorf("%s: %v", text, err)
		}
	}
}

func TestDialableIsLoopbackForWildcards(t *testing.T) {
	a, err := parseListenAddr("0.0.0.0:0")
	if err != nil {
		t.Fatal(err)
	}
	ln, err := a.bind("--socks", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	if got := dialable(ln); !strings.HasPrefix(got, "127.0.0.1:") {
		t.Errorf("a wildcard listener is at %s", got)
	}
}

func TestAdvertised(t *testing.T) {
	for _, tt := range []struct{ listen, advertise, want string }{
		{"192.0.2.1:30041", "", "192.0.2.1:30041"},
		{"0.0.0.0:30041", "", "127.0.0.1:30041"},
		{"[::]:30041", "", "[::1]:30041"},
		{"0.0.0.0:30041", "snap.example.org:443", "snap.example.org:443"},
		{"0.0.0.0:30041", "[2001:db8::1]:0", "[2001:db8::1]:30041"},
	} {
		o := snapOptions{advertise: tt.advertise}
		if got := o.advertised(netip.MustParseAddrPort(tt.listen)); got != tt.want {
			t.Errorf("SNAP on %s, --advertise %q: %s, want %s", tt.listen, tt.advertise, got, tt.want)
		}
	}
}
