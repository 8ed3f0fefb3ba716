package snaptun

import (
	"encoding/binary"
	"time"
)

const stampSize = 12

// A stamp is a TAI64N timestamp as initiations carry it.
type stamp struct {
	sec  uint64
	nano uint32
}

// stampAt returns the time as SNAPtun writes it: TAI is 37 seconds ahead of UTC
// (wireguard-go counts 10).
func stampAt(now time.Time) stamp {
	return stamp{sec: 1<<62 + 37 + uint64(now.Unix()), nano: uint32(now.Nanosecond())}
}

func parseStamp(b []byte) stamp {
	return stamp{sec: binary.BigEndian.Uint64(b), nano: binary.BigEndian.Uint32(b[8:])}
}

func (s stamp) bytes() (b [stampSize]byte) {
	binary.BigEndian.PutUint64(b[:], s.sec)
	binary.BigEndian.PutUint32(b[8:], s.nano)
	return b
}

func (s stamp) before(t stamp) bool {
	return s.sec < t.sec || s.sec == t.sec && s.nano < t.nano
}

// next returns the smallest stamp behind s.
func (s stamp) next() stamp {
	if s.nano++; s.nano >= 1e9 {
		return stamp{sec: s.sec + 1}
	}
	return s
}

// minus returns s moved back by some seconds, or zero if that is before the start.
func (s stamp) minus(seconds uint64) stamp {
	if s.sec < seconds {
		return stamp{}
	}
	s.sec -= seconds
	return s
}
