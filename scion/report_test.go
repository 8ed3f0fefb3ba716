package scion

import (
	"bytes"
	"net/netip"
	"reflect"
	"testing"

	"github.com/gopacket/gopacket"
	"github.com/scionproto/scion/pkg/addr"
	"github.com/scionproto/scion/pkg/slayers"
)

func TestEchoIsAnswered(t *testing.T) {
	r := newRand(1)
	for _, shape := range [][]int{nil, {2}, {2, 3, 2}} {
		for _, host := range []netip.Addr{v4b, v6b} {
			h, _, u := newLoneHost(t)
			peer, to := Addr{IA: ia110, Host: host}, h.Local()
			if shape != nil {
				peer.IA, to.Path = ia211, mustPath(randomPath(r, shape...))
			}
			var batch [][]byte
			for i := range uint16(3) {
				batch = append(batch, theirSCMP(t, peer, to, slayers.SCMPTypeEchoRequest, 0,
					&slayers.SCMPEcho{Identifier: 1000, SeqNumber: i}, gopacket.Payload(bytes.Repeat([]byte("data"), int(i)))))
			}
			if err := newIntake(h).receive(batch); err != nil {
				t.Fatal(err)
			}
			peer.Path = to.Path.Reverse()
			for i, got := range u.packets {
				want := theirSCMP(t, h.Local(), peer, slayers.SCMPTypeEchoReply, 0,
					&slayers.SCMPEcho{Identifier: 1000, SeqNumber: uint16(i)}, gopacket.Payload(bytes.Repeat([]byte("data"), i)))
				if !bytes.Equal(got, want) {
					t.Errorf("reply %d\n got %x\nwant %x", i, got, want)
				}
			}
			if c := h.Counters(); c != (Counters{Echoed: 3}) || u.batches != 1 {
				t.Errorf("counters %+v, %d writes", c, u.batches)
			}
		}
	}
}

func TestEchoRepliesAreBounded(t *testing.T) {
	h, _, u := newLoneHost(t)
	big := theirSCMP(t, peerB, h.Local(), slayers.SCMPTypeEchoRequest, 0, &slayers.SCMPEcho{}, gopacket.Payload(make([]byte, 20000)))
	in := newIntake(h)
	for range 2 {
		if err := in.receive([][]byte{big, big, big, big, big}); err != nil {
			t.Fatal(err)
		}
	}
	if c := h.Counters(); c != (Counters{Echoed: 6, EchoFlood: 4}) || u.batches != 2 {
		t.Errorf("counters %+v, %d writes", c, u.batches)
	}
}

func TestSCMPErrorsAreReported(t *testing.T) {
	local := Addr{IA: ia110, Host: v4a, Port: 1000}
	router := Addr{IA: ia211, Host: v6a}
	far := Addr{IA: ia211, Host: v6b, Port: 77, Path: mustPath(randomPath(newRand(1), 2, 2))}
	near := Addr{IA: ia110, Host: v4b, Port: 78}
	there := func(a Addr) Addr { a.Path = far.Path; return a }
	payload := bytes.Repeat([]byte("payload "), 125)
	sent := underWay(theirUDP(t, local, far, payload))
	other := far
	other.Path = mustPath(changed(far.Path.Append(nil), func(b []byte) { b[len(b)-1]++ })) // a MAC
	from := func(a Addr) []byte { return theirUDP(t, a, far, nil) }
	type layers = []gopacket.SerializableLayer
	unreachable := &slayers.SCMPDestinationUnreachable{}
	problem := &slayers.SCMPParameterProblem{Pointer: 32}
	down := func(ia IA, id uint64) layers {
		return layers{&slayers.SCMPExternalInterfaceDown{IA: addr.IA(ia), IfID: id}}
	}
	cut := func(ia IA, in, out uint64) layers {
		return layers{&slayers.SCMPInternalConnectivityDown{IA: addr.IA(ia), Ingress: in, Egress: out}}
	}
	report := func(r Report) Report {
		r.IA, r.Host, r.To, r.Port = ia211, v6a, far, 1000
		return r
	}
	tests := []struct {
		name     string
		src, dst Addr
		typ      slayers.SCMPType
		code     slayers.SCMPCode
		layers   layers
		quote    []byte
		want     Report // if Counters.Reports is 1
		counters Counters
	}{
		{"unreachable", router, there(local), 1, 3, layers{unreachable}, sent, report(Report{Type: 1, Code: 3}), Counters{Unreachable: 1, Reports: 1}},
		{"unreachable, quote cut", router, there(local), 1, 0, layers{unreachable}, sent[:170], report(Report{Type: 1}), Counters{Unreachable: 1, Reports: 1}},
		{"parameter problem", router, there(local), 4, 52, layers{problem}, sent, report(Report{Type: 4, Code: 52}), Counters{Reports: 1}},
		{"interface down", router, there(local), 5, 0, down(ia211, 41), sent, report(Report{Type: 5, Egress: 41}), Counters{Reports: 1}},
		{"connectivity down", router, there(local), 6, 0, cut(ia211, 2, 65535), sent, report(Report{Type: 6, Ingress: 2, Egress: 65535}), Counters{Reports: 1}},
		{"packet too big", router, there(local), 2, 0, layers{&slayers.SCMPPacketTooBig{MTU: 1000}}, sent, report(Report{Type: 2, MTU: 1000}), Counters{Reports: 1}},
		{"of host 0.0.0.0, on the empty path", Addr{IA: ia110, Host: netip.IPv4Unspecified()}, local, 5, 0, down(ia110, 1), sent, // trap 47
			Report{Type: 5, IA: ia110, Host: netip.IPv4Unspecified(), Egress: 1, To: far, Port: 1000}, Counters{Reports: 1}},
		{"of a SNAP", Addr{Host: v4b}, Addr{Host: v4a}, 4, 33, layers{problem}, sent, // snap.md §5.1
			Report{Type: 4, Code: 33, Host: v4b, To: far, Port: 1000}, Counters{Reports: 1, SNAPReports: 1}},
		{"inside the AS", Addr{IA: ia110, Host: v4b}, local, 1, 4, layers{unreachable}, theirUDP(t, local, near, payload),
			Report{Type: 1, Code: 4, IA: ia110, Host: v4b, To: near, Port: 1000}, Counters{Unreachable: 1, Reports: 1}},
		{"interface down in another AS", router, there(local), 5, 0, down(ia110, 41), sent, Report{}, Counters{SCMP: 1}},
		{"interface 0 down", router, there(local), 5, 0, down(ia211, 0), sent, Report{}, Counters{SCMP: 1}},
		{"interface 65536 down", router, there(local), 5, 0, down(ia211, 65536), sent, Report{}, Counters{SCMP: 1}},
		{"connectivity down in another AS", router, there(local), 6, 0, cut(ia110, 2, 3), sent, Report{}, Counters{SCMP: 1}},
		{"connectivity to 65536 down", router, there(local), 6, 0, cut(ia211, 2, 65536), sent, Report{}, Counters{SCMP: 1}},
		{"not too big", router, there(local), 2, 0, layers{&slayers.SCMPPacketTooBig{MTU: uint16(len(sent))}}, sent, Report{}, Counters{SCMP: 1}},
		{"from ISD-AS 0-0", Addr{Host: v4b}, there(local), 1, 0, layers{unreachable}, sent, Report{}, Counters{SCMP: 1}},
		{"to ISD-AS 0-0", router, Addr{Host: v4a}, 1, 0, layers{unreachable}, sent, Report{}, Counters{SCMP: 1}},
		{"from a wildcard", Addr{IA: 1 << 48, Host: v4b}, there(local), 1, 0, layers{unreachable}, sent, Report{}, Counters{SCMP: 1}},
		{"unknown error", router, there(local), 99, 0, layers{unreachable}, sent, Report{}, Counters{SCMP: 1}},
		{"about another host's packet", router, there(local), 1, 0, layers{unreachable}, from(Addr{IA: ia110, Host: v4b, Port: 1000}), Report{}, Counters{SCMP: 1}},
		{"about another AS's packet", router, there(local), 1, 0, layers{unreachable}, from(Addr{IA: ia211, Host: v4a, Port: 1000}), Report{}, Counters{SCMP: 1}},
		{"about another port's packet", router, there(local), 1, 0, layers{unreachable}, from(Addr{IA: ia110, Host: v4a, Port: 1001}), Report{}, Counters{NoPort: 1}},
		{"about what was never sent", router, there(local), 1, 0, layers{unreachable}, theirUDP(t, local, Addr{IA: ia211, Host: v6b, Port: 78, Path: far.Path}, payload), Report{}, Counters{SCMP: 1}},
		{"about another path", router, there(local), 1, 0, layers{unreachable}, theirUDP(t, local, other, payload), Report{}, Counters{SCMP: 1}},
		{"about the empty path", router, there(local), 1, 0, layers{unreachable}, theirUDP(t, local, far.Origin(), payload), Report{}, Counters{SCMP: 1}},
		{"about an echo request of nobody", router, there(local), 1, 0, layers{unreachable}, theirSCMP(t, local, far, 128, 0, &slayers.SCMPEcho{Identifier: 1000}), Report{}, Counters{SCMP: 1}},
		{"about an SCMP error", router, there(local), 1, 0, layers{unreachable}, theirSCMP(t, local, far, 1, 0, unreachable), Report{}, Counters{SCMP: 1}},
		{"about nonsense", router, there(local), 1, 0, layers{unreachable}, []byte("nonsense"), Report{}, Counters{SCMP: 1}},
		{"about nothing", router, there(local), 5, 0, down(ia211, 41), nil, Report{}, Counters{SCMP: 1}},
		{"without ports", router, there(local), 1, 0, layers{unreachable}, sent[:120], Report{}, Counters{SCMP: 1}},
		{"to another host", router, Addr{Host: v4b}, 1, 0, layers{unreachable}, sent, Report{}, Counters{WrongDestination: 1}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			h, port, _ := newLoneHost(t)
			var reports []Report
			h.cfg.Report = func(r Report) {
				if !bytes.HasPrefix(payload, r.Payload) || len(tt.quote) == len(sent) && len(r.Payload) < len(payload) {
					t.Errorf("payload %q", r.Payload)
				}
				r.Payload = nil
				reports = append(reports, r)
			}
			if n, err := port.WritePackets([]Addr{far, near}, [][]byte{payload, payload}); n != 2 || err != nil {
				t.Fatal(n, err)
			}
			got := &collected{}
			port.receiver = got.receiver()
			b := theirSCMP(t, tt.src, tt.dst, tt.typ, tt.code, append(tt.layers, gopacket.Payload(tt.quote))...)
			before, after := theirUDP(t, peerB, local, []byte("before")), theirUDP(t, peerB, local, []byte("after"))
			if err := newIntake(h).receive([][]byte{before, b, after}); err != nil {
				t.Fatal(err)
			}
			want := []datagram{{peerB, "before"}, {tt.want.To.Origin(), nilPacket}, {peerB, "after"}}
			if tt.counters.Unreachable == 0 {
				want = []datagram{want[0], want[2]}
			}
			got.want(t, want...)
			if tt.counters.Reports == 0 && len(reports) > 0 || tt.counters.Reports == 1 && (len(reports) != 1 || !reflect.DeepEqual(reports[0], tt.want)) {
				t.Errorf("reports %+v, want %+v", reports, tt.want)
			}
			if len(reports) > 0 && reports[0].To.Path != tt.want.To.Path {
				t.Error("the path is another pointer")
			}
			tt.counters.Received, tt.counters.Sent = uint64(len(want)), 2
			if c := h.Counters(); c != tt.counters {
				t.Errorf("counters %+v, want %+v", c, tt.counters)
			}
		})
	}
}

func TestReportsAreForTheAddressOfTheMoment(t *testing.T) {
	h, port, _ := newLoneHost(t)
	if _, err := port.WritePackets([]Addr{peerB}, [][]byte{nil}); err != nil {
		t.Fatal(err)
	}
	before := h.Local()
	moved := before
	moved.Port++
	h.SetLocal(moved)
	for _, from := range []Addr{before, moved} { // nothing was sent from there, or not to peerB
		b := theirSCMP(t, peerB, moved, 1, 0, &slayers.SCMPDestinationUnreachable{}, gopacket.Payload(theirUDP(t, from, peerB, nil)))
		if err := newIntake(h).receive([][]byte{b}); err != nil {
			t.Fatal(err)
		}
	}
	if c := h.Counters(); c.Reports != 0 || c.SCMP+c.NoPort != 2 {
		t.Errorf("counters %+v", c)
	}
}

func TestReportsReachBackAsFarAsPreparedHeaders(t *testing.T) {
	h, port, _ := newLoneHost(t)
	r := newRand(1)
	old := Addr{IA: ia211, Host: v4b, Port: 1, Path: mustPath(randomPath(r, 2))}
	ask := func() bool {
		before := h.Counters().Reports
		b := theirSCMP(t, peerB, h.Local(), 1, 0, &slayers.SCMPDestinationUnreachable{}, gopacket.Payload(theirUDP(t, h.Local(), old, nil)))
		if err := newIntake(h).receive([][]byte{b}); err != nil {
			t.Fatal(err)
		}
		return h.Counters().Reports > before
	}
	send := func(to ...Addr) {
		if _, err := port.WritePackets(to, make([][]byte, len(to))); err != nil {
			t.Fatal(err)
		}
	}
	send(old)
	for range 5 { // in use, it is known however many others there are
		for i := range maxTemplates - 2 {
			send(Addr{IA: ia110, Host: v4b, Port: uint16(1 + i + int(r.Uint32()%1000))})
		}
		send(old)
		if !ask() {
			t.Fatal("a packet on a path in use is not known")
		}
	}
	for i := range 2*maxTemplates + 2 {
		send(Addr{IA: ia110, Host: v6b, Port: uint16(1 + i)})
	}
	if ask() {
		t.Error("a packet is known for ever")
	}
}

func TestReportsReadWell(t *testing.T) {
	for want, r := range map[string]Report{
		"destination unreachable: no port":                     {Type: 1, Code: 4},
		"destination unreachable: code 77":                     {Type: 1, Code: 77},
		"packet too big for 1280 bytes":                        {Type: 2, MTU: 1280},
		"parameter problem: path expired":                      {Type: 4, Code: 52},
		"interface 1-ff00:0:110#41 is down":                    {Type: 5, IA: ia110, Egress: 41},
		"no connectivity from 1-ff00:0:110#41 to interface 42": {Type: 6, IA: ia110, Ingress: 41, Egress: 42},
		"SCMP error 99, code 1":                                {Type: 99, Code: 1},
	} {
		if got := r.String(); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

// underWay is a packet as the routers on its way leave it: the current fields
// are others, segment identifiers too, and router alerts are off.
func underWay(b []byte) []byte {
	p, err := ParsePacket(bytes.Clone(b))
	if err != nil {
		panic(err)
	}
	raw := p.RawPath()
	if p.PathType() == PathEmpty {
		return p.Bytes()
	}
	m := mustParseMeta(raw)
	raw[0] = byte(m.segments-1)<<6 | byte(m.hops-1)
	for i := range m.segments {
		m.info(raw, i)[2] ^= 0xa5
	}
	for i := range m.hops {
		m.hop(raw, i)[0] = 0
	}
	return p.Bytes()
}

func changed(b []byte, f func([]byte)) []byte { f(b); return b }
