package snaptun

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"
)

// A vector is the named values of one handshake in testdata.
type vector map[string][]byte

func readVectors(t *testing.T) (a, b1, b2, p vector) {
	t.Helper()
	text, err := os.ReadFile("testdata/snaptun-vectors.json")
	if err != nil {
		t.Fatal(err)
	}
	var file map[string][]struct{ K, V string }
	if err := json.Unmarshal(text, &file); err != nil {
		t.Fatal(err)
	}
	section := func(name string) vector {
		v := make(vector)
		for _, e := range file[name] {
			b, err := hex.DecodeString(e.V)
			if err != nil && name != "P" {
				t.Fatalf("%s: %v", e.K, err)
			}
			v[e.K] = b
		}
		return v
	}
	return section("A"), section("B1"), section("B2"), section("P")
}

// get returns the value of that name, or whose name begins with it.
func (v vector) get(t *testing.T, prefix string) []byte {
	t.Helper()
	if b, ok := v[prefix]; ok {
		return b
	}
	for k, b := range v {
		if strings.HasPrefix(k, prefix) {
			return b
		}
	}
	t.Fatalf("no value %q", prefix)
	return nil
}

func (v vector) private(t *testing.T, name string) PrivateKey {
	t.Helper()
	return PrivateKey(v.get(t, name))
}

// vectorPair returns the two sides of a vector, with indices from 1.
func vectorPair(t *testing.T, v vector, sealed netip.AddrPort, now time.Time) (initiator, responder *Session) {
	t.Helper()
	i, r := v.private(t, "Si_priv"), v.private(t, "Sr_priv")
	initiator = newSession(t, i, r)
	responder = newSession(t, r, i, func(c *SessionConfig) { c.SealedAddr = sealed })
	initiator.peer.base, responder.peer.base = 0, 0
	return initiator, responder
}

func TestVectorA(t *testing.T) {
	v, _, _, _ := readVectors(t)
	now := time.Date(2026, 1, 1, 0, 0, 0, 123456789, time.UTC)
	seen := netip.MustParseAddrPort("192.0.2.17:54321")
	i, r := vectorPair(t, v, seen, now)
	i.host.rand = bytes.NewReader(v.get(t, "Ei_priv"))
	r.host.rand = bytes.NewReader(v.get(t, "Er_priv"))
	checkHandshake(t, v, i, r, seen, now)

	packet := v.get(t, "SCION packet")
	data := v.get(t, "MESSAGE 4 data, initiator->responder")
	got, err := i.Seal(nil, packet, now)
	if err != nil || !bytes.Equal(got, data) {
		t.Errorf("data message = %x, %v; want %x", got, err, data)
	}
	payload, err := r.HandleDatagram(bytes.Clone(data), now)
	if err != nil || !bytes.Equal(payload, packet) {
		t.Errorf("payload = %x, %v; want %x", payload, err, packet)
	}
	keepalive := v.get(t, "MESSAGE 4 keepalive, responder->initiator")
	r.peer.sendKeepalive(r.at(now))
	if got := r.NextTransmit(); !bytes.Equal(got, keepalive) {
		t.Errorf("keepalive of the responder = %x, want %x", got, keepalive)
	}
	if payload, err := i.HandleDatagram(bytes.Clone(keepalive), now); err != nil || payload != nil {
		t.Errorf("keepalive of the responder gives %x, %v", payload, err)
	}
}

func TestVectorB(t *testing.T) {
	_, first, v, _ := readVectors(t)
	now := time.Date(2026, 1, 1, 0, 1, 0, 0, time.UTC)
	seen := netip.MustParseAddrPort("[2001:db8::1234]:40000")
	i, r := vectorPair(t, v, seen, now)
	i.host.rand = bytes.NewReader(append(first.get(t, "Ei_priv"), v.get(t, "Ei_priv")...))
	r.host.rand = bytes.NewReader(v.get(t, "Er_priv"))

	i.Initiate(now)
	want := first.get(t, "MESSAGE 1")
	if got := i.NextTransmit(); !bytes.Equal(got, want) {
		t.Fatalf("first initiation = %x, want %x", got, want)
	}
	if got := want[116:132]; !bytes.Equal(got, first.get(t, "mac1 of first")) {
		t.Errorf("mac1 = %x", got)
	}
	if got, want := hash([]byte(labelCookie), r.host.public[:]), first.get(t, "C.key"); !bytes.Equal(got[:], want) {
		t.Errorf("cookie key = %x, want %x", got, want)
	}
	cookie := [macSize]byte(first.get(t, "cookie (chosen)"))
	reply := sealCookie(nil, r.host.gate.seal, 1, first.get(t, "nonce"), cookie, want[116:132])
	if want := first.get(t, "MESSAGE 3"); !bytes.Equal(reply, want) {
		t.Errorf("cookie reply = %x, want %x", reply, want)
	}
	if _, err := i.HandleDatagram(first.get(t, "MESSAGE 3"), now); err != nil {
		t.Fatal(err)
	}
	if i.peer.cookie != cookie {
		t.Errorf("cookie = %x, want %x", i.peer.cookie, cookie)
	}
	checkHandshake(t, v, i, r, seen, now.Add(5250*time.Millisecond))
	if mac2 := mac(cookie[:], v.get(t, "MESSAGE 1")[:132]); !bytes.Equal(mac2[:], v.get(t, "I.mac2")) {
		t.Errorf("mac2 = %x", mac2)
	}
}

// checkHandshake has two sides make the handshake of a vector, each of them with
// the messages of the vector, and checks every value on the way.
func checkHandshake(t *testing.T, v vector, i, r *Session, seen netip.AddrPort, now time.Time) {
	t.Helper()
	for name, got := range derive(t, v) {
		if want := v.get(t, name); !bytes.Equal(got, want) {
			t.Errorf("%s = %x, want %x", name, got, want)
		}
	}
	initiation, response := v.get(t, "MESSAGE 1"), v.get(t, "MESSAGE 2")
	i.Initiate(now)
	if got := i.NextTransmit(); !bytes.Equal(got, initiation) {
		t.Fatalf("initiation = %x, want %x", got, initiation)
	}
	if got, want := i.peer.pending.chain[:], v.get(t, "I.ck3"); !bytes.Equal(got, want) {
		t.Errorf("ck3 of the initiator = %x, want %x", got, want)
	}
	if got, want := i.peer.pending.h[:], v.get(t, "I.h4"); !bytes.Equal(got, want) {
		t.Errorf("h4 of the initiator = %x, want %x", got, want)
	}
	if _, err := r.HandleDatagram(bytes.Clone(initiation), now); err != nil {
		t.Fatal(err)
	}
	if got, want := r.peer.newest.bytes(), v.get(t, "I.timestamp"); !bytes.Equal(got[:], want) {
		t.Errorf("timestamp = %x, want %x", got, want)
	}
	if got := r.NextTransmit(); !bytes.Equal(got, response) {
		t.Fatalf("response = %x, want %x", got, response)
	}
	if _, err := i.HandleDatagram(bytes.Clone(response), now); err != nil {
		t.Fatal(err)
	}
	if ev, _ := i.NextEvent(); ev != (Established{Assigned: seen, Initiator: true}) {
		t.Errorf("event %v, want address %v", ev, seen)
	}
	keepalive := v.get(t, "MESSAGE 4 keepalive, initiator->responder")
	if got := i.NextTransmit(); !bytes.Equal(got, keepalive) {
		t.Errorf("keepalive = %x, want %x", got, keepalive)
	}
	if payload, err := r.HandleDatagram(bytes.Clone(keepalive), now); err != nil || payload != nil {
		t.Errorf("keepalive gives %x, %v", payload, err)
	}
	if ev, _ := r.NextEvent(); ev != (Established{}) {
		t.Errorf("event of the responder %v", ev)
	}
}

// derive computes the values of a vector from its private keys, its timestamp
// and its sealed address alone.
func derive(t *testing.T, v vector) map[string][]byte {
	t.Helper()
	si, sr := v.private(t, "Si_priv"), v.private(t, "Sr_priv")
	ei, er := v.private(t, "Ei_priv"), v.private(t, "Er_priv")
	siPub, srPub, eiPub, erPub := si.PublicKey(), sr.PublicKey(), ei.PublicKey(), er.PublicKey()
	out := map[string][]byte{
		"Si_pub": siPub[:], "Sr_pub": srPub[:], "Ei_pub": eiPub[:], "Er_pub": erPub[:], "psk": noPSK[:],
		"I.ck0": initialChain[:], "I.h0": initialHash[:],
		"R.mac2": make([]byte, macSize),
	}
	put := func(name string, d digest) digest {
		out[name] = d[:]
		return d
	}
	var h host
	x := func(name string, private PrivateKey, public PublicKey) []byte {
		d, err := h.dh(private.ecdh(), public)
		if err != nil {
			t.Fatal(err)
		}
		put(name, d)
		return d[:]
	}
	h1 := put("I.h1", hash(initialHash[:], srPub[:]))
	h2 := put("I.h2", hash(h1[:], eiPub[:]))
	ck1 := put("I.ck1", kdf1(initialChain, eiPub[:]))
	ck2, kStatic := kdf2(ck1, x("I.es", ei, srPub))
	put("I.ck2", ck2)
	put("I.k_static", kStatic)
	encStatic := sealOnce(nil, kStatic, siPub[:], h2)
	out["I.encrypted_static"] = encStatic
	h3 := put("I.h3", hash(h2[:], encStatic))
	ck3, kTS := kdf2(ck2, x("I.ss", si, srPub))
	put("I.ck3", ck3)
	put("I.k_ts", kTS)
	encTS := sealOnce(nil, kTS, v.get(t, "I.timestamp"), h3)
	out["I.encrypted_timestamp"] = encTS
	h4 := put("I.h4", hash(h3[:], encTS))
	key := put("I.mac1_key", mac1Key(srPub))
	sum := mac(key[:], v.get(t, "MESSAGE 1")[:116])
	out["I.mac1"] = bytes.Clone(sum[:])

	h5 := put("R.h5", hash(h4[:], erPub[:]))
	ck4 := put("R.ck4", kdf1(ck3, erPub[:]))
	ck5 := put("R.ck5", kdf1(ck4, x("R.ee", er, eiPub)))
	ck6 := put("R.ck6", kdf1(ck5, x("R.se", er, siPub)))
	ck7, tau, kAddr := kdf3(ck6, noPSK[:])
	put("R.ck7", ck7)
	put("R.tau", tau)
	put("R.k_addr", kAddr)
	h6 := put("R.h6", hash(h5[:], tau[:]))
	out["R.encrypted_sockaddr"] = sealOnce(nil, kAddr, v.get(t, "R.sockaddr"), h6)
	key = put("R.mac1_key", mac1Key(siPub))
	sum = mac(key[:], v.get(t, "MESSAGE 2")[:80])
	out["R.mac1"] = sum[:]
	i2r, r2i := kdf2(ck7, nil)
	put("T.k_i2r", i2r)
	put("T.k_r2i", r2i)
	return out
}

// TestVectorsComplete fails if the file has a value that nothing here checks.
func TestVectorsComplete(t *testing.T) {
	a, _, b2, _ := readVectors(t)
	for _, v := range []vector{a, b2} {
		derived := derive(t, v)
		for name := range v {
			covered := strings.HasPrefix(name, "MESSAGE") || strings.HasSuffix(name, "_priv")
			for _, direct := range []string{"I.timestamp", "R.sockaddr", "SCION packet", "I.mac2"} {
				covered = covered || strings.HasPrefix(name, direct)
			}
			for d := range derived {
				covered = covered || strings.HasPrefix(name, d)
			}
			if !covered {
				t.Errorf("nothing checks %q", name)
			}
		}
	}
}

func TestVectorKeysOfPocketSCION(t *testing.T) {
	_, _, _, v := readVectors(t)
	for _, snap := range []string{"SNAP 0", "SNAP 1", "SNAP 2"} {
		got := v.private(t, snap+" static private").PublicKey()
		if want := v.get(t, snap+" static public"); !bytes.Equal(got[:], want) {
			t.Errorf("%s: public key %x, want %x", snap, got, want)
		}
	}
}

// TestVectorEdgeTun is the vector of spec/edgetun.md section 5, which has other
// indices.
func TestVectorEdgeTun(t *testing.T) {
	v, _, _, _ := readVectors(t)
	unhex := func(s string) []byte {
		b, err := hex.DecodeString(s)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	const (
		initiation = "0100000004030201883186b800b41d5cf0429695da9b3cc4f328ebcd184a6e482fa578c103f06c77fa6ff1a71203eaf305dc6260f1911ba7d914db25d127ce39ef62f6c6467fb8a777377a28376c744882e58802dabbe0882d2440df1433568f4f929ae1c8bc67d38e17cb17da09e7fc0cac3e6a89b0be1b5ae24b77faf83e9ffb8f8bec00000000000000000000000000000000"
		response   = "0200000001cdab00040302013a553d74792d727efa9b9a4cde3da1ad93f1a2d0c09cb639b1a3c0fda14cbe24743aa869e832310528ed1758605d32b5476f0698ac6a49b604d5a24712abdd8749f07293ae5de116f39434b6c62d7e27ed5459c100000000000000000000000000000000"
		frame      = "000000000000000000008000000000004500001400000000403b00000a0000020a000001"
		data       = "0400000001cdab00000000000000000016e2ff1c5057593baa38cd7c39e561509d08cbc976f138374df6e4337d01090fa1a625fc4d6b8ec573832dbb17783f6c78efaf8a"
	)
	seen := netip.MustParseAddrPort("203.0.113.5:50000")
	now := time.Unix(0x6500000a-37, 1)
	i, r := vectorPair(t, v, seen, now)
	i.host.rand = bytes.NewReader(v.get(t, "Ei_priv"))
	r.host.rand = bytes.NewReader(v.get(t, "Er_priv"))
	i.peer.base, i.peer.counter = 0x010203, 3
	r.peer.base, r.peer.counter = 0x00abcd, 0
	i.Initiate(now)
	if got := i.NextTransmit(); !bytes.Equal(got, unhex(initiation)) {
		t.Errorf("initiation = %x, want %s", got, initiation)
	}
	if _, err := r.HandleDatagram(unhex(initiation), now); err != nil {
		t.Fatal(err)
	}
	if got := r.NextTransmit(); !bytes.Equal(got, unhex(response)) {
		t.Errorf("response = %x, want %s", got, response)
	}
	if _, err := i.HandleDatagram(unhex(response), now); err != nil {
		t.Fatal(err)
	}
	// The vector sends its frame with counter 0, where we send an empty message.
	if got := i.peer.current.Seal(nil, 0, unhex(frame)); !bytes.Equal(got, unhex(data)) {
		t.Errorf("data message = %x, want %s", got, data)
	}
	payload, err := r.HandleDatagram(unhex(data), now)
	if err != nil || !bytes.Equal(payload, unhex(frame)) {
		t.Errorf("payload = %x, %v; want %s", payload, err, frame)
	}
}
