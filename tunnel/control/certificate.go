package control

import (
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"
)

// certificatePoll is how often the files of a certificate are looked at.
const certificatePoll = 5 * time.Second

// A certificate follows its two files while they change.
type certificate struct {
	certFile, keyFile string
	logger            *slog.Logger

	mu      sync.Mutex // guards what follows
	current *tls.Certificate
	stamp   [2]fileStamp // of the files when they were read last
	looked  time.Time
}

// A fileStamp changes when a file does.
type fileStamp struct {
	size     int64
	modified time.Time
}

func loadCertificate(certFile, keyFile string, logger *slog.Logger) (*certificate, error) {
	c := &certificate{certFile: certFile, keyFile: keyFile, logger: logger, looked: time.Now()}
	if certFile == "" || keyFile == "" {
		return nil, errors.New("TLS needs both a certificate and its key")
	}
	c.stamp = c.stamps()
	pair, err := tls.LoadX509KeyPair(certFile, keyFile)
	if err != nil {
		return nil, fmt.Errorf("TLS certificate %s with key %s: %w", certFile, keyFile, err)
	}
	c.current = &pair
	return c, nil
}

func (c *certificate) stamps() (s [2]fileStamp) {
	for i, name := range []string{c.certFile, c.keyFile} {
		if info, err := os.Stat(name); err == nil {
			s[i] = fileStamp{info.Size(), info.ModTime()}
		}
	}
	return s
}

// get returns the certificate of the moment. Files that do not fit together, as
// while they are being replaced, leave the old one in force.
func (c *certificate) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	if now.Sub(c.looked) < certificatePoll {
		return c.current, nil
	}
	c.looked = now
	stamp := c.stamps()
	if stamp == c.stamp {
		return c.current, nil
	}
	pair, err := tls.LoadX509KeyPair(c.certFile, c.keyFile)
	if err != nil {
		c.logger.Warn("TLS certificate not taken, the old one stays in force", "error", err)
	} else {
		c.current = &pair
		c.logger.Info("TLS certificate taken", "file", c.certFile)
	}
	c.stamp = stamp
	return c.current, nil
}
