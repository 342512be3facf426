package main

import (
	"context"
	"fmt"
	"text/tabwriter"
	"time"

	"dirpost/auth/factor"
	"dirpost/auth/notice"
	"dirpost/auth/selfservice"
	"dirpost/directory"

	"github.com/spf13/cobra"
)

// secondFactorCommand is `dirpost auth second-factor`.
func secondFactorCommand(path *string, std streams) *cobra.Command {
	c := &cobra.Command{
		Use: "second-factor", Short: "Look at the second factors of people, and reset them",
		Long: `People enrol second factors on the self-service page: an authenticator app, security
keys, passkeys. Who has lost all of them and the recovery codes asks for a reset:
make sure that it is that person who asks.

PERSON is a login name, an address, or a key.`,
	}
	c.AddCommand(&cobra.Command{
		Use: "list PERSON", Short: "List the second factors of a person", Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			return withFactors(c.Context(), *path, std, args[0], func(ctx context.Context, s *factor.Store, _ *storeTools, key directory.Key) error {
				return listFactors(ctx, s, key, std)
			})
		},
	}, &cobra.Command{
		Use: "reset PERSON", Short: "Take away all second factors of a person", Args: cobra.ExactArgs(1),
		Long: `Reset takes away all second factors and recovery codes of a person, ends the sessions
on the self-service page, and tells the person by mail. From then on the password is
enough there, until a new factor is enrolled.`,
		RunE: func(c *cobra.Command, args []string) error {
			return withFactors(c.Context(), *path, std, args[0], func(ctx context.Context, s *factor.Store, t *storeTools, key directory.Key) error {
				return resetFactors(ctx, s, t, key, std)
			})
		},
	})
	return c
}

// withFactors opens what a command about the factors of a person needs.
func withFactors(ctx context.Context, path string, std streams, person string, f func(context.Context, *factor.Store, *storeTools, directory.Key) error) error {
	return withStore(ctx, path, std, func(ctx context.Context, t *storeTools) error {
		key, err := t.key(ctx, person)
		if err != nil {
			return err
		}
		return f(ctx, factor.New(t.db, nil), t, directory.Key(key))
	})
}

func listFactors(ctx context.Context, s *factor.Store, key directory.Key, std streams) error {
	all, err := s.List(ctx, key)
	if err != nil {
		return err
	}
	left, err := s.RecoveryLeft(ctx, key)
	if err != nil {
		return err
	}
	w := tabwriter.NewWriter(std.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "KIND\tNAME\tSINCE\tLAST USED")
	for _, f := range all {
		used := "never"
		if !f.Used.IsZero() {
			used = f.Used.UTC().Format(time.RFC3339)
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", f.Kind, f.Name, f.Created.UTC().Format(time.RFC3339), used)
	}
	fmt.Fprintf(w, "%d recovery codes\n", left)
	return w.Flush()
}

func resetFactors(ctx context.Context, s *factor.Store, t *storeTools, key directory.Key, std streams) error {
	n, err := s.Reset(ctx, key)
	if err != nil {
		return err
	}
	if n == 0 {
		_, err := fmt.Fprintf(std.out, "%s had no second factor.\n", key)
		return err
	}
	if err := selfservice.EndSessions(ctx, t.db, key); err != nil {
		return err
	}
	if err := notice.New(t.db, newLogger(t.file.Log, std.err)).Add(ctx, key, notice.FactorRemoved, "all of them, by an administrator"); err != nil {
		return err
	}
	_, err = fmt.Fprintf(std.out, "%d second factors of %s were taken away.\n", n, key)
	return err
}
