package snapproxy

import (
	"slices"
	"strings"
	"testing"

	"github.com/miekg/dns"
)

func TestTXTRecordsOfBothForms(t *testing.T) {
	const first, second = "1-ff00:0:110,192.0.2.1:0", "2-ff00:0:210,[2001:db8::1]:0"
	for text, want := range map[string]string{
		"scion=v1;[1-ff00:0:110,192.0.2.1]":                                           first,
		"scion=v1;[1-ff00:0:110,192.0.2.1],[2-ff00:0:210,2001:db8::1]":                first + " " + second,
		"scion=v1; [ 1-ff00:0:110 , 192.0.2.1 ] ,\t[2-ff00:0:210,2001:db8:0:0::1] , ": first + " " + second,
		"scion=v1;[1-ff00:0:110,192.0.2.1],":                                          first,
		"scion=v1;[64-559,192.0.2.1]":                                                 "64-559,192.0.2.1:0",
		"scion=1-ff00:0:110,192.0.2.1":                                                first,
		"scion=1-ff00:0:110,[192.0.2.1]":                                              "bad", // brackets are for IPv6
		"scion=2-ff00:0:210,[2001:db8::1]":                                            second,
		"scion=2-ff00:0:210,2001:db8::1":                                              second,
		"scion= 1-ff00:0:110,192.0.2.1 ":                                              first,
		"scion=v1;":                                                                   "bad",
		"scion=v1;,":                                                                  "bad",
		"scion=v1;1-ff00:0:110,192.0.2.1":                                             "bad",
		"scion=v1;[1-ff00:0:110,192.0.2.1":                                            "bad",
		"scion=v1;[1-ff00:0:110,192.0.2.1][1-ff00:0:110,192.0.2.2]":                   "bad",
		"scion=v1;[1-ff00:0:110,192.0.2.1],,[1-ff00:0:110,192.0.2.2]":                 "bad",
		"scion=v1;[1-ff00:0:110,192.0.2.1],[1-ff00:0:110,exit]":                       "bad",
		"scion=v1;[1-ff00:0:110,[2001:db8::1]]":                                       "bad",
		"scion=v1;[1-ff00:0:110,192.0.2.1:80]":                                        "bad",
		"scion=v1;[0-0,192.0.2.1]":                                                    "bad",
		"scion=v1;[1-ff00:0:110,0.0.0.0]":                                             "bad",
		"scion=v1;[1-ff00:0:110 192.0.2.1]":                                           "bad",
		"scion=v1;" + strings.Repeat("[1-1,::1],", 65):                                "bad",
		"scion=v1;\xff":                                                               "bad",
		"scion=v2;[1-ff00:0:110,192.0.2.1]":                                           "bad",
		"scion=":                                                                      "bad",
		"scion=1-ff00:0:110,192.0.2.1,1-ff00:0:110,192.0.2.2":                         "bad",
		" scion=v1;[1-ff00:0:110,192.0.2.1]":                                          "",
		"SCION=v1;[1-ff00:0:110,192.0.2.1]":                                           "",
		"v=spf1 -all":                                                                 "",
		"":                                                                            "",
	} {
		addrs, ours, err := parseTXT(text)
		got := texts(addrs)
		if err != nil {
			got = "bad"
		}
		if got != want || ours != (want != "") {
			t.Errorf("%.80q is %q (%v, ours: %v), want %q", text, got, err, ours, want)
		}
	}
}

func TestBadTXTRecordsAreQuotedShortAndPrintable(t *testing.T) {
	_, _, err := parseTXT("scion=v1;[\x1b[31m\n" + strings.Repeat("x", 60000))
	if err == nil || len(err.Error()) > 200 || strings.ContainsAny(err.Error(), "\x1b\n") {
		t.Errorf("error %q", err)
	}
}

func FuzzParseTXT(f *testing.F) {
	f.Add("scion=v1;[1-ff00:0:110,192.0.2.1],[2-ff00:0:210,2001:db8::1]")
	f.Add("scion=v1; [ 1-ff00:0:110 , 192.0.2.1 ] , ")
	f.Add("scion=1-ff00:0:110,[fd00::1]")
	f.Add("scion=v1;[,],[],[")
	f.Fuzz(func(t *testing.T, s string) {
		addrs, ours, err := parseTXT(s)
		if ours != strings.HasPrefix(s, "scion=") || !ours && (err != nil || addrs != nil) {
			t.Fatalf("%q: %v, %v, %v", s, addrs, ours, err)
		}
		if ours && err == nil {
			if len(addrs) == 0 || len(addrs) > maxAddresses {
				t.Errorf("%q has %d addresses", s, len(addrs))
			}
			for _, a := range addrs {
				checkAddrs(t, addrs[slices.Index(addrs, a):][:1])
			}
		}
	})
}

// FuzzReadTXT: whatever a server sends, the result has bounds and only
// addresses of the name that was asked for.
func FuzzReadTXT(f *testing.F) {
	for _, records := range [][]string{
		{`exit.example.org. 60 IN TXT "scion=v1;[1-ff00:0:110,192.0.2.1]"`},
		{`exit.example.org. 60 IN CNAME a.`, `a. 60 IN TXT "scion=1-1,::1"`, `a. 1 IN TXT "scion=v1;["`},
		{`other.example.org. 60 IN TXT "scion=1-1,::1"`},
		{`exit.example.org. 60 IN TXT "scion=v1;\009[1-1,::1]" "\"\\\255"`},
	} {
		f.Add(packed(f, records))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		m := new(dns.Msg)
		if m.Unpack(b) != nil {
			return
		}
		a := readTXT("exit.example.org.", m)
		checkAddrs(t, a.addrs)
		if a.ttl < 0 || len(a.bad) > maxAddresses {
			t.Errorf("%d bad records, for %v", len(a.bad), a.ttl)
		}
		aliased := slices.ContainsFunc(m.Answer, func(rr dns.RR) bool { return rr.Header().Rrtype == dns.TypeCNAME })
		named := slices.ContainsFunc(m.Answer, func(rr dns.RR) bool { return dns.CanonicalName(rr.Header().Name) == "exit.example.org." })
		if len(a.addrs) > 0 && !aliased && !named {
			t.Errorf("addresses %v of another name", a.addrs)
		}
	})
}

func packed(t testing.TB, records []string) []byte {
	t.Helper()
	b, err := answer(t, records).Pack()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// answer is an answer with the records, in the form of a zone file.
func answer(t testing.TB, records []string) *dns.Msg {
	t.Helper()
	m := new(dns.Msg)
	m.Response, m.RecursionAvailable, m.Compress = true, true, true
	for _, record := range records {
		rr, err := dns.NewRR(record)
		if err != nil {
			t.Fatalf("%s: %v", record, err)
		}
		if rr.Header().Rrtype == dns.TypeSOA {
			m.Ns = append(m.Ns, rr)
		} else {
			m.Answer = append(m.Answer, rr)
		}
	}
	return m
}
