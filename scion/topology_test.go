package scion

import (
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"
)

const topologyText = `{
 "timestamp_human": "ignored", "isd_as": "1-ff00:0:111", "mtu": 1472, "attributes": ["core", "voting"],
 "dispatched_ports": "1024-65535",
 "control_service": {"cs-2": {"addr": "[fd00::2]:30252"}, "cs-1": {"addr": "127.111.0.2:30252"}},
 "discovery_service": {"cs-1": {"addr": "127.111.0.2:30252"}},
 "border_routers": {
  "br-2": {"internal_addr": "127.111.0.4:30001", "interfaces": {
   "100": {"underlay": {"local": "127.200.3.1:50000", "remote": "127.200.3.2:50000"},
    "isd_as": "1-ff00:0:112", "link_to": "PEER", "mtu": 1472, "remote_interface_id": 100}}},
  "br-1": {"internal_addr": "[::ffff:127.111.0.1]:30001", "interfaces": {
   "200": {"isd_as": "1-64", "link_to": "child"},
   "41": {"isd_as": "1-ff00:0:110", "link_to": "parent", "mtu": 1280}}}},
 "sigs": {"sig-1": {"ctrl_addr": "127.111.0.4:30256"}}
}`

func TestParseTopology(t *testing.T) {
	got, err := ParseTopology([]byte(topologyText))
	if err != nil {
		t.Fatal(err)
	}
	want := &Topology{
		IA: 0x1_ff00_0000_0111, Core: true, MTU: 1472, MinPort: 1024, MaxPort: 65535,
		Routers: []Router{
			{"br-1", netip.MustParseAddrPort("127.111.0.1:30001"), []RouterInterface{
				{ID: 41, Neighbor: 0x1_ff00_0000_0110, LinkTo: "parent", MTU: 1280},
				{ID: 200, Neighbor: 0x1_0000_0000_0040, LinkTo: "child"},
			}},
			{"br-2", netip.MustParseAddrPort("127.111.0.4:30001"), []RouterInterface{
				{ID: 100, Neighbor: 0x1_ff00_0000_0112, LinkTo: "peer", MTU: 1472},
			}},
		},
		ControlServices: []netip.AddrPort{netip.MustParseAddrPort("127.111.0.2:30252"), netip.MustParseAddrPort("[fd00::2]:30252")},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	table := got.RouterTable()
	for id, want := range map[uint16]string{41: "127.111.0.1:30001", 200: "127.111.0.1:30001", 100: "127.111.0.4:30001"} {
		if a, ok := table.Owner(id); !ok || a.String() != want || !table.Has(a) {
			t.Errorf("interface %d is owned by %v, %v, want %s", id, a, ok, want)
		}
	}
	if a, ok := table.Owner(42); ok {
		t.Errorf("interface 42 is owned by %v", a)
	}
	if table.Has(netip.MustParseAddrPort("127.111.0.1:30002")) {
		t.Error("another port of a router's host counts as the router")
	}
	if addrs := table.Addrs(); len(addrs) != 2 || !slices.IsSortedFunc(addrs, netip.AddrPort.Compare) {
		t.Errorf("addresses %v, want both in order, each once", addrs)
	}
}

// A bad file is told apart by one line that says where it is bad.
func TestParseTopologySaysWhatIsWrong(t *testing.T) {
	router := func(text string) string { return `{"isd_as": "1-ff00:0:111", "border_routers": {` + text + `}}` }
	link := func(text string) string {
		return router(`"br": {"internal_addr": "10.0.0.1:30001", "interfaces": {` + text + `}}`)
	}
	for _, tt := range []struct{ text, want string }{
		{"", `line 1: not JSON: unexpected end of JSON input`},
		{"<html>", `line 1: not JSON: invalid character '<' looking for beginning of value`},
		{"{\n\n\"isd_as\": }", `line 3: not JSON: invalid character '}' looking for beginning of value`},
		{`[]`, `line 1: a JSON array where an object belongs`},
		{`null`, `isd_as: there is none (is it a topology.json?)`},
		{`{}`, `isd_as: there is none (is it a topology.json?)`},
		{`{"isd_as": 7}`, `line 1: "isd_as": a JSON number has no place there`},
		{`{"isd_as": "ff00:0:110"}`, `isd_as: "ff00:0:110": no hyphen between ISD and AS`},
		{`{"isd_as": "1-0"}`, `isd_as: "1-0": ISD-AS is a wildcard`},
		{`{"isd_as": "1-1", "mtu": -1}`, `mtu: -1 is not a number of bytes up to 65535`},
		{`{"isd_as": "1-1", "dispatched_ports": "1024"}`, `dispatched_ports: "1024" is not a range of ports like 31000-32767`},
		{`{"isd_as": "1-1", "dispatched_ports": "2-1"}`, `dispatched_ports: "2-1" is not a range of ports like 31000-32767`},
		{`{"isd_as": "1-1", "dispatched_ports": "0-65536"}`, `dispatched_ports: "0-65536" is not a range of ports like 31000-32767`},
		{`{"isd_as": "1-1", "control_service": {"cs": {}}}`, `control service "cs": it has no addr`},
		{`{"isd_as": "1-1", "control_service": {"cs": {"addr": "cs.example:30252"}}}`, `control service "cs": addr: "cs.example:30252" is not IP:PORT`},
		{router(`"br": null`), `border router "br": it has no internal_addr`},
		{router(`"br": {"interfaces": {}}`), `border router "br": it has no internal_addr`},
		{router(`"br": {"internal_addr": "10.0.0.1"}`), `border router "br": internal_addr: "10.0.0.1" is not IP:PORT`},
		{router(`"br": {"internal_addr": "0.0.0.0:30001"}`), `border router "br": internal_addr: "0.0.0.0:30001": packets cannot be sent there`},
		{router(`"br": {"internal_addr": "10.0.0.1:0"}`), `border router "br": internal_addr: "10.0.0.1:0": packets cannot be sent there`},
		{router(`"a\nb": {"internal_addr": ""}`), `border router "a\nb": it has no internal_addr`},
		{link(`"0": {"isd_as": "1-2", "link_to": "core"}`), `border router "br": interface "0": it is not a number from 1 to 65535`},
		{link(`"70000": {"isd_as": "1-2", "link_to": "core"}`), `border router "br": interface "70000": it is not a number from 1 to 65535`},
		{link(`"1": null`), `border router "br": interface 1: it has no isd_as`},
		{link(`"1": {"link_to": "core"}`), `border router "br": interface 1: it has no isd_as`},
		{link(`"1": {"isd_as": "2"}`), `border router "br": interface 1: isd_as: "2": no hyphen between ISD and AS`},
		{link(`"1": {"isd_as": "1-ff00:0:111", "link_to": "core"}`), `border router "br": interface 1: isd_as: it is the AS itself`},
		{link(`"1": {"isd_as": "1-2", "link_to": "friend"}`), `border router "br": interface 1: link_to: "friend" is none of core, parent, child, peer`},
		{link(`"1": {"isd_as": "1-2", "link_to": "core", "mtu": 99999}`), `border router "br": interface 1: mtu: 99999 is not a number of bytes up to 65535`},
		{router(`"a": {"internal_addr": "10.0.0.1:1", "interfaces": {"7": {"isd_as": "1-2", "link_to": "core"}}},
			"b": {"internal_addr": "10.0.0.2:1", "interfaces": {"7": {"isd_as": "1-2", "link_to": "core"}}}`),
			`border router "b": interface 7 is also one of border router "a"`},
	} {
		_, err := ParseTopology([]byte(tt.text))
		if err == nil || err.Error() != "read topology: "+tt.want {
			t.Errorf("%s:\ngot  %v\nwant read topology: %s", tt.text, err, tt.want)
		}
	}
	if _, err := ParseTopology(make([]byte, maxTopologyBytes+1)); err == nil || !strings.Contains(err.Error(), "larger than") {
		t.Errorf("of a file that is too large: %v", err)
	}
}

func TestNewRoutersRefusesWhatCannotBeSentTo(t *testing.T) {
	for _, tt := range []struct {
		id   uint16
		addr string
	}{{0, "10.0.0.1:1"}, {1, "10.0.0.1:0"}, {1, "0.0.0.0:1"}, {1, "[::]:1"}, {1, "224.0.0.1:1"}, {1, "255.255.255.255:1"}} {
		if _, err := NewRouters(map[uint16]netip.AddrPort{tt.id: netip.MustParseAddrPort(tt.addr)}); err == nil {
			t.Errorf("interface %d of %s was taken", tt.id, tt.addr)
		}
	}
	if _, err := NewRouters(map[uint16]netip.AddrPort{1: {}}); err == nil {
		t.Error("the zero address was taken")
	}
	var none *Routers
	if _, ok := none.Owner(1); ok || none.Has(netip.AddrPort{}) || len(none.Addrs()) != 0 {
		t.Error("the nil table is not empty")
	}
}

func FuzzParseTopology(f *testing.F) {
	f.Add([]byte(topologyText))
	f.Add([]byte(`{"isd_as": "1-1", "border_routers": {"a": {"internal_addr": "10.0.0.1:1"}}}`))
	f.Add([]byte(`{"isd_as": "1-1", "control_service": {"\u0000": {"addr": ""}}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		topology, err := ParseTopology(b)
		if err != nil {
			if strings.ContainsAny(err.Error(), "\n\r") {
				t.Errorf("the error is more than one line: %q", err)
			}
			return
		}
		if topology.IA.IsWildcard() {
			t.Errorf("AS %s", topology.IA)
		}
		table := topology.RouterTable()
		for _, r := range topology.Routers {
			for _, i := range r.Interfaces {
				if a, ok := table.Owner(i.ID); !ok || a != r.Internal || i.Neighbor == topology.IA {
					t.Errorf("interface %d of %s is owned by %v, %v", i.ID, r.Internal, a, ok)
				}
			}
		}
		for _, a := range append(table.Addrs(), topology.ControlServices...) {
			if checkRouter(a) != nil {
				t.Errorf("nobody can send to %s", a)
			}
		}
	})
}
