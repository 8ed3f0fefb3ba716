package snapproxy

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os"
	"regexp"
	"strings"
	"sync/atomic"
	"time"

	"github.com/snapproxy/snapproxy/tunnel/snaptun"
)

// A KeySet is the content of a file of authorized keys, followed while it
// changes. A line is
//
//	PUBLIC-KEY [NAME]
//
// where NAME is of letters, digits and ._@-; a # begins a comment.
type KeySet struct {
	path   string
	logger *slog.Logger
	keys   atomic.Pointer[map[snaptun.PublicKey]string]
	reload chan struct{}
	seen   []byte      // content that the last poll read; owned by Run
	taken  []byte      // content that keys was made of, or that was refused; owned by Run
	state  os.FileInfo // of the file that seen was read of
	readAt time.Time   // when that was
}

const (
	// keySetPoll is how often a file of authorized keys is looked at. Polling
	// follows swapped links and mounted secrets, which file notifications do not.
	keySetPoll = 500 * time.Millisecond
	// keySetSettle is the age from which the time of a file tells whether it was
	// written since: some file systems count in units of two seconds.
	keySetSettle = 3 * time.Second
	// keySetReread is how often the file is read though it looks the same.
	keySetReread = time.Minute
)

// maxKeySetSize bounds what is read of a file of authorized keys.
const maxKeySetSize = 16 << 20

// LoadKeySet reads the file of authorized keys at path. A nil logger is
// silent.
func LoadKeySet(path string, logger *slog.Logger) (*KeySet, error) {
	s := &KeySet{path: path, logger: orDiscard(logger), reload: make(chan struct{}, 1)}
	b, err := s.read()
	if err != nil {
		return nil, err
	}
	keys, err := ParseAuthorizedKeys(b)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	s.keys.Store(&keys)
	s.seen, s.taken = b, b
	return s, nil
}

// Authorized reports whether key is in the set. It takes no lock. The time is
// not used: keys of a file do not expire.
func (s *KeySet) Authorized(key snaptun.PublicKey, _ time.Time) bool {
	_, ok := (*s.keys.Load())[key]
	return ok
}

// Name returns the name the file gives key, or "".
func (s *KeySet) Name(key snaptun.PublicKey) string { return (*s.keys.Load())[key] }

// Reload makes Run read the file at once.
func (s *KeySet) Reload() {
	select {
	case s.reload <- struct{}{}:
	default:
	}
}

// Run follows the file until ctx ends. New content is taken when two reads
// agree, so that a file is never taken while it is written; content with a bad
// line leaves the old set in force, with a warning.
func (s *KeySet) Run(ctx context.Context) error {
	ticker := time.NewTicker(keySetPoll)
	defer ticker.Stop()
	for {
		now := false
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		case <-s.reload:
			now = true
		}
		s.poll(now)
	}
}

func (s *KeySet) poll(now bool) {
	if !now && s.unchanged() {
		return
	}
	b, err := s.read()
	if err != nil {
		if now || s.seen != nil {
			s.logger.Warn("authorized keys not readable, the old ones stay in force", "error", err)
		}
		s.seen = nil
		return
	}
	if bytes.Equal(b, s.taken) {
		b = s.taken // one of the two is enough
	}
	settled := s.seen != nil && bytes.Equal(b, s.seen)
	s.seen = b
	if !now && (!settled || bytes.Equal(b, s.taken)) {
		return
	}
	s.taken = b
	keys, err := ParseAuthorizedKeys(b)
	if err != nil {
		s.logger.Warn("authorized keys refused, the old ones stay in force", "file", s.path, "error", err)
		return
	}
	s.keys.Store(&keys)
	s.logger.Info("authorized keys taken", "file", s.path, "keys", len(keys))
}

// unchanged reports whether the file is the one that was read and taken, as far
// as can be told without reading it.
func (s *KeySet) unchanged() bool {
	if s.seen == nil || s.state == nil || !bytes.Equal(s.seen, s.taken) || time.Since(s.readAt) >= keySetReread {
		return false
	}
	info, err := os.Stat(s.path)
	return err == nil && os.SameFile(info, s.state) && info.Size() == s.state.Size() &&
		info.ModTime().Equal(s.state.ModTime()) && s.readAt.Sub(info.ModTime()) >= keySetSettle
}

func (s *KeySet) read() ([]byte, error) {
	s.readAt = time.Now()
	info, err := os.Stat(s.path)
	if err != nil {
		return nil, err
	}
	if info.Size() > maxKeySetSize {
		return nil, fmt.Errorf("%s: larger than %d bytes", s.path, maxKeySetSize)
	}
	s.state = info
	b, err := os.ReadFile(s.path)
	if b == nil {
		b = []byte{}
	}
	return b, err
}

var keyName = regexp.MustCompile(`^[A-Za-z0-9._@-]+$`)

// ParseAuthorizedKeys reads the content of a file of authorized keys and
// returns each key's name. The first bad line is an error that names it.
func ParseAuthorizedKeys(b []byte) (map[snaptun.PublicKey]string, error) {
	keys := make(map[snaptun.PublicKey]string)
	sc := bufio.NewScanner(bytes.NewReader(b))
	for n := 1; sc.Scan(); n++ {
		line, _, _ := strings.Cut(sc.Text(), "#")
		fields := strings.Fields(line)
		if len(fields) == 0 {
			continue
		}
		key, name, err := parseAuthorizedKey(fields)
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", n, err)
		}
		if _, twice := keys[key]; twice {
			return nil, fmt.Errorf("line %d: key %s stands twice", n, key)
		}
		keys[key] = name
	}
	if err := sc.Err(); err != nil {
		return nil, err
	}
	return keys, nil
}

func parseAuthorizedKey(fields []string) (key snaptun.PublicKey, name string, err error) {
	key, err = snaptun.ParsePublicKey(fields[0])
	if err != nil {
		return key, "", fmt.Errorf("public key: %w", err)
	}
	if len(fields) > 1 {
		name = fields[1]
		if !keyName.MatchString(name) {
			return key, "", fmt.Errorf("name %q (want letters, digits and ._@-)", name)
		}
	}
	if len(fields) > 2 {
		return key, "", fmt.Errorf("option %q: no options are known", fields[2])
	}
	return key, name, nil
}

func orDiscard(l *slog.Logger) *slog.Logger {
	if l == nil {
		return slog.New(slog.DiscardHandler)
	}
	return l
}
