package endhost

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/snapproxy/snapproxy/scion"
)

func TestParseUnderlaysDependsOnWhereTheAPILives(t *testing.T) {
	const public, private, local, loopback = "https://192.0.2.1:8443", "https://10.1.2.3", "http://169.254.1.1:80", "http://127.0.0.1:9000"
	tests := []struct {
		name string
		urls []string
		ok   []Scope // of APIs that may name them
	}{
		{"public", []string{public, "https://snap.example", "https://[2001:db8::1]:1/", "http://snap.example/api/"},
			[]Scope{ScopePublic, ScopePrivate, ScopeLinkLocal, ScopeLoopback}},
		{"private", []string{private, "https://192.168.1.1", "http://172.16.0.1:80", "http://[fd00::1]:80", "http://100.64.1.1", "http://[fec0::1]", "http://[64:ff9b::10.0.0.1]", "http://[::ffff:10.1.2.3]"},
			[]Scope{ScopePrivate, ScopeLinkLocal, ScopeLoopback}},
		{"link-local", []string{local, "http://[fe80::1]:80"}, []Scope{ScopeLinkLocal, ScopeLoopback}},
		{"loopback", []string{loopback, "http://[::1]:80", "http://localhost", "http://LOCALHOST.:80", "http://a.localhost", "http://[::ffff:127.0.0.1]", "http://[64:ff9b::7f00:1]"}, []Scope{ScopeLoopback}},
		{"nobody", []string{
			"http://0.0.0.0:80", "http://[::]:80", "http://224.0.0.1", "http://[ff02::1]", "http://255.255.255.255", "http://240.1.1.1", "http://0.1.2.3", "http://[::127.0.0.1]", "http://[::10.0.0.1]",
			"http://[fe80::1%25eth0]:80", "http://127.1", "http://0x7f000001", "http://2130706433", "http://017700000001", "http://1.2.3.4.5",
			"127.0.0.1:9000", "snap.example:8443", "snap.example", "", "ftp://snap.example", "file:///etc/passwd", "http:///x", "https://", "http:snap.example",
			"https://user@snap.example", "https://user:secret@snap.example", "https://snap.example?x=y", "https://snap.example/?", "https://snap.example#x",
			"https://snap.example:0", "https://snap.example:65536", "https://snap.example:x", "https://snap.example:", "https://snap example", "https://snäp.example",
			"http://[::1", "http://a/%zz", "https://" + strings.Repeat("a", 3000),
		}, nil},
	}
	for _, tt := range tests {
		for _, text := range tt.urls {
			for by := ScopePublic; by <= ScopeLoopback; by++ {
				u, refused, err := parseUnderlays(rawSNAP(text, as("111")), as("111"), by)
				ok := err == nil && refused == nil && len(u.SNAPs) == 1
				if want := slices.Contains(tt.ok, by); ok != want {
					t.Errorf("a %s API names %q: %v %v, want ok: %v", by, text, refused, err, want)
				}
				if refused != nil && (strings.Contains(refused.Error(), "secret") || strings.Contains(refused.Error(), "\n") || len(refused.Error()) > 500) {
					t.Errorf("the error says too much: %v", refused)
				}
			}
		}
	}
}

func TestParseUnderlaysTakesRoutersInsideTheAS(t *testing.T) {
	tests := []struct {
		addr string
		ok   []Scope
	}{
		{"192.0.2.1:30042", []Scope{ScopePublic, ScopePrivate, ScopeLinkLocal, ScopeLoopback}},
		{"10.0.0.1:30042", []Scope{ScopePublic, ScopePrivate, ScopeLinkLocal, ScopeLoopback}},
		{"[fd00::1]:30042", []Scope{ScopePublic, ScopePrivate, ScopeLinkLocal, ScopeLoopback}},
		{"169.254.0.1:1", []Scope{ScopeLinkLocal, ScopeLoopback}},
		{"127.0.0.1:53", []Scope{ScopeLoopback}},
		{"[::ffff:127.0.0.1]:53", []Scope{ScopeLoopback}},
		{"router.example:30042", nil},
		{"192.0.2.1:0", nil},
		{"192.0.2.1", nil},
		{"[fe80::1%eth0]:1", nil},
		{"0.0.0.0:30042", nil},
		{"224.0.0.1:30042", nil},
		{"", nil},
	}
	for _, tt := range tests {
		for by := ScopePublic; by <= ScopeLoopback; by++ {
			u, refused, err := parseUnderlays(rawRouter(as("111"), tt.addr, 1, 2), as("111"), by)
			if ok, want := err == nil && refused == nil && len(u.Routers) == 1, slices.Contains(tt.ok, by); ok != want {
				t.Errorf("a %s API names router %q: %v %v, want ok: %v", by, tt.addr, refused, err, want)
			}
		}
	}
}

func TestParseUnderlaysOfOtherASes(t *testing.T) {
	var b []byte
	b = append(b, rawSNAP("http://192.0.2.1", as("111"), as("211"))...)
	b = append(b, rawSNAP("http://192.0.2.2", as("112"))...)
	b = append(b, rawSNAP("http://192.0.2.3", 0)...)
	b = append(b, rawRouter(as("111"), "192.0.2.4:1", 1)...)
	b = append(b, rawRouter(as("211"), "192.0.2.5:1", 1)...)
	b = append(b, rawRouter(0, "192.0.2.6:1", 1)...)
	tests := []struct {
		ia   scion.IA
		want string
	}{
		{as("111"), "192.0.2.1 192.0.2.4"},
		{as("112"), "192.0.2.2"},
		{as("211"), "192.0.2.1 192.0.2.5"},
		{as("212"), ""},
		{0, "192.0.2.1 192.0.2.2 192.0.2.4 192.0.2.5"},
		{2 << 48, "192.0.2.1 192.0.2.5"},
		{as("111") & (1<<48 - 1), "192.0.2.1 192.0.2.4"},
	}
	for _, tt := range tests {
		u, refused, err := parseUnderlays(b, tt.ia, ScopePublic)
		var got []string
		for _, s := range u.SNAPs {
			got = append(got, s.URL.Host)
		}
		for _, r := range u.Routers {
			got = append(got, r.Addr.Addr().String())
		}
		if strings.Join(got, " ") != tt.want || err != nil || refused == nil {
			t.Errorf("asked for %s: got %v, refused %v, %v, want %q", tt.ia, got, refused, err, tt.want)
		}
	}
}

func TestParseUnderlaysBoundsThem(t *testing.T) {
	snaps, routers, ias, interfaces := rawSNAP("http://192.0.2.1", as("111")), rawRouter(as("111"), "192.0.2.4:1", 1), rawSNAP("http://192.0.2.1", make([]scion.IA, maxIAs+1)...), rawRouter(as("111"), "192.0.2.4:1", make([]uint64, maxInterfaces+1)...)
	for name, b := range map[string][]byte{
		"SNAPs":   []byte(strings.Repeat(string(snaps), maxSNAPs+1)),
		"routers": []byte(strings.Repeat(string(routers), maxRouters+1)),
	} {
		if _, _, err := parseUnderlays(b, 0, ScopePublic); err == nil || !strings.Contains(err.Error(), "more than") {
			t.Errorf("too many %s: %v", name, err)
		}
	}
	for name, b := range map[string][]byte{
		"ASes": ias, "interfaces": interfaces,
		"interface 0":     rawRouter(as("111"), "192.0.2.4:1", 0),
		"interface 65536": rawRouter(as("111"), "192.0.2.4:1", 65536),
	} {
		if u, refused, err := parseUnderlays(b, 0, ScopePublic); err != nil || refused == nil || len(u.SNAPs)+len(u.Routers) > 0 {
			t.Errorf("%s: %v %v", name, refused, err)
		}
	}
}

// TestParseUnderlaysReadsBothListForms holds that repeated numbers may come
// packed or one by one.
func TestParseUnderlaysReadsBothListForms(t *testing.T) {
	var m []byte
	m = appendNumber(m, 1, uint64(as("111")))
	m = appendText(m, 2, "192.0.2.4:1")
	m = appendNumber(m, 3, 41)
	m = appendNumber(m, 3, 42)
	m = appendPacked(m, 3, []uint64{43, 44})
	u, refused, err := parseUnderlays(appendMessage(nil, 1, appendMessage(nil, 1, m)), 0, ScopePublic)
	if err != nil || refused != nil || !slices.Equal(u.Routers[0].Interfaces, []uint16{41, 42, 43, 44}) {
		t.Errorf("got %+v, %v, %v", u, refused, err)
	}
}

func TestAppendUnderlaysLeavesOutWhatOthersCannotBear(t *testing.T) {
	b := appendUnderlays(nil, Underlays{
		SNAPs: []SNAP{{}, {URL: parsed(t, "http://127.0.0.1:1"), IAs: []scion.IA{as("111")}}},
		Routers: []Router{
			{IA: as("111")},
			{IA: as("111"), Addr: netip.MustParseAddrPort("[fe80::1%eth0]:1")},
			{IA: as("111"), Addr: netip.MustParseAddrPort("[::ffff:10.0.0.1]:2"), Interfaces: []uint16{1}},
		},
	})
	u, refused, err := parseUnderlays(b, 0, ScopeLoopback)
	if err != nil || refused != nil || len(u.SNAPs) != 1 || len(u.Routers) != 1 || u.Routers[0].Addr.String() != "10.0.0.1:2" {
		t.Errorf("got %+v, %v, %v", u, refused, err)
	}
	if got := appendUnderlays(nil, Underlays{}); string(got) != "\x0a\x00\x12\x00" {
		t.Errorf("no underlays: % x, want both parts, empty", got)
	}
}

// rawSNAP is a ListUnderlaysResponse with a SNAP, whatever its URL is.
func rawSNAP(text string, ias ...scion.IA) []byte {
	m := appendPacked(appendText(nil, 1, text), 2, ias)
	return appendMessage(nil, 2, appendMessage(nil, 1, m))
}

// rawRouter is a ListUnderlaysResponse with a router, whatever its address is.
func rawRouter(ia scion.IA, addr string, interfaces ...uint64) []byte {
	m := appendPacked(appendText(appendNumber(nil, 1, uint64(ia)), 2, addr), 3, interfaces)
	return appendMessage(nil, 1, appendMessage(nil, 1, m))
}

func FuzzParseUnderlays(f *testing.F) {
	f.Add(rawSNAP("http://192.0.2.1", as("111")), uint64(0), 0)
	f.Add(rawSNAP("http://user:secret@127.0.0.1:99999", as("111")), uint64(as("111")), 1)
	f.Add(append(rawRouter(as("111"), "127.0.0.1:1", 1, 2, 3), rawSNAP("https://[::1]:1/x/", 0)...), uint64(0), 3)
	f.Add(protowire.AppendTag(nil, 1, protowire.StartGroupType), uint64(0), 3)
	f.Fuzz(func(t *testing.T, b []byte, ia uint64, by int) {
		scope := Scope(by & 3)
		u, refused, err := parseUnderlays(b, scion.IA(ia), scope)
		if err == nil && refused == nil && len(u.SNAPs)+len(u.Routers) == 0 {
			t.Error("nothing, and no reason")
		}
		for _, s := range u.SNAPs {
			if err := checkURL(s.URL); err != nil {
				t.Errorf("%s: %v", s.URL, err)
			}
			if a, err := netip.ParseAddr(s.URL.Hostname()); err == nil && ScopeOf(a) > scope {
				t.Errorf("a %s API names %s", scope, s.URL)
			}
			if !serves(s.IAs, scion.IA(ia)) {
				t.Errorf("%v does not serve %s", s, scion.IA(ia))
			}
		}
		if err != nil {
			return
		}
		again, _, err := parseUnderlays(appendUnderlays(nil, u), scion.IA(ia), scope)
		if err != nil || len(again.SNAPs) != len(u.SNAPs) || len(again.Routers) != len(u.Routers) {
			t.Errorf("written and read again: %+v, %v, want %+v", again, err, u)
		}
		parseUnderlaysRequest(b)
	})
}

func FuzzParseURL(f *testing.F) {
	for _, s := range []string{"http://a:1/x/", "https://user:secret@a@b?x#y", "http://[::1%25lo]:0", "HTTPS://A.", "http://127.1", "a:1"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		u, err := ParseURL(s)
		if err != nil {
			if text := err.Error(); strings.ContainsAny(text, "\n\r\x1b") || len(text) > 2000 {
				t.Errorf("%q", text)
			}
			return
		}
		if u.Scheme != "http" && u.Scheme != "https" || u.User != nil || u.Hostname() == "" || u.RawQuery != "" {
			t.Errorf("%q is taken for %+v", s, u)
		}
		if again, err := ParseURL(u.String()); err != nil || again.Host != u.Host {
			t.Errorf("%q is written as %q: %v", s, u, err)
		}
	})
}
