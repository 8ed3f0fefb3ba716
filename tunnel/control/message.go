package control

import (
	"errors"
	"fmt"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/snapproxy/snapproxy/tunnel/snaptun"
)

// The service and its methods, as they stand in the path of the URL.
const (
	servicePath     = "/anapaya.snap.v1.SnapControl/"
	methodDataPlane = servicePath + "GetSnapDataPlaneAddress"
	methodRegister  = servicePath + "RegisterSnapTunIdentity"
)

// pskShareSize is the size of the psk_share in both directions. It is reserved
// and all zero, but must be there.
const pskShareSize = 32

// maxText bounds the strings of a message.
const maxText = 2048

// dataPlaneAnswer is a GetSnapDataPlaneAddressResponse.
//
//	1 string         address, ip:port
//	2 optional string control plane to register at, a URL or ip:port
//	3 optional bytes  static public key, 32 bytes
type dataPlaneAnswer struct {
	addr, control string
	key           []byte // nil: absent
}

func (m dataPlaneAnswer) append(b []byte) []byte {
	b = appendBytes(b, 1, []byte(m.addr))
	if m.control != "" {
		b = appendBytes(b, 2, []byte(m.control))
	}
	if m.key != nil {
		b = appendBytes(b, 3, m.key)
	}
	return b
}

func parseDataPlaneAnswer(b []byte) (m dataPlaneAnswer, err error) {
	err = eachField(b, func(num protowire.Number, v []byte) error {
		switch num {
		case 1:
			m.addr, err = text(v)
		case 2:
			m.control, err = text(v)
		case 3:
			m.key = append([]byte{}, v...)
		}
		return err
	})
	return m, err
}

// registration is a RegisterSnapTunIdentityRequest.
//
//	1 bytes static public key, 32 bytes
//	2 bytes psk_share, 32 bytes
type registration struct {
	key, pskShare []byte
}

func newRegistration(key snaptun.PublicKey) registration {
	return registration{key[:], make([]byte, pskShareSize)}
}

func (m registration) append(b []byte) []byte {
	return appendBytes(appendBytes(b, 1, m.key), 2, m.pskShare)
}

func parseRegistration(b []byte) (m registration, err error) {
	err = eachField(b, func(num protowire.Number, v []byte) error {
		switch num {
		case 1:
			m.key = v
		case 2:
			m.pskShare = v
		}
		return nil
	})
	return m, err
}

// identity returns the key of a registration that is complete.
func (m registration) identity() (key snaptun.PublicKey, err error) {
	if len(m.key) != len(key) {
		return key, fmt.Errorf("initiator identity has %d bytes, not 32", len(m.key))
	}
	if len(m.pskShare) != pskShareSize {
		return key, fmt.Errorf("psk share has %d bytes, not 32", len(m.pskShare))
	}
	copy(key[:], m.key)
	if key.IsZero() {
		return key, errors.New("initiator identity is all zero")
	}
	return key, nil
}

// registered is a RegisterSnapTunIdentityResponse.
//
//	1 bytes psk_share, 32 bytes
type registered struct{ pskShare []byte }

func (m registered) append(b []byte) []byte { return appendBytes(b, 1, m.pskShare) }

func parseRegistered(b []byte) (m registered, err error) {
	err = eachField(b, func(num protowire.Number, v []byte) error {
		if num == 1 {
			m.pskShare = v
		}
		return nil
	})
	return m, err
}

// parseEmpty checks that b is a message at all.
func parseEmpty(b []byte) error {
	return eachField(b, func(protowire.Number, []byte) error { return nil })
}

func appendBytes(b []byte, num protowire.Number, v []byte) []byte {
	b = protowire.AppendTag(b, num, protowire.BytesType)
	return protowire.AppendBytes(b, v)
}

var errMessage = errors.New("not the message it should be")

// eachField calls f for the fields of length-delimited type, lending it their
// bytes. Fields of other types are skipped, but must be well-formed: the known
// ones have this type only.
func eachField(b []byte, f func(num protowire.Number, v []byte) error) error {
	for len(b) > 0 {
		num, typ, n := protowire.ConsumeTag(b)
		if n < 0 {
			return errMessage
		}
		b = b[n:]
		if typ == protowire.BytesType {
			v, n := protowire.ConsumeBytes(b)
			if n < 0 {
				return errMessage
			}
			if err := f(num, v); err != nil {
				return err
			}
			b = b[n:]
			continue
		}
		if n = protowire.ConsumeFieldValue(num, typ, b); n < 0 {
			return errMessage
		}
		b = b[n:]
	}
	return nil
}

func text(v []byte) (string, error) {
	if len(v) > maxText {
		return "", fmt.Errorf("a string of %d bytes", len(v))
	}
	return string(v), nil
}
