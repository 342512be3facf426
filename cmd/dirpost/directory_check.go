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
		Use: "check [PERSON]", Short: "Count whose mailboxes are here, look for mistakes, and confirm",
		Long: `Check counts, for each of our domains, the people whose mailboxes are here, those
whom another system has, lists and contacts, as the directory and the rules of the
configuration say. Then it reads the directories and lists what cannot be meant so:
addresses that two entries claim, values that cannot be read, lists that reach
nobody, policies for groups that there are not, indexes that the servers lack for our
searches, attributes that people can write in their own entry and that give them
something. For each group that carries rights it says who may change its members, as
far as the server tells. With the name of a PERSON it logs in
as that person, whose password it asks for, and asks the directory which of the
attributes that mail reads the person could write; nothing is changed.

A domain takes no mail before an administrator has looked at these numbers and
confirmed them with --accept: mail for it waits at its senders. When the rules
change, those whose mailbox would not be here any more wait in the same way.`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			return withReplica(c.Context(), *path, std, func(ctx context.Context, file *File, db *postgres.DB) error {
				if len(args) == 1 {
					return o.person(ctx, file, db, args[0], std)
				}
				return o.run(ctx, file, db, std)
			})
		},
	}
	c.Flags().BoolVar(&o.accept, "accept", false, "confirm the numbers: take mail for these domains")
	c.Flags().StringVar(&o.passwordFile, "password-file", "", "with PERSON: file with the password, - for standard input, instead of asking")
	c.Flags().BoolVar(&o.asJSON, "json", false, "one JSON object a line")
	return c
}

type checkOptions struct {
	accept, asJSON bool
	passwordFile   string
}

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
	findings := file.lint(ctx, s, std)
	servers := file.askServers(ctx, s, std)
	findings = append(findings, servers.findings...)
	if o.asJSON {
		return errors.Join(reportCensusJSON(seen, waiting, findings, std), reportContestsJSON(s, std), reportPowerJSON(servers, std))
	}
	return errors.Join(reportCensus(seen, without, waiting, findings, std), reportContests(s, std), reportPower(servers, std))
}

// lint looks for mistakes in the replica, and for values that cannot be read in
// the directories. One that is away is a finding: the replica is there all the same.
func (f *File) lint(ctx context.Context, s *directory.Snapshot, std streams) []directory.Finding {
	findings := s.Lint()
	_, problems, err := f.readDirectories(ctx, nil, std)
	if err != nil {
		findings = append(findings, directory.Finding{What: "directory away", Text: err.Error()})
	}
	for _, p := range problems {
		findings = append(findings, directory.Finding{What: "unreadable value", Of: p.DN, Text: p.Err.Error(), DNs: []string{p.DN}})
	}
	return findings
}

// person says what somebody could write of what mail reads.
func (o checkOptions) person(ctx context.Context, file *File, db *postgres.DB, name string, std streams) error {
	s, err := replicaOf(ctx, file, db)
	if err != nil {
		return err
	}
	e := s.ByLogin(name)
	if e == nil {
		return fmt.Errorf("nobody in the directory logs in as %s, or more than one does", name)
	}
	password, err := readPassword(ctx, "Password of "+name+": ", o.passwordFile, std)
	if err != nil {
		return err
	}
	client, err := file.commandClient(ctx, e.Directory, newLogger(file.Log, std.err))
	if err != nil {
		return err
	}
	defer client.Close()
	check, err := client.CheckSelf(ctx, e, password)
	if err != nil {
		return err
	}
	if o.asJSON {
		return json.NewEncoder(std.out).Encode(check)
	}
	if check.How == "" {
		_, err := fmt.Fprintf(std.out, "The server has no way to tell what %s could write.\n", e.DN)
		return err
	}
	w := tabwriter.NewWriter(std.out, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "ATTRIBUTE\tMEANS\tGIVES\t\n")
	for _, a := range check.Writable {
		fmt.Fprintf(w, "%s\t%s\t%s\t\n", a.Attribute, strings.Join(a.Fields, ", "), a.Level)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	fmt.Fprintf(std.out, "%s could write these (%s).\n", e.DN, check.How)
	if len(check.Unknown) > 0 {
		fmt.Fprintf(std.out, "Not told: %s\n", strings.Join(check.Unknown, ", "))
	}
	return nil
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

func reportCensusJSON(seen []directory.Census, waiting []string, findings []directory.Finding, std streams) error {
	enc := json.NewEncoder(std.out)
	for _, c := range seen {
		if err := enc.Encode(struct {
			directory.Census
			Confirmed bool `json:"confirmed"`
		}{c, !slices.Contains(waiting, c.Domain)}); err != nil {
			return err
		}
	}
	for _, f := range findings {
		if err := enc.Encode(f); err != nil {
			return err
		}
	}
	return nil
}

func reportCensus(seen []directory.Census, without int, waiting []string, findings []directory.Finding, std streams) error {
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
	if len(findings) > 0 {
		fmt.Fprintln(w)
		fmt.Fprintln(w, "FINDING\tOF\t\t")
		for _, f := range findings {
			fmt.Fprintf(w, "%s\t%s\t%s\t\n", f.What, f.Of, f.Text)
			for _, dn := range f.DNs {
				if dn != f.Of {
					fmt.Fprintf(w, "\t\t%s\t\n", dn)
				}
			}
		}
		if err := w.Flush(); err != nil {
			return err
		}
	}
	if len(waiting) > 0 {
		fmt.Fprintf(std.out, "\nMail for %s waits at its senders until you confirm these numbers: dirpost directory check --accept\n", strings.Join(waiting, ", "))
	}
	return nil
}
