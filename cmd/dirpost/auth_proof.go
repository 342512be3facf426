package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"dirpost/auth/certificate"
	"dirpost/auth/oauth"
	"dirpost/directory"
	"dirpost/internal/postgres"

	"github.com/spf13/cobra"
)

// authTokenCommand is `dirpost auth token`.
func authTokenCommand(path *string, std streams) *cobra.Command {
	return &cobra.Command{
		Use: "token", Short: "Judge an access token, and say whose it is",
		Long: `Token reads one access token from the first line of the input, has it judged as a
node does, and says why it does not count, or whose it is. Nothing is logged, and
nobody is logged in. The exit status is 0 for a token that counts.`,
		Example: "  dirpost auth token < token.txt",
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			return withReplica(c.Context(), *path, std, func(ctx context.Context, file *File, db *postgres.DB) error {
				return judgeToken(ctx, file, db, std)
			})
		},
	}
}

// maxProof bounds what is read of a token or a certificate, in octets.
const maxProof = 64 << 10

func judgeToken(ctx context.Context, file *File, db *postgres.DB, std streams) error {
	v, err := file.tokens()
	if err != nil {
		return err
	}
	if v == nil {
		return errors.New("there is no issuer: see [[auth.oauth]] and docs/oauth.md")
	}
	line, err := bufio.NewReader(io.LimitReader(std.in, maxProof)).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("read the token: %w", err)
	}
	live, err := replicaLive(ctx, file, db)
	if err != nil {
		return err
	}
	w := proofWriter{tabwriter.NewWriter(std.out, 0, 0, 2, ' ', 0)}
	token, err := v.Verify(ctx, strings.TrimSpace(line))
	var no *oauth.Refusal
	switch {
	case errors.As(err, &no):
		return w.refused("token", no)
	case err != nil:
		return w.refused("issuer", err)
	}
	w.ok("token", "of %s, subject %s", token.Issuer, token.Subject)
	if !token.Expires.IsZero() {
		w.ok("expires", "%s", token.Expires.UTC().Format(time.RFC3339))
	}
	e := token.Person(live.Snapshot())
	if e == nil {
		return w.refused("person", fmt.Errorf("%q names nobody, or nobody in the directories of the issuer", token.Name))
	}
	return w.person(e, fmt.Sprintf("%q", token.Name))
}

// authCertificateCommand is `dirpost auth certificate`.
func authCertificateCommand(path *string, std streams) *cobra.Command {
	return &cobra.Command{
		Use: "certificate FILE", Short: "Judge a client certificate, and say whose it is",
		Long: `Certificate reads a client certificate, and authorities behind it, from a PEM file,
has it judged as a node does, and says why it does not count, or whose it is and how
that was found. Revocation lists and responders are asked. The exit status is 0 for a
certificate that opens a mailbox.`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			return withReplica(c.Context(), *path, std, func(ctx context.Context, file *File, db *postgres.DB) error {
				return judgeCertificate(ctx, file, db, args[0], std)
			})
		},
	}
}

func judgeCertificate(ctx context.Context, file *File, db *postgres.DB, name string, std streams) error {
	c, on := file.clientCertificates()
	if !on {
		return errors.New("client certificates are off: see [auth.certificates] and docs/client-certificates.md")
	}
	m, err := certificate.New(c)
	if err != nil {
		return fmt.Errorf("auth.certificates: %w", err)
	}
	state, err := shownBy(name)
	if err != nil {
		return err
	}
	live, err := replicaLive(ctx, file, db)
	if err != nil {
		return err
	}
	w := proofWriter{tabwriter.NewWriter(std.out, 0, 0, 2, ' ', 0)}
	cert, err := m.Verify(state)
	if err != nil {
		return w.refused("certificate", err)
	}
	w.ok("certificate", "%s, until %s", cert.Subject(), cert.Leaf.NotAfter.UTC().Format(time.RFC3339))
	if err := m.Revoked(ctx, cert); err != nil {
		return w.refused("revocation", err)
	}
	w.ok("revocation", "%s", revocationWord(c))
	e, by, err := m.Person(live.Snapshot(), cert)
	if err != nil {
		return w.refused("person", err)
	}
	return w.person(e, by)
}

// shownBy is what a server would see of a client with the certificates of a file.
func shownBy(name string) (*tls.ConnectionState, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxProof))
	if err != nil {
		return nil, err
	}
	state := &tls.ConnectionState{}
	for {
		var block *pem.Block
		if block, b = pem.Decode(b); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			continue
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		state.PeerCertificates = append(state.PeerCertificates, c)
	}
	if len(state.PeerCertificates) == 0 {
		return nil, fmt.Errorf("%s: no certificate in it: want PEM", name)
	}
	return state, nil
}

// proofWriter writes what was found out about a proof.
type proofWriter struct{ *tabwriter.Writer }

func (w proofWriter) ok(what, format string, args ...any) {
	fmt.Fprintf(w, "ok\t%s\t%s\n", what, fmt.Sprintf(format, args...))
}

// refused ends the list with what is not right.
func (w proofWriter) refused(what string, err error) error {
	fmt.Fprintf(w, "NO\t%s\t%s\n", what, strings.ReplaceAll(err.Error(), "\n", " "))
	if err := w.Flush(); err != nil {
		return err
	}
	return exitCode(1)
}

// person ends it with whose the proof is, and how that was found.
func (w proofWriter) person(e *directory.Entry, by string) error {
	w.ok("person", "%s by %s (%s); 'dirpost auth test' walks through the rest", e.Primary, by, e.Key)
	return w.Flush()
}
