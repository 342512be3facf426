package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"text/tabwriter"

	"dirpost/auth/selfservice"
	"dirpost/directory"
	"dirpost/internal/blob"
	"dirpost/internal/bus"
	"dirpost/internal/envelope"
	"dirpost/internal/postgres"
	"dirpost/internal/store"

	"github.com/spf13/cobra"
)

// mailboxCommand is `dirpost mailbox`.
func mailboxCommand(path *string, std streams) *cobra.Command {
	c := &cobra.Command{
		Use: "mailbox", Short: "Look at people's mailboxes, attach them to their owners, end sessions",
		Long: `An account, all mailboxes of a person, belongs to the key of a directory entry:
DIRECTORY:UUID, the entryUUID or objectGUID, and never to a name or an address.
An entry that was deleted and made again has a new key; 'attach' gives it the
mail of the old one.

PERSON is a login name, an address, or a key.`,
	}
	asJSON := false
	list := &cobra.Command{
		Use: "list PERSON", Short: "List the mailboxes of an account", Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			return withStore(c.Context(), *path, std, func(ctx context.Context, t *storeTools) error {
				key, err := t.key(ctx, args[0])
				if err != nil {
					return err
				}
				return listMailboxes(ctx, t.store, key, asJSON, std)
			})
		},
	}
	list.Flags().BoolVar(&asJSON, "json", false, "one JSON object a line")
	c.AddCommand(list, &cobra.Command{
		Use: "attach OLD-KEY PERSON", Short: "Give the account of a directory entry that is gone to another", Args: cobra.ExactArgs(2),
		RunE: func(c *cobra.Command, args []string) error {
			return withStore(c.Context(), *path, std, func(ctx context.Context, t *storeTools) error {
				key, err := t.key(ctx, args[1])
				if err != nil {
					return err
				}
				if err := t.store.AttachAccount(ctx, args[0], key); err != nil {
					return fmt.Errorf("attach %s to %s: %w", args[0], args[1], err)
				}
				_, err = fmt.Fprintf(std.out, "The mailboxes of %s belong to %s now.\n", args[0], args[1])
				return err
			})
		},
	}, &cobra.Command{
		Use: "logout PERSON", Short: "End the sessions of a person on all nodes", Args: cobra.ExactArgs(1),
		Long: `Logout ends what a person has open on any node, and makes the nodes forget a
password that they remember. Nobody is kept out by it: disable the entry in the
directory, or change its password, first.`,
		RunE: func(c *cobra.Command, args []string) error {
			return withStore(c.Context(), *path, std, func(ctx context.Context, t *storeTools) error {
				key, err := t.key(ctx, args[0])
				if err != nil {
					return err
				}
				if err := selfservice.EndSessions(ctx, t.db, directory.Key(key)); err != nil {
					return err
				}
				if err := bus.Send(ctx, t.db, bus.TopicKill, key); err != nil {
					return fmt.Errorf("tell the nodes: %w", err)
				}
				_, err = fmt.Fprintf(std.out, "The nodes were told to end the sessions of %s.\n", args[0])
				return err
			})
		},
	})
	return c
}

// storeTools are what the mailbox commands work with.
type storeTools struct {
	file  *File
	db    *postgres.DB
	store *store.Store
}

// key returns the key of a person: who is named by one, a login name or an
// address.
func (t *storeTools) key(ctx context.Context, person string) (string, error) {
	if name, _, ok := strings.Cut(person, ":"); ok && !strings.Contains(name, "@") {
		return person, nil
	}
	s, err := replicaOf(ctx, t.file, t.db)
	if err != nil {
		return "", err
	}
	e := s.ByLogin(person)
	if a, err := envelope.ParseAddress(person); e == nil && err == nil {
		e = s.ByAddress(a)
	}
	if e == nil {
		return "", fmt.Errorf("nobody in the directory has the login name or address %s, or more than one has; name the key, DIRECTORY:UUID", person)
	}
	return string(e.Key), nil
}

// withStore opens the message store for one command.
func withStore(ctx context.Context, path string, std streams, f func(context.Context, *storeTools) error) error {
	file, err := readConfig(path)
	if err != nil {
		return err
	}
	log := newLogger(file.Log, std.err)
	db, err := openDatabase(ctx, file, log)
	if err != nil {
		return err
	}
	defer db.Close()
	return f(ctx, &storeTools{file: file, db: db, store: store.New(db, blob.New(db), noHints{}, log)})
}

// noHints is for commands: sessions find out by polling.
type noHints struct{}

func (noHints) Changed(store.AccountID, store.MailboxID, store.ModSeq) {}

func listMailboxes(ctx context.Context, s *store.Store, key string, asJSON bool, std streams) error {
	account, err := s.LookupAccount(ctx, key)
	if errors.Is(err, store.ErrNotFound) {
		_, err := fmt.Fprintf(std.out, "%s has no mail yet: an account comes into being with the first message or login.\n", key)
		return err
	}
	if err != nil {
		return fmt.Errorf("account %s: %w", key, err)
	}
	all, err := s.Mailboxes(ctx, account.ID)
	if err != nil {
		return err
	}
	if asJSON {
		enc := json.NewEncoder(std.out)
		for _, m := range all {
			if err := enc.Encode(map[string]any{"mailbox": m.Name, "messages": m.Messages, "unseen": m.Unseen, "size": m.Bytes, "uidvalidity": m.UIDValidity, "uidnext": m.UIDNext}); err != nil {
				return err
			}
		}
		return nil
	}
	w := tabwriter.NewWriter(std.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "MAILBOX\tMESSAGES\tUNSEEN\tSIZE")
	for _, m := range all {
		fmt.Fprintf(w, "%s\t%d\t%d\t%s\n", m.Name, m.Messages, m.Unseen, octets(m.Bytes))
	}
	return w.Flush()
}
