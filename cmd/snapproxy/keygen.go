package main

import (
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/spf13/cobra"

	"github.com/snapproxy/snapproxy/tunnel/control"
	"github.com/snapproxy/snapproxy/tunnel/snaptun"
)

func newKeygen() *cobra.Command {
	var output string
	var token bool
	cmd := &cobra.Command{
		Use:   "keygen [-o FILE] [--token [FILE]]",
		Short: "Make a private key",
		Long: `Make a private key. With -o it goes to a new file of mode 0600, which is never
overwritten, and the public key to standard output; without -o the private key
goes to standard output and the public key to standard error.

With --token it is a key to sign tokens with (see snapproxy token), in PEM; the
public key is what a SNAP takes as --token-key.`,
		Args: func(cmd *cobra.Command, args []string) error {
			if !token {
				return noArgs(cmd, args)
			}
			if len(args) > 1 || len(args) == 1 && output != "" {
				return noArgs(cmd, args[len(args)-1:])
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 1 {
				output = args[0]
			}
			private, public, err := newKeyPair(token)
			if err != nil {
				return err
			}
			if output == "" {
				fmt.Fprint(cmd.ErrOrStderr(), public)
				_, err = fmt.Fprint(cmd.OutOrStdout(), private)
				return err
			}
			if err := writeKey(output, private); err != nil {
				return &settingError{"--output", err}
			}
			_, err = fmt.Fprint(cmd.OutOrStdout(), public)
			return err
		},
	}
	cmd.Flags().VarP(&value[string]{kind: "FILE", parse: parseText, to: &output}, "output", "o", "file to write the private key to")
	addAction(cmd.Flags(), &token, "token", "make a key to sign tokens with")
	return cmd
}

// newKeyPair draws a key pair and returns the text of both halves: of a tunnel,
// or of somebody who signs tokens.
func newKeyPair(token bool) (private, public string, err error) {
	if token {
		k, err := control.NewSigningKey()
		if err != nil {
			return "", "", err
		}
		return string(control.MarshalSigningKey(k)), string(control.MarshalVerifyKey(k.Public().(ed25519.PublicKey))), nil
	}
	k, err := snaptun.NewPrivateKey()
	if err != nil {
		return "", "", err
	}
	return k.Base64() + "\n", k.PublicKey().String() + "\n", nil
}

// writeKey makes a file that did not exist, or none.
func writeKey(name, text string) (err error) {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%s exists, and keys are not overwritten (choose another name)", name)
	} else if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			os.Remove(name)
		}
	}()
	if _, err = f.WriteString(text); err != nil {
		f.Close()
		return err
	}
	return f.Close()
}

func newPubkey() *cobra.Command {
	return &cobra.Command{
		Use:   "pubkey < FILE",
		Short: "Print the public key of the private key on standard input",
		Args:  noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			b, err := io.ReadAll(io.LimitReader(cmd.InOrStdin(), maxKeyFile))
			if err != nil {
				return err
			}
			k, err := parsePrivateKey("standard input", b)
			if err != nil {
				return err
			}
			_, err = fmt.Fprintln(cmd.OutOrStdout(), k.PublicKey())
			return err
		},
	}
}
