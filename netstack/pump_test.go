package netstack

import (
	"bytes"
	"context"
	"net/netip"
	"testing"

	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/checksum"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

// A recorder is a link that keeps what is written.
type recorder struct {
	mtu     int
	packets [][]byte
	keep    bool
}

func (r *recorder) Run(ctx context.Context, _ func([][]byte) error) error {
	<-ctx.Done()
	return nil
}
func (r *recorder) MTU(netip.Addr) int { return r.mtu }
func (r *recorder) WritePackets(packets [][]byte) (int, error) {
	if r.keep {
		for _, b := range packets {
			r.packets = append(r.packets, bytes.Clone(b))
		}
	}
	return len(packets), nil
}

// A tcpPacket describes a TCP segment as gVisor hands it to the link.
type tcpPacket struct {
	seq     uint32
	flags   byte
	options []byte // a multiple of 4
	payload []byte
	view    int // bytes in each piece of memory
}

// headers returns the IPv6 and TCP headers, without length and checksum.
func (p tcpPacket) headers() []byte {
	b := make([]byte, ipv6HeaderLen+tcpHeaderLen+len(p.options))
	putIPv6(b, protoTCP, tcpHeaderLen+len(p.options)+len(p.payload))
	src, dst := clientAddr.As16(), farAddr.As16()
	copy(b[8:], src[:])
	copy(b[24:], dst[:])
	header.TCP(b[40:]).Encode(&header.TCPFields{
		SrcPort: 1000, DstPort: 443, SeqNum: p.seq, AckNum: 77, WindowSize: 500,
		DataOffset: uint8(tcpHeaderLen + len(p.options)), Flags: header.TCPFlags(p.flags),
	})
	copy(b[60:], p.options)
	return b
}

// item makes the packet as it is queued.
func (p tcpPacket) item() outItem {
	h := p.headers()
	var data buffer.Buffer
	for rest := p.payload; len(rest) > 0; {
		n := min(max(p.view, 1), len(rest))
		part := buffer.MakeWithView(buffer.NewViewWithData(rest[:n]))
		data.Merge(&part)
		rest = rest[n:]
	}
	pkt := stack.NewPacketBuffer(stack.PacketBufferOptions{ReserveHeaderBytes: len(h), Payload: data})
	copy(pkt.TransportHeader().Push(len(h)-ipv6HeaderLen), h[ipv6HeaderLen:])
	copy(pkt.NetworkHeader().Push(ipv6HeaderLen), h)
	pkt.TransportProtocolNumber = header.TCPProtocolNumber
	pkt.NetworkProtocolNumber = header.IPv6ProtocolNumber
	pkt.GSOOptions.NeedsCsum = true
	return outItem{pkt: pkt, size: pkt.Size()}
}

// cutModel is what the pump should do, said simply: one packet for each piece
// of the payload, each made from scratch.
func cutModel(p tcpPacket, mtu int) (packets [][]byte) {
	piece := mtu - ipv6HeaderLen - tcpHeaderLen - len(p.options)
	for offset := 0; ; offset += piece {
		end := min(offset+piece, len(p.payload))
		part := p
		part.seq += uint32(offset)
		part.payload = p.payload[offset:end]
		if end < len(p.payload) {
			part.flags &^= flagFIN | flagPSH
		}
		if offset > 0 {
			part.flags &^= flagCWR
		}
		h := part.headers()
		tcp := header.TCP(h[ipv6HeaderLen:])
		sum := header.PseudoHeaderChecksum(header.TCPProtocolNumber,
			tcpip.AddrFrom16(clientAddr.As16()), tcpip.AddrFrom16(farAddr.As16()), uint16(len(tcp)+len(part.payload)))
		sum = checksum.Checksum(part.payload, sum)
		tcp.SetChecksum(^tcp.CalculateChecksum(sum))
		packets = append(packets, append(h, part.payload...))
		if end == len(p.payload) {
			return packets
		}
	}
}

func checkCut(t *testing.T, p tcpPacket, mtu int) {
	t.Helper()
	link := &recorder{mtu: mtu, keep: true}
	pump := newPump(link, new(counters))
	item := p.item()
	pump.add(&item)
	pump.flush()
	want := cutModel(p, usableMTU(mtu))
	if len(link.packets) != len(want) {
		t.Fatalf("%d bytes at MTU %d: %d packets, want %d", len(p.payload), mtu, len(link.packets), len(want))
	}
	for i := range want {
		if !bytes.Equal(link.packets[i], want[i]) {
			t.Fatalf("%d bytes at MTU %d: packet %d of %d\n got %x\nwant %x", len(p.payload), mtu, i, len(want), link.packets[i], want[i])
		}
	}
}

func TestPumpCutsSuperSegments(t *testing.T) {
	options := bytes.Repeat([]byte{1}, 12)
	for _, mtu := range []int{0, 576, 1212, 1280, 1312, 1500, 9000, 65535, 1 << 20} {
		for _, n := range []int{0, 1, 503, 504, 505, 1240, 1241, 2480, 30000, 65400} {
			for _, view := range []int{1 << 16, 7000, 333} {
				checkCut(t, tcpPacket{seq: 1<<32 - 1000, flags: flagACK | flagPSH | flagFIN | flagCWR, options: options, payload: randomBytes(n), view: view}, mtu)
			}
		}
	}
}

func FuzzSegment(f *testing.F) {
	f.Add(uint32(1), byte(flagACK|flagPSH), 1312, 12, 65400, 4096, int64(1))
	f.Add(uint32(1<<32-1), byte(flagACK|flagFIN), 0, 40, 1, 1, int64(2))
	f.Fuzz(func(t *testing.T, seq uint32, flags byte, mtu, options, size, view int, seed int64) {
		if options < 0 || options > 40 || options%4 != 0 || size < 0 || size > 65535-100 || flags&flagSYN != 0 || view < 16 {
			t.Skip()
		}
		b := randomBytes(int(byte(seed)) + options + size)[byte(seed):]
		checkCut(t, tcpPacket{seq, flags, b[:options], b[options:], view}, mtu)
	})
}

func TestPumpFillsBatches(t *testing.T) {
	link := &recorder{mtu: 1312, keep: true}
	pump := newPump(link, new(counters))
	var want [][]byte
	for i := range 40 {
		p := tcpPacket{seq: uint32(i), flags: flagACK, payload: randomBytes(65000), view: 1 << 16}
		item := p.item()
		pump.add(&item)
		want = append(want, cutModel(p, 1312)...)
	}
	pump.flush()
	if len(link.packets) != len(want) {
		t.Fatalf("%d packets, want %d", len(link.packets), len(want))
	}
	for i := range want {
		if !bytes.Equal(link.packets[i], want[i]) {
			t.Fatalf("packet %d differs", i)
		}
	}
}

func TestPumpClampsMSS(t *testing.T) {
	mss := func(v uint16) []byte { return []byte{1, 2, 4, byte(v >> 8), byte(v), 3, 3, 7} }
	for _, tt := range []struct {
		mtu       int
		mss, want uint16
	}{{1312, 65475, 1252}, {1312, 1252, 1252}, {1312, 1000, 1000}, {0, 65475, 516}, {9000, 8940, 8940}, {1 << 20, 65535, 65475}} {
		for _, flags := range []byte{flagSYN, flagSYN | flagACK} {
			link := &recorder{mtu: tt.mtu, keep: true}
			pump := newPump(link, new(counters))
			item := tcpPacket{flags: flags, options: mss(tt.mss)}.item()
			pump.add(&item)
			pump.flush()
			b := link.packets[0]
			if got := be16(b[63:]); got != tt.want || !checksumRight(b, protoTCP) {
				t.Errorf("MTU %d, MSS %d: sent %d (checksum right: %v), want %d", tt.mtu, tt.mss, got, checksumRight(b, protoTCP), tt.want)
			}
		}
	}
}

func TestClampMSSOfMalformedOptions(t *testing.T) {
	for _, options := range [][]byte{
		{}, {0, 2, 4, 255}, {2}, {2, 4}, {2, 4, 255}, {2, 3, 255, 255}, {5, 0, 0, 0}, {5, 1, 2, 4}, {5, 200, 2, 4}, {1, 1, 1, 2},
	} {
		b := append(make([]byte, tcpHeaderLen), options...)
		b[12] = 15 << 4 // beyond the end
		before := bytes.Clone(b)
		if clampMSS(b, 1280) || !bytes.Equal(b, before) {
			t.Errorf("clamped %x", options)
		}
	}
}

func TestUsualMSSOnTheWire(t *testing.T) {
	seen := make(chan uint16, 2)
	note := func(b []byte) bool {
		if b[6] == protoTCP && b[53]&flagSYN != 0 {
			opts := header.ParseSynOptions(b[60:40+int(b[52]>>4)*4], false)
			seen <- opts.MSS
		}
		return true
	}
	p := startPair(t, 1312, Config{TCP: acceptAnd(t, func(c *TCPConn) {})}, func(p *pair) {
		p.clientLink.filter, p.exitLink.filter = note, note
	})
	dial(t, p, farPort)
	for range 2 {
		if got := <-seen; got != 1252 {
			t.Errorf("MSS = %d, want 1252", got)
		}
	}
}

func TestPumpAllocatesNothing(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	pump := newPump(&recorder{mtu: 1312}, new(counters))
	item := tcpPacket{flags: flagACK, payload: randomBytes(65000), view: 1 << 16}.item()
	if n := testing.AllocsPerRun(100, func() {
		again := outItem{pkt: item.pkt.IncRef(), size: item.size}
		pump.add(&again)
		pump.flush()
	}); n != 0 {
		t.Errorf("%v allocations for a super-segment, want 0", n)
	}
}

func BenchmarkPump(b *testing.B) {
	pump := newPump(&recorder{mtu: 1312}, new(counters))
	item := tcpPacket{flags: flagACK, payload: randomBytes(65000), view: 1 << 16}.item()
	b.SetBytes(65000)
	b.ReportAllocs()
	for b.Loop() {
		again := outItem{pkt: item.pkt.IncRef(), size: item.size}
		pump.add(&again)
		pump.flush()
	}
}
