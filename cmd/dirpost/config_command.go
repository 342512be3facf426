package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"dirpost/directory/ldap"
)

// configCommand is `dirpost config`.
func configCommand(path *string, std streams) *cobra.Command {
	c := &cobra.Command{Use: "config", Short: "Show and check the configuration"}
	c.AddCommand(
		&cobra.Command{
			Use: "example", Short: "Print a configuration with every key explained", Args: cobra.NoArgs,
			RunE: func(*cobra.Command, []string) error {
				_, err := fmt.Fprint(std.out, exampleTOML)
				return err
			},
		},
		configCheckCommand(path, std),
	)
	return c
}

// configCheckCommand is `dirpost config check`.
func configCheckCommand(path *string, std streams) *cobra.Command {
	offline := false
	c := &cobra.Command{
		Use: "check", Short: "Check the configuration file, and say what is wrong",
		Long: `Check reads the file, the secrets and the certificates it refers to, asks the
database and the directories whether they are what it says, and names all that is
wrong, one line each. 'dirpost doctor' looks at a node that serves.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			f, err := readConfig(*path)
			if err != nil {
				return err
			}
			if err := f.checkFiles(); err != nil {
				return fmt.Errorf("%s: %w", *path, err)
			}
			var found []string
			if !offline {
				found, err = f.checkServers(c.Context(), newLogger(LogSection{Level: "error", Format: f.Log.Format}, std.err))
				if err != nil {
					return err
				}
			}
			for _, line := range found {
				fmt.Fprintln(std.out, line)
			}
			_, err = fmt.Fprintf(std.out, "%s is good.\n", *path)
			return err
		},
	}
	c.Flags().BoolVar(&offline, "offline", false, "connect to nothing")
	return c
}

// checkServers asks the database and the directories, as a node does when it
// starts, and returns what it has found out, for people, and all that is wrong.
func (f *File) checkServers(ctx context.Context, log *slog.Logger) (found []string, err error) {
	var errs []error
	if db, err := openDatabase(ctx, f, log); err != nil {
		errs = append(errs, err)
	} else {
		db.Close()
	}
	for _, name := range f.names() {
		lines, err := f.checkDirectory(ctx, name, log)
		found, errs = append(found, lines...), append(errs, err)
	}
	return found, errors.Join(errs...)
}

// checkDirectory asks a directory for what a node of the configured roles needs
// of it: to be read, and to judge passwords. What it finds out is how the
// directory is read.
func (f *File) checkDirectory(ctx context.Context, name string, log *slog.Logger) (found []string, err error) {
	roles, err := f.roles(nil)
	if err != nil {
		return nil, err
	}
	feeds := slices.Contains(roles, roleDirectory)
	client, err := f.client(name, feeds, log)
	if err != nil {
		return nil, err
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(ctx, checkLimit)
	defer cancel()
	f.recall(ctx, client, log)
	if err := f.setMachine(ctx, client, log); err != nil {
		return nil, err
	}
	if feeds {
		if err := client.Check(ctx); err != nil {
			return nil, err
		}
		choice, err := client.Choice(ctx)
		if err != nil {
			return nil, err
		}
		found = append(found, fmt.Sprintf("directory.%s is read as %s: %s.", name, choice.Profile, choice.Why))
		for _, note := range choice.Notes {
			found = append(found, fmt.Sprintf("directory.%s: %s", name, note))
		}
		note, err := checkSelfPower(ctx, name, client)
		if note != "" {
			found = append(found, note)
		}
		if err != nil {
			return found, err
		}
	}
	return found, client.CheckLogin(ctx)
}

// checkSelfPower refuses a directory whose people can give themselves what they like,
// as far as its servers say what people can write in their own entry. The list of what
// they usually can, which the file alone is checked by, knows no directory.
func checkSelfPower(ctx context.Context, name string, client *ldap.Client) (note string, err error) {
	power, err := client.CheckSelfPower(ctx)
	switch {
	case err != nil:
		return "", err
	case power.How == "":
		return fmt.Sprintf("directory.%s: the server does not say what people can write in their own entry: 'dirpost directory check USER' tries it with the login of one.", name), nil
	}
	if power.Unknown != "" {
		note = fmt.Sprintf("directory.%s: people may be able to write more in their own entry than is known: %s.", name, power.Unknown)
	}
	var errs []error
	for _, w := range power.Writable {
		errs = append(errs, fmt.Errorf(`directory.%s: people can write %s in their own entry, by the %s, and would give themselves what they like, since it is read as %s: take that right away from them, use a policy group instead ([[policy]]), or add trusted = ["%s"]`,
			name, w.Attribute, power.How, strings.Join(w.Fields, ", "), strings.Join(w.Fields, `", "`)))
	}
	return note, errors.Join(errs...)
}
