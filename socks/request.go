package socks

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"time"

	socks5 "github.com/armon/go-socks5"
)

// A Command is what a client wants (RFC 1928 §4).
type Command uint8

// The commands that reach the caller. BIND and all others have been refused.
const (
	Connect   = Command(socks5.ConnectCommand)
	Associate = Command(socks5.AssociateCommand)
)

// String returns the name that RFC 1928 gives the command.
func (c Command) String() string {
	switch c {
	case Connect:
		return "CONNECT"
	case Associate:
		return "UDP ASSOCIATE"
	}
	return fmt.Sprintf("command %d", uint8(c))
}

// ErrGone is the cause of a request context that ended because the client went
// away.
var ErrGone = errors.New("client went away")

// replyTimeout bounds the writing of a reply to a client that does not read.
const replyTimeout = 10 * time.Second

// A Request is a client's wish. Exactly one of Accept and Refuse must be
// called. It is used by one goroutine at a time.
type Request struct {
	// Command is Connect or Associate.
	Command Command
	// Addr is the target of a Connect. For an Associate it is the address from
	// which the client says it will send datagrams, all zero if it does not say.
	Addr Addr
	// User is the name under which the client authenticated, empty if users are
	// not configured.
	User string

	conn  net.Conn
	r     *bufio.Reader
	log   *slog.Logger
	watch *watch
	ended error // what the watch found at the end of the client's stream
}

// Target returns the address of the target as HOST:PORT. The text of an IP
// address is in its shortest form.
func (r *Request) Target() string { return r.Addr.String() }

// Context returns a context derived from parent that also ends when the client
// goes away before Accept or Refuse is called: when its connection breaks, or
// ends before a byte of the stream was received. Its cause is then ErrGone. The
// dial belongs under it. The context outlives Accept; stop releases it.
func (r *Request) Context(parent context.Context) (ctx context.Context, stop context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(parent)
	r.unwatch()
	r.watch = startWatch(r.conn, r.r, func(error) { cancel(ErrGone) })
	return ctx, func() {
		r.unwatch()
		cancel(nil)
	}
}

func (r *Request) unwatch() {
	if r.watch != nil {
		r.ended = r.watch.stop()
		r.watch = nil
		r.conn.SetReadDeadline(time.Time{})
	}
}

// Accept tells the client that its wish is granted and returns the stream,
// which begins with the bytes received ahead. bound is the address of the
// proxy's side: of the connection to the target, which is information only and
// may be invalid, or of the socket that expects the datagrams of an Associate.
// The stream of an Associate carries nothing; its end is that of the
// association. If Accept returns an error, the client's connection is closed.
func (r *Request) Accept(bound netip.AddrPort) (net.Conn, error) {
	r.unwatch()
	addr := netip.AddrPortFrom(bound.Addr().Unmap().WithZone(""), bound.Port())
	if err := r.reply(replySucceeded, AddrOf(addr)); err != nil {
		r.conn.Close()
		return nil, err
	}
	return &stream{Conn: r.conn, r: r.r, ended: r.ended}, nil
}

// Refuse tells the client why its wish is not granted and closes its
// connection in a way that lets the reply arrive. The reply is chosen by
// errors.Is: EACCES (policy), ENETUNREACH, EHOSTUNREACH and names that are not
// found, ECONNREFUSED, timeouts, EAFNOSUPPORT; all else is a general failure.
// It returns the error of writing the reply.
func (r *Request) Refuse(err error) error {
	r.unwatch()
	code := replyOf(err)
	if code == replySucceeded {
		code = replyFailure
	}
	werr := r.reply(code, Addr{})
	hangUp(r.conn)
	return werr
}

func (r *Request) reply(code byte, bound Addr) error {
	r.conn.SetWriteDeadline(time.Now().Add(replyTimeout))
	_, err := r.conn.Write(bound.append([]byte{version, code, 0}))
	r.conn.SetWriteDeadline(time.Time{})
	if err != nil {
		if r.log != nil {
			r.log.Debug("reply not delivered", "reply", code, "error", err)
		}
		return fmt.Errorf("reply to socks request: %w", err)
	}
	return nil
}

// read reads and checks VER CMD RSV ATYP ADDR PORT.
func (r *Request) read() error {
	// The parser keeps its error for an unknown ATYP to itself.
	head, err := r.r.Peek(4)
	if err != nil {
		return fmt.Errorf("read request: %w", err)
	}
	command, atyp := Command(head[1]), head[3]
	known := command == Connect || command == Associate
	switch {
	case head[0] != version:
		return rejection{replyFailure, ErrVersion}
	case atyp != atypIPv4 && atyp != atypName && atyp != atypIPv6 && !known:
		return rejection{replyCommand, ErrCommand}
	case atyp != atypIPv4 && atyp != atypName && atyp != atypIPv6:
		return rejection{replyAddressType, ErrAddressType}
	}
	parsed, err := socks5.NewRequest(r.r)
	if err != nil {
		return fmt.Errorf("read request: %w", err)
	}
	if !known {
		return rejection{replyCommand, ErrCommand}
	}
	ip, _ := netip.AddrFromSlice(parsed.DestAddr.IP)
	r.Command = command
	r.Addr = Addr{Name: parsed.DestAddr.FQDN, IP: ip, Port: uint16(parsed.DestAddr.Port)}
	if err := r.Addr.check(); err != nil {
		return rejection{replyOf(err), err}
	}
	if r.Addr.Port == 0 && command == Connect {
		return rejection{replyFailure, fmt.Errorf("%w: port 0", ErrAddress)}
	}
	return nil
}
