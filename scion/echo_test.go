package scion

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"syscall"
	"testing"
	"testing/synctest"

	"github.com/gopacket/gopacket"
	"github.com/scionproto/scion/pkg/addr"
	"github.com/scionproto/scion/pkg/slayers"
)

func TestEchoRequestIsTheReferences(t *testing.T) {
	for _, to := range []Addr{peerB, {IA: ia110, Host: v6b}, {IA: ia211, Host: v6b, Path: mustPath(randomPath(newRand(1), 2, 3))}} {
		h, _, u := newLoneHost(t)
		e := h.Echo(nil)
		for _, size := range []int{0, 5, 8, 56, 1200} {
			if err := e.Request(to, 513, size); err != nil {
				t.Fatal(err)
			}
			payload := make([]byte, size)
			copy(payload, e.cookie[:])
			want := theirSCMP(t, h.Local(), to, 128, 0, &slayers.SCMPEcho{Identifier: 1000, SeqNumber: 513}, gopacket.Payload(payload))
			if got := u.packets[len(u.packets)-1]; !bytes.Equal(got, want) {
				t.Errorf("%d bytes\n got %x\nwant %x", size, got, want)
			}
		}
	}
}

func TestHostsEcho(t *testing.T) {
	for _, hosts := range [][2]netip.Addr{{v4a, v4b}, {v6a, v6b}} {
		synctest.Test(t, func(t *testing.T) {
			a, b, _, _ := runPair(t, hosts[0], hosts[1])
			var got []EchoReply
			e := a.Echo(func(r EchoReply) { got = append(got, r) })
			for i, size := range []int{0, 8, 56} {
				if err := e.Request(b.Local(), uint16(i), size); err != nil {
					t.Fatal(err)
				}
			}
			synctest.Wait()
			e.Close()
			if err := e.Request(b.Local(), 9, 0); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
			to := Addr{IA: ia110, Host: hosts[1]}
			header := 28 + 2*ipLen(hosts[0]) + 8
			want := []EchoReply{
				{From: to, To: to, Sequence: 0, Size: header},
				{From: to, To: to, Sequence: 1, Size: header + 8},
				{From: to, To: to, Sequence: 2, Size: header + 56},
			}
			if fmt.Sprint(got) != fmt.Sprint(want) {
				t.Errorf("got %v, want %v", got, want)
			}
			if c := a.Counters(); c != (Counters{EchoReplies: 3, SCMP: 1}) {
				t.Errorf("counters %+v", c)
			}
		})
	}
}

func TestWhatAnswersAnEcho(t *testing.T) {
	far := Addr{IA: ia211, Host: v6b, Path: mustPath(randomPath(newRand(1), 2, 2))}
	router := Addr{IA: ia211, Host: v4b}
	tests := []struct {
		name string
		make func(h *Host, cookie []byte) []byte
		want string // what is delivered; empty: nothing
	}{
		{"an answer", func(h *Host, cookie []byte) []byte {
			return theirSCMP(t, far.Origin(), there(h, far), 129, 0, &slayers.SCMPEcho{Identifier: 1000, SeqNumber: 7}, gopacket.Payload(cookie))
		}, "answer"},
		{"of another host", func(h *Host, cookie []byte) []byte {
			return theirSCMP(t, router, there(h, far), 129, 0, &slayers.SCMPEcho{Identifier: 1000, SeqNumber: 7}, gopacket.Payload(cookie))
		}, ""},
		{"of another AS", func(h *Host, cookie []byte) []byte {
			return theirSCMP(t, Addr{IA: ia110, Host: v6b}, there(h, far), 129, 0, &slayers.SCMPEcho{Identifier: 1000, SeqNumber: 7}, gopacket.Payload(cookie))
		}, ""},
		{"to another port", func(h *Host, cookie []byte) []byte {
			return theirSCMP(t, far.Origin(), there(h, far), 129, 0, &slayers.SCMPEcho{Identifier: 1001, SeqNumber: 7}, gopacket.Payload(cookie))
		}, ""},
		{"to another request", func(h *Host, cookie []byte) []byte {
			return theirSCMP(t, far.Origin(), there(h, far), 129, 0, &slayers.SCMPEcho{Identifier: 1000, SeqNumber: 8}, gopacket.Payload(cookie))
		}, ""},
		{"by guess", func(h *Host, cookie []byte) []byte {
			cookie[7]++
			return theirSCMP(t, far.Origin(), there(h, far), 129, 0, &slayers.SCMPEcho{Identifier: 1000, SeqNumber: 7}, gopacket.Payload(cookie))
		}, ""},
		{"too short", func(h *Host, cookie []byte) []byte {
			return theirSCMP(t, far.Origin(), there(h, far), 129, 0, &slayers.SCMPEcho{Identifier: 1000, SeqNumber: 7}, gopacket.Payload(cookie[:9]))
		}, ""},
		{"cut off", func(h *Host, cookie []byte) []byte {
			return theirSCMP(t, far.Origin(), there(h, far), 129, 0, gopacket.Payload("ab"))
		}, ""},
		{"interface down", func(h *Host, cookie []byte) []byte {
			quote := underWay(theirSCMP(t, h.Local(), far, 128, 0, &slayers.SCMPEcho{Identifier: 1000, SeqNumber: 7}, gopacket.Payload(cookie)))
			return theirSCMP(t, router, there(h, far), 5, 0, &slayers.SCMPExternalInterfaceDown{IA: addr.IA(ia211), IfID: 41}, gopacket.Payload(quote))
		}, "interface 2-ff00:0:211#41 is down"},
		{"unreachable, quote cut", func(h *Host, cookie []byte) []byte {
			quote := theirSCMP(t, h.Local(), far, 128, 0, &slayers.SCMPEcho{Identifier: 1000, SeqNumber: 7}, gopacket.Payload(cookie))
			return theirSCMP(t, router, there(h, far), 1, 3, &slayers.SCMPDestinationUnreachable{}, gopacket.Payload(quote[:len(quote)-10]))
		}, "destination unreachable: no host"},
		{"unreachable, of another path", func(h *Host, cookie []byte) []byte {
			other := far
			other.Path = mustPath(randomPath(newRand(2), 2, 2))
			quote := theirSCMP(t, h.Local(), other, 128, 0, &slayers.SCMPEcho{Identifier: 1000, SeqNumber: 7}, gopacket.Payload(cookie))
			return theirSCMP(t, router, there(h, far), 1, 3, &slayers.SCMPDestinationUnreachable{}, gopacket.Payload(quote))
		}, ""},
		{"unreachable, by guess", func(h *Host, cookie []byte) []byte {
			cookie[0]++
			quote := theirSCMP(t, h.Local(), far, 128, 0, &slayers.SCMPEcho{Identifier: 1000, SeqNumber: 7}, gopacket.Payload(cookie))
			return theirSCMP(t, router, there(h, far), 1, 3, &slayers.SCMPDestinationUnreachable{}, gopacket.Payload(quote))
		}, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			h, _, _ := newLoneHost(t)
			var got []EchoReply
			other := h.Echo(func(EchoReply) { t.Error("delivered to somebody else") })
			defer other.Close()
			e := h.Echo(func(r EchoReply) { got = append(got, r) })
			for seq := range uint16(10) {
				if seq == 8 {
					continue
				}
				if err := errors.Join(e.Request(far, seq, 20), other.Request(peerB, seq, 20)); err != nil {
					t.Fatal(err)
				}
			}
			payload := make([]byte, 20)
			copy(payload, e.cookie[:])
			b := tt.make(h, payload)
			if err := newIntake(h).receive([][]byte{b}); err != nil {
				t.Fatal(err)
			}
			if tt.want == "" {
				if c := h.Counters(); len(got) != 0 || c != (Counters{SCMP: 1}) && c != (Counters{Malformed: 1}) {
					t.Errorf("delivered %v, counters %+v", got, c)
				}
				return
			}
			if len(got) != 1 || got[0].Sequence != 7 || got[0].To != far || got[0].Size != len(b) ||
				got[0].From.IA != ia211 || got[0].From.Path == nil || *got[0].From.Path != *far.Path.Reverse().Reverse() {
				t.Fatalf("delivered %+v", got)
			}
			said := "answer"
			if got[0].Report != nil {
				said = got[0].Report.String()
			}
			if said != tt.want {
				t.Errorf("delivered %q, want %q", said, tt.want)
			}
		})
	}
}

func TestOldEchoRequestsAreForgotten(t *testing.T) {
	h, _, u := newLoneHost(t)
	n := 0
	e := h.Echo(func(EchoReply) { n++ })
	in := newIntake(h)
	for seq := range uint16(maxEchos + 1) {
		if err := e.Request(peerB, seq, 8); err != nil {
			t.Fatal(err)
		}
	}
	for _, request := range u.packets {
		p, _ := ParsePacket(request)
		scmp := p.Payload()
		seq := binary.BigEndian.Uint16(scmp[6:])
		reply := theirSCMP(t, peerB, h.Local(), 129, 0, &slayers.SCMPEcho{Identifier: 1000, SeqNumber: seq}, gopacket.Payload(scmp[8:]))
		if err := in.receive([][]byte{reply, reply}); err != nil { // duplicates count
			t.Fatal(err)
		}
	}
	if n != 2*maxEchos {
		t.Errorf("%d answers, want %d", n, 2*maxEchos)
	}
}

func TestEchoRequestsThatCannotBeSent(t *testing.T) {
	h, _, _ := newLoneHost(t)
	e := h.Echo(nil)
	for _, tt := range []struct {
		to   Addr
		size int
		want error
	}{
		{Addr{IA: ia211, Host: v4b}, 0, syscall.ENETUNREACH},
		{peerB, -1, syscall.EMSGSIZE},
		{peerB, 65528, syscall.EMSGSIZE},
		{Addr{IA: ia110}, 0, errNoHost},
	} {
		if err := e.Request(tt.to, 1, tt.size); !errors.Is(err, tt.want) {
			t.Errorf("Request(%s, %d bytes): %v, want %v", tt.to, tt.size, err, tt.want)
		}
	}
	h.cfg.Underlay = brokenUnderlay{syscall.ENETDOWN}
	if err := e.Request(peerB, 1, 0); !errors.Is(err, syscall.ENETDOWN) {
		t.Errorf("underlay down: %v", err)
	}
	h.cfg.Underlay = brokenUnderlay{}
	if err := e.Request(peerB, 1, 0); !errors.Is(err, errEchoRefused) {
		t.Errorf("underlay that takes nothing: %v", err)
	}
	h.SetLocal(Addr{})
	if err := e.Request(peerB, 1, 0); !errors.Is(err, syscall.ENETDOWN) {
		t.Errorf("no address: %v", err)
	}
}

// there is the host's address with a path on which somebody answers.
func there(h *Host, from Addr) Addr {
	to := h.Local()
	to.Path = from.Path.Reverse()
	return to
}
