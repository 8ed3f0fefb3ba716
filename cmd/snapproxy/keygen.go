package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/spf13/cobra"

	"github.com/snapproxy/snapproxy/tunnel/snaptun"
)

func newKeygen() *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use:   "keygen [-o FILE]",
		Short: "Make a private key",
		Long: `Make a private key. With -o it goes to a new file of mode 0600, which is never
overwritten, and the public key to standard output; without -o the private key
goes to standard output and the public key to standard error.`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			k, err := snaptun.NewPrivateKey()
			if err != nil {
				return err
			}
			if output == "" {
				fmt.Fprintln(cmd.ErrOrStderr(), k.PublicKey())
				_, err = fmt.Fprintln(cmd.OutOrStdout(), k.Base64())
				return err
			}
			if err := writeKey(output, k); err != nil {
				return &settingError{"--output", err}
			}
			_, err = fmt.Fprintln(cmd.OutOrStdout(), k.PublicKey())
			return err
		},
	}
	cmd.Flags().VarP(&value[string]{kind: "FILE", parse: parseText, to: &output}, "output", "o", "file to write the private key to")
	return cmd
}

// writeKey makes a file that did not exist, or none.
func writeKey(name string, k snaptun.PrivateKey) (err error) {
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
	if _, err = fmt.Fprintln(f, k.Base64()); err != nil {
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
