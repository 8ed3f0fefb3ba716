package endhost

import (
	"errors"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protowire"
)

// The few messages of these services are read and written field by field, so
// that a message is refused before it is unfolded in memory: two bytes of it
// can become hundreds.

var (
	errWireType = errors.New("malformed message: a field has another type")
	errNumber   = errors.New("malformed message: a field number is too large")
	errNotText  = errors.New("malformed message: a string is not UTF-8")
	errTooMany  = errors.New("malformed message: too many elements")
)

// A field is one field of a protobuf message.
type field struct {
	num    protowire.Number
	typ    protowire.Type
	number uint64 // of a varint
	bytes  []byte // of a field with a length; lent
}

// eachField calls f with the fields of a message, those of other wire types
// than varints and bytes left out.
func eachField(b []byte, f func(field) error) error {
	for len(b) > 0 {
		num, typ, n := protowire.ConsumeTag(b)
		if n < 0 {
			return malformed(n)
		}
		if num > protowire.MaxValidNumber {
			return errNumber
		}
		b = b[n:]
		v := field{num: num, typ: typ}
		switch typ {
		case protowire.VarintType:
			v.number, n = protowire.ConsumeVarint(b)
		case protowire.BytesType:
			v.bytes, n = protowire.ConsumeBytes(b)
		default:
			n = protowire.ConsumeFieldValue(num, typ, b)
		}
		if n < 0 {
			return malformed(n)
		}
		b = b[n:]
		if err := f(v); err != nil {
			return err
		}
	}
	return nil
}

func malformed(n int) error {
	return errors.New("malformed message: " + protowire.ParseError(n).Error())
}

func (f field) uint64() (uint64, error) {
	if f.typ != protowire.VarintType {
		return 0, errWireType
	}
	return f.number, nil
}

func (f field) message() ([]byte, error) {
	if f.typ != protowire.BytesType {
		return nil, errWireType
	}
	return f.bytes, nil
}

func (f field) text() (string, error) {
	b, err := f.message()
	if err == nil && !utf8.Valid(b) {
		err = errNotText
	}
	return string(b), err
}

// appendNumbers appends the numbers of a repeated field, packed or not, to dst,
// up to most of them in all.
func (f field) appendNumbers(dst []uint64, most int) ([]uint64, error) {
	if f.typ == protowire.VarintType {
		dst = append(dst, f.number)
	} else if f.typ != protowire.BytesType {
		return dst, errWireType
	}
	for b := f.bytes; len(b) > 0; {
		v, n := protowire.ConsumeVarint(b)
		if n < 0 {
			return dst, malformed(n)
		}
		if len(dst) >= most {
			return dst, errTooMany
		}
		dst, b = append(dst, v), b[n:]
	}
	if len(dst) > most {
		return dst, errTooMany
	}
	return dst, nil
}

func appendNumber(b []byte, num protowire.Number, v uint64) []byte {
	if v == 0 {
		return b
	}
	return protowire.AppendVarint(protowire.AppendTag(b, num, protowire.VarintType), v)
}

// appendMessage appends a field with a length, an empty one too.
func appendMessage(b []byte, num protowire.Number, v []byte) []byte {
	return protowire.AppendBytes(protowire.AppendTag(b, num, protowire.BytesType), v)
}

func appendBytes(b []byte, num protowire.Number, v []byte) []byte {
	if len(v) == 0 {
		return b
	}
	return appendMessage(b, num, v)
}

func appendText(b []byte, num protowire.Number, s string) []byte {
	return appendBytes(b, num, []byte(s))
}

// appendPacked appends a repeated field of numbers.
func appendPacked[T ~uint16 | ~uint64](b []byte, num protowire.Number, vs []T) []byte {
	if len(vs) == 0 {
		return b
	}
	var packed []byte
	for _, v := range vs {
		packed = protowire.AppendVarint(packed, uint64(v))
	}
	return appendMessage(b, num, packed)
}
