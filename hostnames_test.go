package snapproxy

import (
	"bytes"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/snapproxy/snapproxy/scion"
)

// hostsText has the names of the tests.
const hostsText = `# SCION hosts
1-ff00:0:110,10.0.0.1  exit.example.org exit   # the first
1-ff00:0:110,[fd00::1] exit.example.org
[2-ff00:0:210,fd00::2]	six
64-559,192.0.2.7 BGP.example.org.

1-ff00:0:110,10.0.0.1 exit.example.org
`

func TestLiteralsNeedNoLookup(t *testing.T) {
	n := newTestNames(t, NamesConfig{Servers: []string{"127.0.0.1:1"}})
	for text, want := range map[string]string{
		"1-ff00:0:110,10.0.0.1":         "1-ff00:0:110,10.0.0.1:0",
		"[1-ff00:0:110,10.0.0.1]":       "1-ff00:0:110,10.0.0.1:0",
		"1-ff00:0:110,fd00::1":          "1-ff00:0:110,[fd00::1]:0",
		"1-ff00:0:110,[fd00::1]":        "1-ff00:0:110,[fd00::1]:0",
		"[1-ff00:0:110,fd00::1]":        "1-ff00:0:110,[fd00::1]:0",
		"64-559,::ffff:192.0.2.1":       "64-559,192.0.2.1:0",
		"1-ff00:0:110,10.0.0.1:8000":    "",
		"1-ff00:0:110,[10.0.0.1]":       "",
		"[1-ff00:0:110,10.0.0.1":        "",
		"1-ff00:0:110,10.0.0.1]":        "",
		"[1-ff00:0:110,[fd00::1]]":      "",
		"[1-ff00:0:110,fd00::1]:80":     "",
		"1-ff00:0:110,fe80::1%lo":       "",
		"1-ff00:0:110,0.0.0.0":          "",
		"1-ff00:0:110,::":               "",
		"0-ff00:0:110,10.0.0.1":         "",
		"1-0,10.0.0.1":                  "",
		"1-ff00:0:110, 10.0.0.1":        "",
		"1-ff00:0:110,":                 "",
		",":                             "",
		"10.0.0.1":                      "",
		"[fd00::1]":                     "",
		"fd00::1":                       "",
		"":                              "",
		strings.Repeat("a", 64) + ".b":  "",
		strings.Repeat("a.", 200) + "b": "",
	} {
		addrs, err := n.Lookup(t.Context(), text)
		if want == "" {
			var malformed *net.AddrError
			var unknown *net.DNSError
			if !errors.As(err, &malformed) && (!errors.As(err, &unknown) || !unknown.IsNotFound) {
				t.Errorf("Lookup(%q) = %v, %v", text, addrs, err)
			}
			continue
		}
		if err != nil || len(addrs) != 1 || addrs[0].String() != want {
			t.Errorf("Lookup(%q) = %v, %v; want %s", text, addrs, err, want)
		}
	}
}

func TestPortsGoWithTheAddresses(t *testing.T) {
	n := newTestNames(t, NamesConfig{HostsFiles: []string{hostsFile(t, hostsText)}})
	for text, want := range map[string]string{
		"1-ff00:0:110,10.0.0.1:8000":   "1-ff00:0:110,10.0.0.1:8000",
		"1-ff00:0:110,[fd00::1]:8000":  "1-ff00:0:110,[fd00::1]:8000",
		"[1-ff00:0:110,10.0.0.1]:8000": "1-ff00:0:110,10.0.0.1:8000",
		"six:65535":                    "2-ff00:0:210,[fd00::2]:65535",
		"exit.example.org:53":          "1-ff00:0:110,10.0.0.1:53 1-ff00:0:110,[fd00::1]:53",
		"six":                          "",
		"six:0":                        "",
		"six:65536":                    "",
		"six:http":                     "",
		"six:-1":                       "",
		"1-ff00:0:110,10.0.0.1":        "",
		"10.0.0.1:8000":                "",
		":8000":                        "",
	} {
		addrs, err := n.LookupPort(t.Context(), text)
		if got := texts(addrs); got != want || (err == nil) != (want != "") {
			t.Errorf("LookupPort(%q) = %q, %v; want %q", text, got, err, want)
		}
	}
}

func TestHostsFilesNameAddresses(t *testing.T) {
	n := newTestNames(t, NamesConfig{HostsFiles: []string{hostsFile(t, hostsText)}})
	for name, want := range map[string]string{
		"exit":              "1-ff00:0:110,10.0.0.1:0",
		"EXIT.example.org.": "1-ff00:0:110,10.0.0.1:0 1-ff00:0:110,[fd00::1]:0",
		"six":               "2-ff00:0:210,[fd00::2]:0",
		"bgp.example.org":   "64-559,192.0.2.7:0",
	} {
		addrs, err := n.Lookup(t.Context(), name)
		if got := texts(addrs); err != nil || got != want {
			t.Errorf("Lookup(%q) = %q, %v; want %q", name, got, err, want)
		}
	}
}

func TestTheLastHostsFileWins(t *testing.T) {
	system := hostsFile(t, "1-ff00:0:3,10.0.0.3 both all system\n")
	first := hostsFile(t, "1-ff00:0:1,10.0.0.1 both all\n")
	second := hostsFile(t, "1-ff00:0:2,10.0.0.2 all\n")
	n := newTestNames(t, NamesConfig{HostsFiles: []string{first, second}, SystemHosts: system})
	for name, want := range map[string]string{"all": "1-ff00:0:2,10.0.0.2:0", "both": "1-ff00:0:1,10.0.0.1:0", "system": "1-ff00:0:3,10.0.0.3:0"} {
		addrs, err := n.Lookup(t.Context(), name)
		if got := texts(addrs); err != nil || got != want {
			t.Errorf("%s is %q, %v; want %s", name, got, err, want)
		}
	}
}

func TestHostsFilesAreReadAgain(t *testing.T) {
	file := hostsFile(t, "1-ff00:0:110,10.0.0.1 exit\n")
	n := newTestNames(t, NamesConfig{HostsFiles: []string{file}})
	for _, want := range []string{"1-ff00:0:110,10.0.0.1:0", "1-ff00:0:110,10.0.0.2:0"} {
		addrs, err := n.Lookup(t.Context(), "exit")
		if got := texts(addrs); err != nil || got != want {
			t.Errorf("Lookup = %q, %v; want %s", got, err, want)
		}
		if err := os.WriteFile(file, []byte("1-ff00:0:110,10.0.0.2 exit\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func TestBadHostsFilesAreNamed(t *testing.T) {
	for text, want := range map[string]string{
		"\n1-ff00:0:110,10.0.0.1\n":                 "line 2: no name behind the address",
		"10.0.0.1 exit\n":                           "line 1: no comma between ISD-AS and host",
		"# fine\n1-ff00:0:110,10.0.0.1:80 exit":     "line 2: host is not an IP address",
		"exit 1-ff00:0:110,10.0.0.1":                "line 1: no comma",
		"1-ff00:0:110,10.0.0.1 x #\n1-0,10.0.0.1 y": "line 2: ISD-AS is a wildcard",
		strings.Repeat("x", 1<<20):                  "token too long",
	} {
		file := hostsFile(t, text)
		_, err := NewNames(NamesConfig{HostsFiles: []string{file}})
		if err == nil || !strings.Contains(err.Error(), file) || !strings.Contains(err.Error(), want) {
			t.Errorf("file %.40q: %v; want %q and the file's name", text, err, want)
		}
	}
	if _, err := NewNames(NamesConfig{HostsFiles: []string{filepath.Join(t.TempDir(), "none")}}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a file that is not there: %v", err)
	}
	if _, err := NewNames(NamesConfig{HostsFiles: []string{t.TempDir()}}); err == nil {
		t.Error("a directory is taken")
	}
}

// TestTheSystemsFileMayBeStrange: it belongs to other programs.
func TestTheSystemsFileMayBeStrange(t *testing.T) {
	var log bytes.Buffer
	n := newTestNames(t, NamesConfig{
		SystemHosts: hostsFile(t, "what is this\n1-ff00:0:110,10.0.0.1 exit\n"),
		Logger:      slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug})),
	})
	addrs, err := n.Lookup(t.Context(), "exit")
	if got, want := texts(addrs), "1-ff00:0:110,10.0.0.1:0"; err != nil || got != want {
		t.Errorf("Lookup = %q, %v; want %s", got, err, want)
	}
	if !strings.Contains(log.String(), "line 1") {
		t.Errorf("nothing is said of the line: %s", &log)
	}
}

func FuzzParseHosts(f *testing.F) {
	f.Add(hostsText, "exit")
	f.Add("1-ff00:0:110,10.0.0.1 a.\n", "A")
	f.Add("[1-1,::1] x\r\n#", "x")
	f.Fuzz(func(t *testing.T, text, name string) {
		strict, err := parseHosts(strings.NewReader(text), name, nil)
		checkAddrs(t, strict)
		var bad int
		loose, looseErr := parseHosts(strings.NewReader(text), name, func(error) { bad++ })
		checkAddrs(t, loose)
		if looseErr == nil && bad == 0 && (err != nil || !slices.Equal(strict, loose)) {
			t.Errorf("strictly %v, %v; else %v", strict, err, loose)
		}
	})
}

// FuzzParseSCIONHost: with a port behind it, an address is one for package
// scion as well.
func FuzzParseSCIONHost(f *testing.F) {
	for _, s := range []string{"1-ff00:0:110,10.0.0.1", "[1-ff00:0:110,fd00::1]", "1-1,[::1]", "1-1,::1", "[1-1,[::1]]", "1-1,::ffff:1.2.3.4", "[]", ","} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		a, err := parseSCIONHost(s)
		reference, referenceErr := scion.ParseAddr(s + ":1")
		if referenceErr == nil && (err != nil || a.IA != reference.IA || a.Host != reference.Host) {
			t.Fatalf("%q is %v, %v; with a port it is %v", s, a, err, reference)
		}
		if err == nil {
			checkAddrs(t, []scion.Addr{a})
		}
	})
}

// checkAddrs holds that addresses are such that others can read them back.
func checkAddrs(t *testing.T, addrs []scion.Addr) {
	t.Helper()
	if len(addrs) > maxAddresses {
		t.Errorf("%d addresses", len(addrs))
	}
	for i, a := range addrs {
		if a.Port != 0 || a.Path != nil || slices.Contains(addrs[:i], a) {
			t.Errorf("address %v among %v", a, addrs)
		}
		a.Port = 1
		if back, err := scion.ParseAddr(a.String()); err != nil || back != a {
			t.Errorf("%v reads back as %v, %v", a, back, err)
		}
	}
}

// newTestNames makes Names that know nothing of this machine.
func newTestNames(t *testing.T, cfg NamesConfig) *Names {
	t.Helper()
	if cfg.SystemHosts == "" {
		cfg.SystemHosts = filepath.Join(t.TempDir(), "none")
	}
	if cfg.Servers == nil {
		cfg.Servers = []string{netip.AddrPortFrom(netip.IPv6Loopback(), 0).String()}
	}
	n, err := NewNames(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func hostsFile(t *testing.T, text string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "hosts")
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

func texts(addrs []scion.Addr) string {
	var all []string
	for _, a := range addrs {
		all = append(all, a.String())
	}
	return strings.Join(all, " ")
}
