package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"text/tabwriter"

	"dirpost/directory"
	"dirpost/directory/ldap"
	"dirpost/internal/postgres"

	"github.com/spf13/cobra"
)

// directoryDiffCommand is `dirpost directory diff`.
func directoryDiffCommand(path *string, std streams) *cobra.Command {
	asJSON := false
	c := &cobra.Command{
		Use: "diff", Short: "Compare what the directories say now with what nodes decide by",
		Long: `Diff reads the directories whole and shows what is otherwise in the replica. Where
changes are followed there is no difference, or one of the last second. The exit
status is 1 where there are differences.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			return withReplica(c.Context(), *path, std, func(ctx context.Context, file *File, db *postgres.DB) error {
				s, err := replicaOf(ctx, file, db)
				if err != nil {
					return err
				}
				next, _, err := file.readDirectories(ctx, nil, std)
				if err != nil {
					return err
				}
				return reportDifferences(s.Differences(next), asJSON, "The replica is what the directories say.\n", std)
			})
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "one JSON object a line")
	return c
}

// directorySimulateCommand is `dirpost directory simulate`.
func directorySimulateCommand(path *string, std streams) *cobra.Command {
	asJSON, other := false, ""
	c := &cobra.Command{
		Use: "simulate [FILE.ldif]", Short: "Show who would gain, lose or change what by a change, without making it",
		Long: `Simulate reads the directories, changes what it has read as FILE.ldif says, the way
ldapmodify would, or reads it by another configuration file, and shows the
difference from now. It writes nothing anywhere.`,
		Example: `  dirpost directory simulate leavers.ldif
  dirpost directory simulate --new new.toml`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			if (len(args) == 1) == (other != "") {
				return errors.New("name a file of changes, or another configuration with --new")
			}
			file, err := readConfig(*path)
			if err != nil {
				return err
			}
			return simulate(c.Context(), file, args, other, asJSON, std)
		},
	}
	c.Flags().StringVar(&other, "new", "", "another configuration file instead of changes")
	c.Flags().BoolVar(&asJSON, "json", false, "one JSON object a line")
	return c
}

func simulate(ctx context.Context, file *File, args []string, other string, asJSON bool, std streams) error {
	was, _, err := file.readDirectories(ctx, nil, std)
	if err != nil {
		return err
	}
	next := file
	var changes []ldap.LDIFChange
	if other != "" {
		if next, err = readConfig(other); err != nil {
			return err
		}
	} else {
		text, err := os.ReadFile(args[0])
		if err != nil {
			return err
		}
		if changes, err = ldap.ParseLDIF(string(text)); err != nil {
			return fmt.Errorf("%s: %w", args[0], err)
		}
	}
	is, _, err := next.readDirectories(ctx, changes, std)
	if err != nil {
		return err
	}
	err = reportDifferences(was.Differences(is), asJSON, "Nobody would gain, lose or change anything.\n", std)
	var code exitCode
	if errors.As(err, &code) {
		return nil // differences are what was asked for
	}
	return err
}

// readDirectories reads all directories now, changed by changes, by the rules of
// f.
func (f *File) readDirectories(ctx context.Context, changes []ldap.LDIFChange, std streams) (*directory.Snapshot, []ldap.Problem, error) {
	rules, err := f.rules()
	if err != nil {
		return nil, nil, err
	}
	rules.Confirm = false // a question of mail, not of what is there
	log := newLogger(LogSection{Level: "error", Format: f.Log.Format}, std.err)
	var entries []*directory.Entry
	var problems []ldap.Problem
	for _, name := range f.names() {
		client, err := f.commandClient(ctx, name, log)
		if err != nil {
			return nil, nil, err
		}
		r, err := client.Read(ctx, log, changes)
		client.Close()
		if err != nil {
			return nil, nil, err
		}
		entries, problems = append(entries, r.Entries...), append(problems, r.Problems...)
	}
	return directory.SnapshotOf(rules, entries), problems, nil
}

func reportDifferences(all []directory.Difference, asJSON bool, none string, std streams) error {
	if asJSON {
		enc := json.NewEncoder(std.out)
		for _, d := range all {
			if err := enc.Encode(d); err != nil {
				return err
			}
		}
	} else if len(all) == 0 {
		if _, err := fmt.Fprint(std.out, none); err != nil {
			return err
		}
	} else {
		w := tabwriter.NewWriter(std.out, 0, 0, 2, ' ', 0)
		fmt.Fprintln(w, "WHO\tWHAT\tWAS\tIS\t")
		for _, d := range all {
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\t\n", d.Name, d.What, d.Was, d.Is)
		}
		if err := w.Flush(); err != nil {
			return err
		}
	}
	if len(all) > 0 {
		return exitCode(1)
	}
	return nil
}
