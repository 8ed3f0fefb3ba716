package socks

import (
	"bufio"
	"cmp"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"slices"
	"time"

	socks5 "github.com/armon/go-socks5"
)

// DefaultHandshakeTimeout is the time a client has for its whole handshake.
const DefaultHandshakeTimeout = 10 * time.Second

const (
	version      = 5
	noAcceptable = 0xff // METHOD of RFC 1928 §3
)

// Errors of a handshake. All are wrapped; those of the connection are not
// among them.
var (
	ErrVersion     = errors.New("not SOCKS version 5")
	ErrMethod      = errors.New("no acceptable authentication method")
	ErrCredentials = errors.New("user name or password is wrong")
	ErrCommand     = errors.New("command not supported")
	ErrAddressType = errors.New("address type not supported")
	ErrAddress     = errors.New("malformed address")
)

// Config says how clients are received. The zero Config receives everybody.
type Config struct {
	// Users reports whether password is that of the user called name, in a
	// time that depends on neither, as [Users.Valid] does. If nil, clients are
	// not authenticated. Otherwise they must be: the method "no
	// authentication" is not offered, and empty names and passwords are
	// refused without asking.
	Users func(name, password string) bool

	// HandshakeTimeout is the time from the call of Accept to the end of the
	// client's request. If zero, it is DefaultHandshakeTimeout.
	HandshakeTimeout time.Duration

	// Logger is told, at Debug, of replies that could not be delivered. If nil,
	// nothing is logged.
	Logger *slog.Logger
}

// Accept receives a client: it reads the greeting, checks the credentials and
// reads the request. r reads from conn and may hold bytes already; if nil,
// Accept makes one. Accept owns conn: if it returns an error, it has answered
// the client as far as the protocol has an answer, and closed conn.
func Accept(conn net.Conn, r *bufio.Reader, cfg Config) (*Request, error) {
	if r == nil {
		r = bufio.NewReader(conn)
	}
	conn.SetDeadline(time.Now().Add(cmp.Or(cfg.HandshakeTimeout, DefaultHandshakeTimeout)))
	req, err := handshake(conn, r, cfg)
	if err != nil {
		hangUp(conn)
		return nil, fmt.Errorf("socks handshake: %w", err)
	}
	conn.SetDeadline(time.Time{})
	return req, nil
}

func handshake(conn net.Conn, r *bufio.Reader, cfg Config) (*Request, error) {
	auth, err := readGreeting(r, cfg.Users)
	if errors.Is(err, ErrMethod) {
		conn.Write([]byte{version, noAcceptable}) // err says more than a failure to tell
	}
	if err != nil {
		return nil, err
	}
	// The authenticator writes the method selection itself.
	identity, err := auth.Authenticate(r, conn)
	if errors.Is(err, socks5.UserAuthFailed) {
		return nil, ErrCredentials
	}
	if err != nil {
		return nil, fmt.Errorf("authenticate: %w", err)
	}
	req := &Request{User: identity.Payload["Username"], conn: conn, r: r, log: cfg.Logger}
	if err := req.read(); err != nil {
		var rejected rejection
		if errors.As(err, &rejected) {
			req.reply(rejected.reply, Addr{})
		}
		return nil, err
	}
	return req, nil
}

// readGreeting reads VER NMETHODS METHODS and picks the one authenticator that
// the configuration allows. The order of the client's methods does not matter.
func readGreeting(r *bufio.Reader, users func(name, password string) bool) (socks5.Authenticator, error) {
	var head [2]byte
	if _, err := io.ReadFull(r, head[:1]); err != nil {
		return nil, fmt.Errorf("read greeting: %w", err)
	}
	if head[0] != version {
		return nil, ErrVersion
	}
	if _, err := io.ReadFull(r, head[1:]); err != nil {
		return nil, fmt.Errorf("read greeting: %w", err)
	}
	methods := make([]byte, head[1])
	if _, err := io.ReadFull(r, methods); err != nil {
		return nil, fmt.Errorf("read methods: %w", err)
	}
	var auth socks5.Authenticator = socks5.NoAuthAuthenticator{}
	if users != nil {
		auth = socks5.UserPassAuthenticator{Credentials: credentials(users)}
	}
	if !slices.Contains(methods, auth.GetCode()) {
		return nil, ErrMethod
	}
	return auth, nil
}
