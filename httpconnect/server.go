package httpconnect

import (
	"bufio"
	"cmp"
	"context"
	"log/slog"
	"net"
	"net/http"
	"time"
)

// Default times and limits of a client's connection.
const (
	DefaultHeaderTimeout = 10 * time.Second
	DefaultIdleTimeout   = 2 * time.Minute

	// MaxHeaderLen is the length of the longest request line and header
	// together that is accepted, in bytes.
	MaxHeaderLen = 16 << 10
)

// Config says how clients are received and their requests are served.
type Config struct {
	// Users reports whether password is that of the user called name, in a
	// time that depends on neither. If nil, clients are not authenticated.
	// Otherwise every request must have credentials, and empty names and
	// passwords are refused without asking.
	Users func(name, password string) bool

	// Connect serves a CONNECT: it dials the target under ctx, answers with
	// Accept or Refuse, relays, and returns when all is over. ctx is that of
	// ServeConn, and also ends, with ErrGone as its cause, if the client goes
	// away before it is answered: when its connection breaks, or ends before a
	// byte of the stream was received. If nil, CONNECT is refused.
	Connect func(ctx context.Context, r *Request)

	// Dial connects to the target of a request in absolute-form. It limits its
	// own time. [UserOf] tells for whom. If nil, these requests are refused.
	Dial func(ctx context.Context, network, addr string) (net.Conn, error)

	// Relay copies between a client and a target that have agreed on another
	// protocol by Upgrade, until both directions have ended or ctx has. It
	// closes both. If nil, no upgrade is passed on.
	Relay func(ctx context.Context, client, target net.Conn)

	// HeaderTimeout is the time a client has for the header of a request. If
	// zero, it is DefaultHeaderTimeout.
	HeaderTimeout time.Duration

	// IdleTimeout is how long connections to clients and to targets are kept
	// while no request is under way. If zero, it is DefaultIdleTimeout.
	IdleTimeout time.Duration

	// Logger is told of each request at Debug. If nil, nothing is logged.
	Logger *slog.Logger
}

// A Server serves clients of an HTTP proxy. It is safe for concurrent use.
type Server struct {
	cfg Config
}

// NewServer returns a server. It starts nothing.
func NewServer(cfg Config) *Server {
	cfg.HeaderTimeout = cmp.Or(cfg.HeaderTimeout, DefaultHeaderTimeout)
	cfg.IdleTimeout = cmp.Or(cfg.IdleTimeout, DefaultIdleTimeout)
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	return &Server{cfg: cfg}
}

// ServeConn serves the requests of one client until it goes away, stays idle
// for too long, or ctx ends. It closes conn. Connections to targets are kept
// for this client only, and there for each user apart.
func (s *Server) ServeConn(ctx context.Context, conn net.Conn) {
	s.ServeConnBefore(ctx, conn, time.Now().Add(s.cfg.HeaderTimeout))
}

// ServeConnBefore is ServeConn for a client that has been waited for already:
// its first header must be there before deadline.
func (s *Server) ServeConnBefore(ctx context.Context, conn net.Conn, deadline time.Time) {
	conn.SetDeadline(deadline)
	c := &client{
		cfg:  &s.cfg,
		conn: conn,
		r:    bufio.NewReaderSize(conn, MaxHeaderLen),
		w:    bufio.NewWriterSize(conn, 4<<10),
	}
	defer c.leavePool()
	// Whatever waits for the client then fails. The connection is not closed
	// here: a response that is cut short must end in a reset.
	c.release = context.AfterFunc(ctx, func() { conn.SetDeadline(past) })
	defer c.release()
	c.serve(ctx)
}

// A client is one connection of a client.
type client struct {
	cfg     *Config
	conn    net.Conn
	r       *bufio.Reader
	w       *bufio.Writer
	release func() bool // the connection no longer ends with the context of ServeConn

	pool     *http.Transport // idle connections to targets, nil until needed
	poolUser string          // whose they are
}

// What becomes of the connection after a request.
type outcome int

const (
	keep   outcome = iota // the next request may follow
	leave                 // answered; to be closed when the answer has arrived
	broken                // cut short; to be reset
	taken                 // somebody else has closed it
)

func (c *client) serve(ctx context.Context) {
	after := c.serveRequest(ctx, true)
	for after == keep {
		after = c.serveRequest(ctx, false)
	}
	switch after {
	case leave:
		hangUp(c.conn)
	case broken:
		reset(c.conn)
	}
}

func (c *client) serveRequest(ctx context.Context, first bool) outcome {
	req, err := c.readRequest(ctx, first)
	if err != nil {
		return c.refuse(nil, err)
	}
	if req == nil {
		return leave // nobody asks for anything any more
	}
	t, err := targetOf(req)
	if err != nil {
		return c.refuse(req, err)
	}
	user, err := c.authenticate(req.Header)
	if err != nil {
		return c.refuse(req, err)
	}
	switch {
	case req.Method == http.MethodConnect:
		return c.connect(ctx, req, t, user)
	case req.RequestURI == "*":
		return c.answerOptions(req)
	}
	return c.forward(ctx, req, t, user)
}
