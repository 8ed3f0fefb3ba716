package control

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func wantToken(t *testing.T, s *TokenSource, want string) {
	t.Helper()
	if got, err := s.Token(t.Context()); err != nil || got != want {
		t.Fatalf("token %.20q, %v; want %.20q", got, err, want)
	}
}

func wantNoToken(t *testing.T, s *TokenSource, secret string, want ...string) {
	t.Helper()
	got, err := s.Token(t.Context())
	if err == nil {
		t.Fatalf("token %.20q, want an error", got)
	}
	for _, w := range want {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("says %q, want %q", err, w)
		}
	}
	if secret != "" && strings.Contains(err.Error(), secret) || strings.Contains(err.Error(), "\n") {
		t.Errorf("says %q", err)
	}
}

func TestStaticToken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		token := freshToken(t, "id", time.Hour)
		s := StaticToken("--token", token+"\n")
		wantToken(t, s, token)
		if got := s.Expires(); !got.Equal(time.Now().Add(time.Hour)) {
			t.Errorf("expires %v", got)
		}
		if got := s.Next(); !got.Equal(s.Expires().Add(-usableFor)) {
			t.Errorf("next is %v", got)
		}
		s.Refused(token)
		wantToken(t, s, token)
		time.Sleep(time.Hour - usableFor)
		wantNoToken(t, s, token, "--token: token has expired or is about to, at 2000-01-01T01:00:00Z (if this machine's clock is right)")
		time.Sleep(time.Hour)
		wantNoToken(t, s, token, "at 2000-01-01T01:00:00Z")
	})
}

func TestTokensOfOthersMayBeOpaque(t *testing.T) {
	s := StaticToken("--token", "open-sesame")
	wantToken(t, s, "open-sesame")
	if !s.Expires().IsZero() {
		t.Error("it expires")
	}
}

func TestWhatIsNoToken(t *testing.T) {
	for text, want := range map[string]string{
		"":                              "--token: no token, it is empty",
		" \n":                           "--token: no token, it is empty",
		"open sesame":                   "--token: no token (want one word of printable ASCII)",
		"open\x00sesame":                "--token: no token",
		"sésame":                        "--token: no token",
		strings.Repeat("x", maxToken+1): "--token: no token, it has more than 8192 bytes",
	} {
		wantNoToken(t, StaticToken("--token", text), strings.TrimSpace(text), want)
	}
}

func TestTokenFileIsFollowed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		name := filepath.Join(t.TempDir(), "token")
		write := func(text string) {
			t.Helper()
			if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		s := FileToken(name)
		wantNoToken(t, s, "", "token file "+name+": ")
		write("first\n")
		time.Sleep(filePoll)
		wantToken(t, s, "first")
		write("second")
		time.Sleep(filePoll)
		wantToken(t, s, "second")
		write("") // while it is being written
		time.Sleep(filePoll)
		wantToken(t, s, "second")
		if err := s.Err(); err == nil || !strings.Contains(err.Error(), "it is empty") {
			t.Errorf("Err = %v", err)
		}
		write(freshToken(t, "old", -time.Minute))
		time.Sleep(filePoll)
		wantToken(t, s, "second")
		third := freshToken(t, "id", time.Hour)
		write(third)
		time.Sleep(filePoll)
		wantToken(t, s, third)
		if s.Err() != nil {
			t.Errorf("Err = %v", s.Err())
		}
		time.Sleep(time.Hour)
		wantNoToken(t, s, third, "token file "+name+": token has expired")
	})
}

func TestCommandRunsAheadOfTheExpiry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		runs := 0
		s := CommandToken("--token-command", func(context.Context) (string, error) {
			runs++
			return freshToken(t, "id", 10*time.Minute), nil
		})
		first, err := s.Token(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(9*time.Minute - time.Second)
		wantToken(t, s, first)
		if got := time.Until(s.Next()); got != time.Second {
			t.Errorf("next in %v", got)
		}
		time.Sleep(time.Second)
		if second, err := s.Token(t.Context()); err != nil || second == first || runs != 2 {
			t.Errorf("after a refresh: %v, %d runs", err, runs)
		}
	})
}

func TestCommandThatFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		runs := 0
		var fail error
		s := CommandToken("--token-command", func(context.Context) (string, error) {
			if runs++; fail != nil {
				return "", fail
			}
			return freshToken(t, "id", 10*time.Minute), nil
		})
		first, err := s.Token(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		fail = errors.New("exit status 7")
		time.Sleep(9 * time.Minute)
		wantToken(t, s, first) // it is still good
		if s.Err() == nil {
			t.Error("Err is nil")
		}
		time.Sleep(50 * time.Second)
		wantNoToken(t, s, first, "--token-command: exit status 7")
		before := runs
		for range 300 {
			time.Sleep(time.Second)
			s.Token(t.Context())
		}
		if n := runs - before; n < 4 || n > 8 {
			t.Errorf("%d runs in 5 minutes of failure", n)
		}
		fail = nil
		time.Sleep(maxPause)
		if _, err := s.Token(t.Context()); err != nil {
			t.Errorf("after all: %v", err)
		}
	})
}

func TestRefusedTokenIsReplaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		runs := 0
		s := CommandToken("--token-command", func(context.Context) (string, error) {
			runs++
			return freshToken(t, NewTokenID(), time.Hour), nil
		})
		first, err := s.Token(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		s.Refused("another")
		time.Sleep(commandPause)
		wantToken(t, s, first)
		s.Refused(first)
		if second, err := s.Token(t.Context()); err != nil || second == first || runs != 2 {
			t.Errorf("%v, %d runs", err, runs)
		}
	})
}

func TestManyWaitForOneCommand(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		runs := 0
		s := CommandToken("--token-command", func(context.Context) (string, error) {
			runs++
			time.Sleep(20 * time.Second)
			return "opaque", nil
		})
		errs := make(chan error)
		for range 3 {
			go func() {
				_, err := s.Token(t.Context())
				errs <- err
			}()
		}
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := s.Token(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("who cannot wait gets %v", err)
		}
		// The command goes on for the others.
		for range 3 {
			if err := <-errs; err != nil {
				t.Error(err)
			}
		}
		if runs != 1 {
			t.Errorf("%d runs", runs)
		}
		time.Sleep(unknownLife)
		wantToken(t, s, "opaque")
		time.Sleep(20 * time.Second)
		if wantToken(t, s, "opaque"); runs != 2 {
			t.Errorf("%d runs of a command whose token does not say when it expires", runs)
		}
	})
}

func TestOldTokenWillDoWhileTheNewOneIsSlow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		first := freshToken(t, "first", 10*time.Minute)
		next := first
		s := CommandToken("--token-command", func(context.Context) (string, error) {
			time.Sleep(20 * time.Second)
			return next, nil
		})
		wantToken(t, s, first)
		next = freshToken(t, "second", time.Hour)
		time.Sleep(9 * time.Minute)
		began := time.Now()
		if wantToken(t, s, first); time.Since(began) != oldPatience {
			t.Errorf("waited %v", time.Since(began))
		}
		time.Sleep(20 * time.Second)
		wantToken(t, s, next)
	})
}

func TestClosedSourceReadsNoMore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := CommandToken("--token-command", func(ctx context.Context) (string, error) {
			<-ctx.Done()
			return "", ctx.Err()
		})
		s.Close()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := s.Token(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		began := time.Now()
		if s.Close(); time.Since(began) != 0 {
			t.Errorf("took %v", time.Since(began))
		}
		wantNoToken(t, s, "", "--token-command: context canceled")
		time.Sleep(time.Minute)
		began = time.Now()
		wantNoToken(t, s, "", "--token-command: context deadline exceeded")
		if time.Since(began) != readLimit {
			t.Errorf("a read took %v", time.Since(began))
		}
	})
}
