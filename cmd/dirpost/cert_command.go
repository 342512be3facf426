package main

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"text/tabwriter"
	"time"

	"dirpost/internal/acme"
	"dirpost/internal/postgres"

	"github.com/spf13/cobra"
)

// certCommand is `dirpost cert`.
func certCommand(path *string, std streams) *cobra.Command {
	c := &cobra.Command{
		Use: "cert", Short: "Certificates: those of an authority with ACME, and requests to one without",
		Long: `With [acme] in the configuration nodes get certificates and renew them by
themselves; list says how that goes. For an authority without ACME csr writes a
request that it signs; tls.certificate then names the key and what came back.`,
	}
	c.AddCommand(certListCommand(path, std), certRenewCommand(path, std), certCSRCommand(path, std))
	return c
}

// withDatabase opens the database of the configuration for one command.
func withDatabase(ctx context.Context, path string, std streams, f func(context.Context, *File, *postgres.DB) error) error {
	file, err := readConfig(path)
	if err != nil {
		return err
	}
	db, err := openDatabase(ctx, file, newLogger(file.Log, std.err))
	if err != nil {
		return err
	}
	defer db.Close()
	return f(ctx, file, db)
}

func certListCommand(path *string, std streams) *cobra.Command {
	asJSON := false
	c := &cobra.Command{
		Use: "list", Short: "Show the certificates that were issued, and why others were not", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			return withDatabase(c.Context(), *path, std, func(ctx context.Context, _ *File, db *postgres.DB) error {
				all, err := acme.States(ctx, db)
				if err != nil {
					return err
				}
				if asJSON {
					e := json.NewEncoder(std.out)
					for _, s := range all {
						if err := e.Encode(s); err != nil {
							return err
						}
					}
					return nil
				}
				t := tabwriter.NewWriter(std.out, 0, 0, 2, ' ', 0)
				fmt.Fprintln(t, "NAME\tEXPIRES\tNEXT\tPROBLEM")
				for _, s := range all {
					expires := "none yet"
					if !s.Expires.IsZero() {
						expires = s.Expires.UTC().Format(time.DateTime)
					}
					problem := ""
					if s.Failures > 0 {
						problem = fmt.Sprintf("%d times: %s", s.Failures, s.Problem)
					}
					fmt.Fprintf(t, "%s\t%s\t%s\t%s\n", s.Name, expires, s.Next.UTC().Format(time.DateTime), problem)
				}
				return t.Flush()
			})
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "one JSON object a line")
	return c
}

func certRenewCommand(path *string, std streams) *cobra.Command {
	return &cobra.Command{
		Use: "renew [NAME]", Short: "Have a node ask for a certificate now, or for all", Args: cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			name := ""
			if len(args) > 0 {
				name = args[0]
			}
			return withDatabase(c.Context(), *path, std, func(ctx context.Context, _ *File, db *postgres.DB) error {
				n, err := acme.Renew(ctx, db, name)
				if err != nil {
					return err
				}
				if n == 0 {
					return errors.New("there is no such certificate: 'dirpost cert list' shows those that there are")
				}
				fmt.Fprintf(std.out, "%d asked for within a minute, by one of the nodes; 'dirpost cert list' shows what came of it\n", n)
				return nil
			})
		},
	}
}

func certCSRCommand(path *string, std streams) *cobra.Command {
	var keyFile, organisation string
	c := &cobra.Command{
		Use: "csr [NAME...]", Short: "Write a request for the company's authority, and the key if there is none",
		Long: `Csr writes a certificate signing request (PKCS #10) for the names, without any for
server.name, to standard output. The key is that of --key, which is made if it does
not exist; keep it where it is, and put what the authority returns beside it.`,
		RunE: func(_ *cobra.Command, names []string) error {
			if len(names) == 0 {
				file, err := readConfig(*path)
				if err != nil {
					return fmt.Errorf("without a name it is server.name: %w", err)
				}
				names = []string{file.Server.Name}
			}
			key, made, err := keyOf(keyFile)
			if err != nil {
				return err
			}
			subject := pkix.Name{CommonName: names[0]}
			if organisation != "" {
				subject.Organization = []string{organisation}
			}
			der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: subject, DNSNames: names}, key)
			if err != nil {
				return fmt.Errorf("request: %w", err)
			}
			if made {
				fmt.Fprintf(std.err, "key made: %s\n", keyFile)
			}
			return pem.Encode(std.out, &pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})
		},
	}
	c.Flags().StringVar(&keyFile, "key", "/etc/dirpost/tls/key.pem", "file of the key")
	c.Flags().StringVar(&organisation, "organisation", "", "name of the company, if its authority wants it")
	return c
}

// keyOf reads a private key, or makes one (ECDSA P-256) that only its owner can read.
func keyOf(path string) (key crypto.Signer, made bool, err error) {
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			return nil, false, err
		}
		der, err := x509.MarshalPKCS8PrivateKey(key)
		if err != nil {
			return nil, false, err
		}
		f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
		if err != nil {
			return nil, false, fmt.Errorf("key: %w: make the directory first, or name another file by --key", err)
		}
		err = errors.Join(pem.Encode(f, &pem.Block{Type: "PRIVATE KEY", Bytes: der}), f.Close())
		return key, true, err
	}
	if err != nil {
		return nil, false, fmt.Errorf("key: %w", err)
	}
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, false, fmt.Errorf("key %s: is no PEM", path)
	}
	var parsed any
	switch block.Type {
	case "EC PRIVATE KEY":
		parsed, err = x509.ParseECPrivateKey(block.Bytes)
	case "RSA PRIVATE KEY":
		parsed, err = x509.ParsePKCS1PrivateKey(block.Bytes)
	default:
		parsed, err = x509.ParsePKCS8PrivateKey(block.Bytes)
	}
	if err != nil {
		return nil, false, fmt.Errorf("key %s: cannot be read", path) // the error may quote the key
	}
	signer, ok := parsed.(crypto.Signer)
	if !ok {
		return nil, false, fmt.Errorf("key %s: does not sign", path)
	}
	return signer, false, nil
}
