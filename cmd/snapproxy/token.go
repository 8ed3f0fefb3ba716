package main

import (
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/snapproxy/snapproxy/tunnel/control"
)

// tokenOptions are the flags of snapproxy token.
type tokenOptions struct {
	signingKey string
	subject    string
	lifetime   time.Duration
	v0, jwks   bool
}

func newToken() *cobra.Command {
	var o tokenOptions
	cmd := &cobra.Command{
		Use:   "token --signing-key FILE --subject NAME [--expires 24h]",
		Short: "Make a token that admits somebody to a SNAP",
		Long: `Make a token that admits somebody to a SNAP which knows the public half of the
signing key, and print it. What identifies it goes to standard error: a line of
its id, or of "subject NAME" for all tokens of that name, in the SNAP's --revoked
file takes it back. A token serves one client at a time: hand out one to each.

With --jwks print the key set of the signing key instead, for a SNAP's --jwks.`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := require(cmd.Flags(), "signing-key"); err != nil {
				return err
			}
			logger := slog.New(slog.NewTextHandler(cmd.ErrOrStderr(), nil))
			key, err := o.readSigningKey(cmd, logger)
			if err != nil {
				return err
			}
			if o.jwks {
				_, err := fmt.Fprintf(cmd.OutOrStdout(), "%s\n", control.MarshalKeySet(key.Public().(ed25519.PublicKey)))
				return err
			}
			if err := require(cmd.Flags(), "subject"); err != nil {
				return err
			}
			return o.print(cmd, key, time.Now())
		},
	}
	o.add(cmd.Flags())
	return cmd
}

func (o *tokenOptions) add(fs *pflag.FlagSet) {
	addValue(fs, &o.signingKey, "signing-key", "FILE", "", "key that snapproxy keygen --token made (-: standard input)", parseText)
	addValue(fs, &o.subject, "subject", "NAME", "", "who gets the token", parseSubject)
	addValue(fs, &o.lifetime, "expires", "DURATION", "24h", "how long the token is good, such as 90m, 24h or 30d", parseLifetime)
	addAction(fs, &o.v0, "v0", "make a token of the old format")
	addAction(fs, &o.jwks, "jwks", "print the key set of the signing key, and no token")
}

// addAction defines a flag that chooses what a command does. It has no
// environment twin.
func addAction(fs *pflag.FlagSet, to *bool, name, usage string) {
	fs.BoolVar(to, name, false, usage)
	fs.SetAnnotation(name, isAction, []string{})
}

func (o *tokenOptions) readSigningKey(cmd *cobra.Command, logger *slog.Logger) (ed25519.PrivateKey, error) {
	var b []byte
	var err error
	if o.signingKey == standardInput {
		b, err = io.ReadAll(io.LimitReader(cmd.InOrStdin(), maxKeyFile))
	} else {
		b, err = readSecret(o.signingKey, logger)
	}
	setting := given(cmd.Flags().Lookup("signing-key"))
	if err != nil {
		return nil, &settingError{setting, err}
	}
	key, err := control.ParseSigningKey(b)
	if err != nil {
		return nil, &settingError{setting, err}
	}
	return key, nil
}

// print prints a token and says what identifies it.
func (o *tokenOptions) print(cmd *cobra.Command, key ed25519.PrivateKey, now time.Time) error {
	c := control.Claims{
		ID: control.NewTokenID(), Subject: control.SubjectOf(o.subject), Name: o.subject, Version: 1,
		IssuedAt: now, NotBefore: now, Expires: now.Add(o.lifetime),
	}
	if o.v0 {
		c.Version = 0
	}
	token, err := control.SignToken(key, c)
	if err != nil {
		return err
	}
	fmt.Fprintf(cmd.ErrOrStderr(), "id %s, subject %s (%s), expires %s\n", c.ID, o.subject, c.Subject, c.Expires.UTC().Format(time.RFC3339))
	_, err = fmt.Fprintln(cmd.OutOrStdout(), token)
	return err
}

func parseSubject(s string) (string, error) { return s, control.CheckSubject(s) }

const (
	minLifetime = time.Minute // shorter tokens are renewed before they are used
	maxLifetime = 10 * 365 * 24 * time.Hour
)

// parseLifetime reads a duration, in which d may stand for days.
func parseLifetime(s string) (time.Duration, error) {
	d, err := time.ParseDuration(s)
	if days, ok := strings.CutSuffix(s, "d"); ok {
		var n uint64
		if n, err = strconv.ParseUint(days, 10, 16); err == nil {
			d = time.Duration(n) * 24 * time.Hour
		}
	}
	switch {
	case err != nil:
		return 0, fmt.Errorf("%q is no duration (want 90m, 24h or 30d)", s)
	case d < minLifetime || d > maxLifetime:
		return 0, errors.New("want a duration from 1m to 3650d")
	}
	return d, nil
}
