package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/user"
	"slices"
	"strings"
	"text/tabwriter"

	"dirpost/directory"
	"dirpost/internal/bus"
	"dirpost/internal/postgres"

	"github.com/spf13/cobra"
)

// directoryCheckCommand is `dirpost directory check`.
func directoryCheckCommand(path *string, std streams) *cobra.Command {
	var o checkOptions
	c := &cobra.Command{
		Use: "check", Short: "Count whose mailboxes are here, and confirm it",
		Long: `Check counts, for each of our domains, the people whose mailboxes are here, those
whom another system has, lists and contacts, as the directory and the rules of the
configuration say.

A domain takes no mail before an administrator has looked at these numbers and
confirmed them with --accept: mail for it waits at its senders. When the rules
change, those whose mailbox would not be here any more wait in the same way.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			file, err := readConfig(*path)
			if err != nil {
				return err
			}
			db, err := openDatabase(c.Context(), file, newLogger(file.Log, std.err))
			if err != nil {
				return err
			}
			defer db.Close()
			return o.run(c.Context(), file, db, std)
		},
	}
	c.Flags().BoolVar(&o.accept, "accept", false, "confirm the numbers: take mail for these domains")
	c.Flags().BoolVar(&o.asJSON, "json", false, "one JSON object a line")
	return c
}

type checkOptions struct{ accept, asJSON bool }

// run counts, and confirms.
func (o checkOptions) run(ctx context.Context, file *File, db *postgres.DB, std streams) error {
	s, err := replicaOf(ctx, file, db)
	if err != nil {
		return err
	}
	if !s.Ready() {
		return errors.New("nothing was read from the directory yet: start 'dirpost serve' with the role directory, it takes no mail before this; then look again")
	}
	seen, without := s.Census()
	waiting := s.Unconfirmed()
	if o.accept {
		if err := confirmDomains(ctx, file, db, seen); err != nil {
			return err
		}
		waiting = nil
	}
	if o.asJSON {
		return errors.Join(reportCensusJSON(seen, waiting, std), reportContestsJSON(s, std))
	}
	return errors.Join(reportCensus(seen, without, waiting, std), reportContests(s, std))
}

// contests are the addresses that more than one entry has, sorted.
func contests(s *directory.Snapshot) []directory.Contest {
	return slices.SortedFunc(s.Contested(), func(a, b directory.Contest) int { return cmp.Compare(a.Address, b.Address) })
}

func reportContestsJSON(s *directory.Snapshot, std streams) error {
	enc := json.NewEncoder(std.out)
	for _, c := range contests(s) {
		line := struct {
			Address string          `json:"address"`
			Owner   directory.Key   `json:"owner,omitempty"`
			ByOrder bool            `json:"by_order"`
			Claims  []directory.Key `json:"claims"`
		}{Address: c.Address, ByOrder: c.ByOrder}
		if c.Owner != nil {
			line.Owner = c.Owner.Key
		}
		for _, e := range c.Entries {
			line.Claims = append(line.Claims, e.Key)
		}
		if err := enc.Encode(line); err != nil {
			return err
		}
	}
	return nil
}

// maxContests bounds the addresses that are printed for people.
const maxContests = 50

// reportContests prints who claims the same address, and who has it.
func reportContests(s *directory.Snapshot, std streams) error {
	all := contests(s)
	if len(all) == 0 {
		return nil
	}
	fmt.Fprintf(std.out, "\n%d addresses belong to more than one entry:\n", len(all))
	for i, c := range all {
		if i == maxContests {
			fmt.Fprintf(std.out, "  … and %d more: --json shows all\n", len(all)-i)
			break
		}
		why := "who had it first keeps it"
		switch {
		case c.Owner == nil:
			why = "nobody can tell whose it is: its mail is deferred until only one has it"
		case c.ByOrder:
			why = "directory " + c.Owner.Directory + " comes first"
		}
		fmt.Fprintf(std.out, "  %s: %s\n", c.Address, why)
		for _, e := range c.Entries {
			mark := " "
			if c.Owner != nil && e.Key == c.Owner.Key {
				mark = "*"
			}
			fmt.Fprintf(std.out, "  %s %s: %s\n", mark, e.Directory, e.DN)
		}
	}
	return nil
}

// confirmDomains records that the user of this process has seen the numbers.
func confirmDomains(ctx context.Context, file *File, db *postgres.DB, seen []directory.Census) error {
	rules, err := file.rules()
	if err != nil {
		return err
	}
	who := "unknown"
	if u, err := user.Current(); err == nil {
		who = u.Username
	}
	if err := directory.ConfirmDomains(ctx, db, rules.Placement(), seen, who); err != nil {
		return err
	}
	return bus.Send(ctx, db, directory.Topic, "")
}

func reportCensusJSON(seen []directory.Census, waiting []string, std streams) error {
	enc := json.NewEncoder(std.out)
	for _, c := range seen {
		if err := enc.Encode(struct {
			directory.Census
			Confirmed bool `json:"confirmed"`
		}{c, !slices.Contains(waiting, c.Domain)}); err != nil {
			return err
		}
	}
	return nil
}

func reportCensus(seen []directory.Census, without int, waiting []string, std streams) error {
	w := tabwriter.NewWriter(std.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "DOMAIN\tHERE\tELSEWHERE\tNOWHERE\tLISTS\tCONTACTS\t")
	for _, c := range seen {
		state := "takes mail"
		if slices.Contains(waiting, c.Domain) {
			state = "waits"
		}
		fmt.Fprintf(w, "%s\t%d\t%d\t%d\t%d\t%d\t%s\n", c.Domain, c.Here, c.Elsewhere, c.Nowhere, c.Lists, c.Contacts, state)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	fmt.Fprintf(std.out, "%d entries have no address of ours: accounts of services, groups that carry rights.\n", without)
	if len(waiting) > 0 {
		fmt.Fprintf(std.out, "\nMail for %s waits at its senders until you confirm these numbers: dirpost directory check --accept\n", strings.Join(waiting, ", "))
	}
	return nil
}
