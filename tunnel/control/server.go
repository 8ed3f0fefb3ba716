package control

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"time"
)

// Limits of a Server.
const (
	// maxHeader is what net/http adds 4 KiB to.
	maxHeader       = 12 << 10
	maxBody         = 64 << 10
	maxStreams      = 32 // of one HTTP/2 connection
	defaultConns    = 1024
	defaultPerHost  = 64
	headerTimeout   = 5 * time.Second
	bodyTimeout     = 15 * time.Second
	requestTimeout  = 30 * time.Second
	answerTimeout   = 40 * time.Second
	idleTimeout     = 30 * time.Second
	shutdownTimeout = 2 * time.Second
)

// ServerConfig configures a Server.
type ServerConfig struct {
	// Listen is the TCP address; port 0 takes a free one.
	Listen netip.AddrPort
	// Handler answers the requests.
	Handler http.Handler
	// CertFile and KeyFile are PEM files for TLS, read again when they change.
	// If empty, the server speaks HTTP/1.1 and HTTP/2 in the clear.
	CertFile, KeyFile string
	// Insecure allows to speak in the clear off the loopback.
	Insecure bool
	// MaxConns bounds the connections, MaxConnsPerHost those of one IPv4
	// address or IPv6 /64 other than this machine's. If zero, they are 1,024
	// and 64.
	MaxConns, MaxConnsPerHost int
	// Logger receives what goes wrong. If nil, nothing is logged.
	Logger *slog.Logger
}

// A Server serves HTTP to strangers: headers of 16 KiB, bodies of 64 KiB, 30 s
// for a request, and so many connections.
type Server struct {
	cfg    ServerConfig
	logger *slog.Logger
	tcp    net.Listener
	http   *http.Server
	secure bool
}

// ErrInsecure is why a server does not speak in the clear to others.
var ErrInsecure = errors.New("tokens would go in the clear off this machine")

// NewServer binds the server's address. Run must be called, which closes it.
func NewServer(cfg ServerConfig) (*Server, error) {
	s := &Server{cfg: cfg, logger: orDiscard(cfg.Logger), secure: cfg.CertFile != "" || cfg.KeyFile != ""}
	if !s.secure && !cfg.Insecure && !cfg.Listen.Addr().Unmap().IsLoopback() {
		return nil, ErrInsecure
	}
	if s.cfg.MaxConns == 0 {
		s.cfg.MaxConns = defaultConns
	}
	if s.cfg.MaxConnsPerHost == 0 {
		s.cfg.MaxConnsPerHost = defaultPerHost
	}
	s.http = &http.Server{
		Handler:           bounded(cfg.Handler),
		MaxHeaderBytes:    maxHeader,
		ReadHeaderTimeout: headerTimeout,
		ReadTimeout:       bodyTimeout,
		WriteTimeout:      answerTimeout,
		IdleTimeout:       idleTimeout,
		HTTP2:             &http.HTTP2Config{MaxConcurrentStreams: maxStreams},
		Protocols:         new(http.Protocols),
		ErrorLog:          slog.NewLogLogger(s.logger.Handler(), slog.LevelDebug),
	}
	s.http.Protocols.SetHTTP1(true)
	if s.secure {
		cert, err := loadCertificate(cfg.CertFile, cfg.KeyFile, s.logger)
		if err != nil {
			return nil, err
		}
		s.http.TLSConfig = &tls.Config{GetCertificate: cert.get, MinVersion: tls.VersionTLS12}
		s.http.Protocols.SetHTTP2(true)
	} else {
		s.http.Protocols.SetUnencryptedHTTP2(true)
	}
	tcp, err := net.ListenTCP("tcp", net.TCPAddrFromAddrPort(cfg.Listen))
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", cfg.Listen, err)
	}
	s.tcp = newLimitedListener(tcp, s.cfg.MaxConns, s.cfg.MaxConnsPerHost)
	return s, nil
}

// Addr returns the address that the server listens on, with its real port.
func (s *Server) Addr() netip.AddrPort {
	a := s.tcp.Addr().(*net.TCPAddr).AddrPort()
	return netip.AddrPortFrom(a.Addr().Unmap(), a.Port())
}

// URL returns the URL of the server at host, which has a port.
func (s *Server) URL(host string) *url.URL {
	u := &url.URL{Scheme: "http", Host: host}
	if s.secure {
		u.Scheme = "https"
	}
	return u
}

// Close closes the address of a server whose Run was not called.
func (s *Server) Close() error { return s.tcp.Close() }

// Run serves until ctx ends, and lets requests that are being answered have 2 s
// more.
func (s *Server) Run(ctx context.Context) error {
	ended := make(chan error, 1)
	go func() {
		if s.secure {
			ended <- s.http.ServeTLS(s.tcp, "", "")
		} else {
			ended <- s.http.Serve(s.tcp)
		}
	}()
	select {
	case err := <-ended:
		s.http.Close()
		return fmt.Errorf("serve on %s: %w", s.Addr(), err)
	case <-ctx.Done():
	}
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownTimeout)
	defer cancel()
	if s.http.Shutdown(last) != nil {
		s.http.Close()
	}
	<-ended
	return nil
}

// bounded bounds the body and the time of requests.
func bounded(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), requestTimeout)
		defer cancel()
		r = r.WithContext(ctx)
		r.Body = http.MaxBytesReader(w, r.Body, maxBody)
		next.ServeHTTP(w, r)
	})
}
