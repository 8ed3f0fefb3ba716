package tunnel

import (
	"net"
	"strconv"
	"sync"
)

// Zones of link-local addresses. The others have none, so this is seldom asked;
// it is remembered because it may be asked for every packet.
var zones struct {
	mu      sync.Mutex // guards what follows
	names   map[uint32]string
	indexes map[string]uint32
}

const maxZones = 256

// zoneName returns the name of an interface, or its index in decimal.
func zoneName(index uint32) string {
	zones.mu.Lock()
	defer zones.mu.Unlock()
	if name, ok := zones.names[index]; ok {
		return name
	}
	name := strconv.FormatUint(uint64(index), 10)
	if i, err := net.InterfaceByIndex(int(index)); err == nil {
		name = i.Name
	}
	if zones.names == nil || len(zones.names) >= maxZones {
		zones.names = make(map[uint32]string)
	}
	zones.names[index] = name
	return name
}

// zoneIndex returns the index of the interface that a zone names, 0 if there is
// none.
func zoneIndex(zone string) uint32 {
	if zone == "" {
		return 0
	}
	zones.mu.Lock()
	defer zones.mu.Unlock()
	if index, ok := zones.indexes[zone]; ok {
		return index
	}
	index, err := strconv.ParseUint(zone, 10, 32)
	if err != nil {
		if i, err := net.InterfaceByName(zone); err == nil {
			index = uint64(i.Index)
		}
	}
	if zones.indexes == nil || len(zones.indexes) >= maxZones {
		zones.indexes = make(map[string]uint32)
	}
	zones.indexes[zone] = uint32(index)
	return uint32(index)
}
