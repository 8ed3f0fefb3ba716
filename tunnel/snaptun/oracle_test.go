package snaptun

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"golang.zx2c4.com/wireguard/conn"
	"golang.zx2c4.com/wireguard/conn/bindtest"
	"golang.zx2c4.com/wireguard/device"
	"golang.zx2c4.com/wireguard/tun/tuntest"
)

// An oracle is a wireguard-go device with one peer, whose datagrams the test
// carries. It agrees with SNAPtun in all but the response, the padding and the
// offset of the timestamp.
type oracle struct {
	t    *testing.T
	tun  *tuntest.ChannelTUN
	wire conn.Bind
	recv []conn.ReceiveFunc
}

func newOracle(t *testing.T, private PrivateKey, peer PublicKey) *oracle {
	t.Helper()
	binds := bindtest.NewChannelBinds()
	o := &oracle{t: t, tun: tuntest.NewChannelTUN(), wire: binds[1]}
	var err error
	if o.recv, _, err = o.wire.Open(0); err != nil {
		t.Fatal(err)
	}
	dev := device.NewDevice(o.tun.TUN(), binds[0], device.NewLogger(device.LogLevelSilent, ""))
	t.Cleanup(func() {
		o.wire.Close()
		dev.Close()
	})
	err = dev.IpcSet(fmt.Sprintf("private_key=%x\nlisten_port=1\npublic_key=%x\nendpoint=127.0.0.1:3\nallowed_ip=0.0.0.0/0\n",
		private[:], peer[:]))
	if err != nil {
		t.Fatal(err)
	}
	if err := dev.Up(); err != nil {
		t.Fatal(err)
	}
	return o
}

func (o *oracle) send(b []byte) {
	o.t.Helper()
	ep, err := o.wire.ParseEndpoint("127.0.0.1:2")
	if err != nil {
		o.t.Fatal(err)
	}
	if err := o.wire.Send([][]byte{b}, ep); err != nil {
		o.t.Fatal(err)
	}
}

// receive waits for the next datagram of the device, which sends on the second
// of its two sockets.
func (o *oracle) receive() []byte {
	o.t.Helper()
	buf := make([]byte, 2048)
	sizes := make([]int, 1)
	if _, err := o.recv[1]([][]byte{buf}, sizes, make([]conn.Endpoint, 1)); err != nil {
		o.t.Fatal(err)
	}
	return buf[:sizes[0]]
}

const stockResponseSize = 92

// ipPacket returns an IPv4 packet of a length that stock WireGuard need not pad.
func ipPacket() []byte {
	return tuntest.Ping(netip.MustParseAddr("10.0.0.2"), netip.MustParseAddr("10.0.0.1"))
}

// TestOracleAcceptsInitiation has the device answer our initiation, and completes
// the handshake with its shorter response.
func TestOracleAcceptsInitiation(t *testing.T) {
	ours, theirs := testKey(1), testKey(2)
	s := newSession(t, ours, theirs)
	o := newOracle(t, theirs, ours.PublicKey())
	s.Initiate(start)
	o.send(taken(s)[0])
	b := o.receive()
	if len(b) != stockResponseSize {
		t.Fatalf("device answers with %d bytes", len(b))
	}
	if _, err := s.HandleDatagram(bytes.Clone(b), start); err != ErrNotSNAPtun {
		t.Errorf("a stock response gives %v, want %v", err, ErrNotSNAPtun)
	}
	if !s.host.gate.knowsUs(b) {
		t.Error("mac1 of the device does not verify")
	}

	i := s.peer.pending
	ee, _ := s.host.dh(i.ephemeral, PublicKey(b[12:44]))
	se, _ := s.host.dh(s.host.private, PublicKey(b[12:44]))
	chain, key, sum := answerKeys(i.chain, i.h, b[12:44], ee, se)
	if _, err := openOnce(nil, key, b[44:60], sum); err != nil {
		t.Fatal("the empty field of the response does not open")
	}
	send, recv := kdf2(chain, nil)
	k := &Keypair{send: newAEAD(send), recv: newAEAD(recv), local: i.index, remote: senderIndex(b)}
	o.exchangeData(k)
}

// TestOracleInitiates answers the initiation of the device with a response that
// is ours but for the sealed address.
func TestOracleInitiates(t *testing.T) {
	ours, theirs := testKey(1), testKey(2)
	s := newSession(t, ours, theirs)
	o := newOracle(t, theirs, ours.PublicKey())
	o.tun.Outbound <- ipPacket()
	b := o.receive()
	if messageType(b) != typeInitiation || !s.host.gate.knowsUs(b) {
		t.Fatalf("want an initiation for us, have %x", b)
	}
	r, err := s.host.openStatic(b)
	if err != nil || r.static != theirs.PublicKey() {
		t.Fatalf("static key %v, %v", r.static, err)
	}
	if err := r.openStamp(b, s.peer.shared); err != nil {
		t.Fatal(err)
	}
	if age := time.Now().Unix() - int64(r.stamp.sec-1<<62-10); age < 0 || age > 60 {
		t.Errorf("timestamp %v is %d seconds old", r.stamp, age)
	}

	ephemeral := testKey(3).ecdh()
	e := ephemeral.PublicKey().Bytes()
	ee, _ := s.host.dh(ephemeral, r.ephemeral)
	se, _ := s.host.dh(ephemeral, r.static)
	chain, key, sum := answerKeys(r.chain, r.h, e, ee, se)
	const index = 0x01020304
	response := binary.LittleEndian.AppendUint32(nil, typeResponse)
	response = binary.LittleEndian.AppendUint32(response, index)
	response = binary.LittleEndian.AppendUint32(response, r.index)
	response = append(response, e...)
	response = sealOnce(response, key, nil, sum)
	o.send(s.peer.appendMACs(response, index, 1))

	recv, send := kdf2(chain, nil)
	k := &Keypair{send: newAEAD(send), recv: newAEAD(recv), local: index, remote: r.index}
	first := o.receive()
	payload, err := k.Open(first)
	if err != nil || receiverIndex(first) != index {
		t.Fatalf("first data message of the device: %v", err)
	}
	if !bytes.HasPrefix(payload, ipPacket()) {
		t.Errorf("device sent %x", payload)
	}
	o.exchangeData(k)
}

// exchangeData sends a packet each way. The keypair has sent nothing before.
func (o *oracle) exchangeData(k *Keypair) {
	o.t.Helper()
	o.send(k.Seal(nil, 0, ipPacket()))
	if got := <-o.tun.Inbound; !bytes.Equal(got, ipPacket()) {
		o.t.Errorf("device got %x", got)
	}
	o.tun.Outbound <- ipPacket()
	for {
		b := o.receive()
		payload, err := k.Open(b)
		if err != nil {
			o.t.Fatalf("data message of the device: %v", err)
		}
		if len(payload) == 0 {
			continue
		}
		if !bytes.HasPrefix(payload, ipPacket()) {
			o.t.Errorf("device sent %x", payload)
		}
		return
	}
}

// TestOracleCookies holds both ends of the cookie exchange against the device's.
func TestOracleCookies(t *testing.T) {
	ours, theirs := testKey(1), testKey(2)
	ourPublic, theirPublic := ours.PublicKey(), theirs.PublicKey()
	source := []byte("192.0.2.1:1000")

	t.Run("ours answers theirs", func(t *testing.T) {
		s := newSession(t, ours, theirs)
		var generator device.CookieGenerator
		generator.Init(device.NoisePublicKey(ourPublic))
		msg := make([]byte, initiationSize)
		msg[0] = typeInitiation
		generator.AddMacs(msg)
		if !s.host.gate.knowsUs(msg) {
			t.Fatal("mac1 does not verify")
		}
		if s.host.gate.provesAddress(msg, source, 1) {
			t.Fatal("mac2 of zeros proves the address")
		}
		var reply device.MessageCookieReply
		b := s.host.gate.appendCookieReply(nil, msg, source, 1)
		if err := binary.Read(bytes.NewReader(b), binary.LittleEndian, &reply); err != nil {
			t.Fatal(err)
		}
		if !generator.ConsumeReply(&reply) {
			t.Fatal("cookie reply is not consumed")
		}
		generator.AddMacs(msg)
		if !s.host.gate.provesAddress(msg, source, 1) {
			t.Error("mac2 does not verify")
		}
		if s.host.gate.provesAddress(msg, []byte("192.0.2.1:1001"), 1) {
			t.Error("mac2 verifies for another port")
		}
	})

	for _, msgType := range []byte{typeInitiation, typeResponse} {
		t.Run(fmt.Sprintf("theirs answers our message %d", msgType), func(t *testing.T) {
			var checker device.CookieChecker
			checker.Init(device.NoisePublicKey(theirPublic))
			s := newSession(t, ours, theirs)
			next := func() []byte {
				now := start.Add(time.Second)
				if msgType == typeInitiation {
					s.Initiate(now)
				} else {
					peer := newSession(t, theirs, ours)
					peer.host.lastStamp = s.peer.newest
					peer.Initiate(now)
					deliver(t, s, taken(peer), now)
				}
				return taken(s)[0]
			}
			msg := next()
			if msg[0] != msgType || !checker.CheckMAC1(msg) {
				t.Fatalf("mac1 of message %d does not verify", msg[0])
			}
			reply, err := checker.CreateReply(msg, senderIndex(msg), source)
			if err != nil {
				t.Fatal(err)
			}
			var b bytes.Buffer
			binary.Write(&b, binary.LittleEndian, reply)
			if _, err := s.HandleDatagram(b.Bytes(), start); err != nil {
				t.Fatalf("cookie reply %s: %v", hex.EncodeToString(b.Bytes()), err)
			}
			if msg := next(); !checker.CheckMAC1(msg) || !checker.CheckMAC2(msg, source) {
				t.Errorf("mac2 of message %d does not verify", msg[0])
			}
		})
	}
}
