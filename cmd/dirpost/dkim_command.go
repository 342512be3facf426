package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"text/tabwriter"
	"time"

	"dirpost/internal/envelope"
	"dirpost/internal/postgres"
	"dirpost/internal/seal"
	"dirpost/mta/dkim"

	"github.com/spf13/cobra"
)

// sealer opens and makes sealed secrets, with the key that the configuration
// refers to.
func (f *File) sealer() (*seal.Sealer, error) {
	if f.Server.SealingKey.String() == "" {
		return nil, errors.New("server.sealing_key: missing: 'openssl rand -base64 32' makes a key, 'file:/PATH' refers to it; all nodes need the same one")
	}
	text, err := f.Server.SealingKey.Resolve()
	if err != nil {
		return nil, fmt.Errorf("server.sealing_key: %w", err)
	}
	s, err := seal.New([]byte(text))
	if err != nil {
		return nil, fmt.Errorf("server.sealing_key: %w", err)
	}
	return s, nil
}

// withKeys opens the signing keys for one command.
func withKeys(ctx context.Context, path string, std streams, f func(context.Context, *dkim.Keys) error) error {
	file, err := readConfig(path)
	if err != nil {
		return err
	}
	sealer, err := file.sealer()
	if err != nil {
		return err
	}
	db, err := openDatabase(ctx, file, newLogger(file.Log, std.err))
	if err != nil {
		return err
	}
	defer db.Close()
	return f(ctx, dkim.New(db, sealer, db.Now))
}

// dkimCommand is `dirpost dkim`.
func dkimCommand(path *string, std streams) *cobra.Command {
	c := &cobra.Command{
		Use: "dkim", Short: "Make and show the keys that mail to outside is signed with",
		Long: `Mail that leaves is signed for the domain of its author, if that domain has a key.
Keys are rows in the database, sealed with server.sealing_key; all nodes use them.

Another key than the first is made with 'create', published, and put to use with
'activate' once the record is known everywhere.`,
	}
	c.AddCommand(dkimCreateCommand(path, std), dkimListCommand(path, std))
	for _, a := range []struct {
		use, short, done string
		do               func(*dkim.Keys, context.Context, string, string) error
	}{
		{"activate", "Sign with a key, instead of the one before", "signs from now on", (*dkim.Keys).Activate},
		{"retire", "Sign with a key no more", "signs no more; leave its record in DNS for a week", (*dkim.Keys).Retire},
	} {
		c.AddCommand(&cobra.Command{
			Use: a.use + " DOMAIN SELECTOR", Short: a.short, Args: cobra.ExactArgs(2),
			RunE: func(c *cobra.Command, args []string) error {
				domain, err := envelope.ParseDomain(args[0])
				if err != nil {
					return fmt.Errorf("%s: %w", args[0], err)
				}
				return withKeys(c.Context(), *path, std, func(ctx context.Context, k *dkim.Keys) error {
					if err := a.do(k, ctx, domain, args[1]); err != nil {
						return fmt.Errorf("%s of %s: %w", args[1], domain, err)
					}
					_, err := fmt.Fprintf(std.out, "%s of %s %s.\n", args[1], domain, a.done)
					return err
				})
			},
		})
	}
	return c
}

func dkimCreateCommand(path *string, std streams) *cobra.Command {
	var selector, algorithm string
	c := &cobra.Command{
		Use: "create DOMAIN", Short: "Make a key for a domain and print the record to publish", Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			domain, err := envelope.ParseDomain(args[0])
			if err != nil {
				return fmt.Errorf("%s: %w", args[0], err)
			}
			a := dkim.Algorithm(algorithm)
			if selector == "" {
				selector = dkim.DefaultSelector(a, time.Now())
			}
			return withKeys(c.Context(), *path, std, func(ctx context.Context, k *dkim.Keys) error {
				key, err := k.Create(ctx, domain, selector, a)
				if errors.Is(err, dkim.ErrExists) {
					return fmt.Errorf("%w: 'dirpost dkim list %s' shows it, --selector chooses another name", err, domain)
				}
				if err != nil {
					return err
				}
				fmt.Fprintln(std.out, key.ZoneLine())
				if key.Signs() {
					fmt.Fprintf(std.err, "Mail of %s is signed with it from now on. Publish the record.\n", domain)
				} else {
					fmt.Fprintf(std.err, "Publish the record; when it is known: dirpost dkim activate %s %s\n", domain, selector)
				}
				return nil
			})
		},
	}
	c.Flags().StringVar(&selector, "selector", "", "name of the key in DNS; made of the date if missing")
	c.Flags().StringVar(&algorithm, "algorithm", string(dkim.RSA), "rsa-sha256, or ed25519-sha256 beside it")
	return c
}

func dkimListCommand(path *string, std streams) *cobra.Command {
	asJSON := false
	c := &cobra.Command{
		Use: "list [DOMAIN]", Short: "List the keys", Args: cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			domain := ""
			if len(args) == 1 {
				var err error
				if domain, err = envelope.ParseDomain(args[0]); err != nil {
					return fmt.Errorf("%s: %w", args[0], err)
				}
			}
			return withKeys(c.Context(), *path, std, func(ctx context.Context, k *dkim.Keys) error {
				keys, err := k.List(ctx, domain)
				if err != nil {
					return err
				}
				return printKeys(keys, asJSON, std)
			})
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "one JSON object a line")
	return c
}

func printKeys(keys []dkim.Key, asJSON bool, std streams) error {
	if asJSON {
		enc := json.NewEncoder(std.out)
		for _, k := range keys {
			if err := enc.Encode(map[string]any{"domain": k.Domain, "selector": k.Selector, "algorithm": k.Algorithm, "signs": k.Signs(), "record": k.RecordName(), "text": k.RecordText()}); err != nil {
				return err
			}
		}
		return nil
	}
	if len(keys) == 0 {
		_, err := fmt.Fprintln(std.out, "There are no keys: 'dirpost dkim create DOMAIN' makes one.")
		return err
	}
	w := tabwriter.NewWriter(std.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "DOMAIN\tSELECTOR\tALGORITHM\tCREATED\tSTATE")
	for _, k := range keys {
		state := "waits for activation"
		switch {
		case k.Signs():
			state = "signs"
		case !k.Retired.IsZero():
			state = "retired"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", k.Domain, k.Selector, k.Algorithm, k.Created.UTC().Format(time.DateOnly), state)
	}
	return w.Flush()
}

// publicKeys lists keys without opening any: no sealing key is needed.
func publicKeys(ctx context.Context, db *postgres.DB, domain string) ([]dkim.Key, error) {
	return dkim.New(db, nil, db.Now).List(ctx, domain)
}
