package main

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	"dirpost/directory"
	"dirpost/internal/postgres"

	"github.com/spf13/cobra"
)

// directoryStatusCommand is `dirpost directory status`.
func directoryStatusCommand(path *string, std streams) *cobra.Command {
	asJSON := false
	c := &cobra.Command{
		Use: "status", Short: "Say how each directory is followed, how old the replica is, what is held back",
		Long: `Status says, for each directory, how it is followed and from which server, what is in
the replica, how old that is, what the last comparison has found, and which entries
are held back since too many would vanish or lose their address at once.

The exit status is 1 when a directory cannot be followed or nobody feeds, 2 when
entries are held back or names are not unique, else 0.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			return withReplica(c.Context(), *path, std, func(ctx context.Context, file *File, db *postgres.DB) error {
				st, err := readDirectoryStatus(ctx, file, db)
				if err != nil {
					return err
				}
				if asJSON {
					err = st.writeJSON(std)
				} else {
					err = st.write(std)
				}
				if err != nil {
					return err
				}
				return st.exit()
			})
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "one JSON object a line: the replica, then each directory")
	return c
}

// withReplica opens the database for one command.
func withReplica(ctx context.Context, path string, std streams, f func(context.Context, *File, *postgres.DB) error) error {
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

// mostHeld is how many of the entries that are held back are listed.
const mostHeld = 20

// directoryStatus is what `dirpost directory status` prints.
type directoryStatus struct {
	file    *File
	feeder  string
	s       *directory.Snapshot
	reports []directory.Report
	held    map[string][]directory.HeldBack
	missing []string // configured, and not in the database yet
	now     time.Time
}

func readDirectoryStatus(ctx context.Context, file *File, db *postgres.DB) (*directoryStatus, error) {
	st := &directoryStatus{file: file, held: make(map[string][]directory.HeldBack), now: db.Now()}
	var err error
	if st.s, err = replicaOf(ctx, file, db); err != nil {
		return nil, err
	}
	if st.feeder, err = directory.FeedingNode(ctx, db); err != nil {
		return nil, err
	}
	if st.reports, err = directory.Reports(ctx, db); err != nil {
		return nil, err
	}
	known := map[string]bool{}
	for _, r := range st.reports {
		known[r.Name] = true
		if st.held[r.Name], err = directory.HeldBackOf(ctx, db, st.s, r.Name, mostHeld); err != nil {
			return nil, err
		}
	}
	for _, name := range file.names() {
		if !known[name] {
			st.missing = append(st.missing, name)
		}
	}
	return st, nil
}

// state is one word for how a directory does.
func (st *directoryStatus) state(r *directory.Report) string {
	switch {
	case r.Problem != "":
		return "away"
	case !r.Complete:
		return "never read"
	case st.feeder == "" || r.Stale():
		return "not heard of"
	case r.Braked > 0:
		return "held back"
	}
	return "ok"
}

// exit is the exit status.
func (st *directoryStatus) exit() error {
	code := exitCode(0)
	if st.s.AmbiguousAddresses()+st.s.AmbiguousLogins() > 0 {
		code = 2
	}
	for i := range st.reports {
		switch st.state(&st.reports[i]) {
		case "ok":
		case "held back":
			code = 2
		default:
			return exitCode(1)
		}
	}
	if st.feeder == "" || len(st.missing) > 0 {
		return exitCode(1)
	}
	if code == 0 {
		return nil
	}
	return code
}

// ago is a time as people say it.
func (st *directoryStatus) ago(t *time.Time) string {
	if t == nil || t.IsZero() {
		return "never"
	}
	return span(st.now.Sub(*t)) + " ago"
}

func (st *directoryStatus) write(std streams) error {
	w := tabwriter.NewWriter(std.out, 0, 0, 2, ' ', 0)
	feeder := st.feeder
	if feeder == "" {
		feeder = "no node: start 'dirpost serve' with the role directory"
	}
	fmt.Fprintf(w, "fed by\t%s\n", feeder)
	fmt.Fprintf(w, "replica\tversion %d, %d entries\n", st.s.Version(), st.s.Len())
	if a, l := st.s.AmbiguousAddresses(), st.s.AmbiguousLogins(); a+l > 0 {
		fmt.Fprintf(w, "not unique\t%d addresses, whose mail is deferred; %d login names, which let nobody in\n", a, l)
	}
	for i := range st.reports {
		st.report(w, &st.reports[i])
	}
	for _, name := range st.missing {
		fmt.Fprintf(w, "\n%s\tnever read\n", name)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	for i := range st.reports {
		r := &st.reports[i]
		if r.Status == nil || len(r.Status.Servers) == 0 {
			continue
		}
		fmt.Fprintf(std.out, "\nServers of %s:\n", r.Name)
		if err := st.servers(std, r.Status.Servers); err != nil {
			return err
		}
	}
	for i := range st.reports {
		if err := st.heldBack(std, &st.reports[i]); err != nil {
			return err
		}
	}
	return nil
}

// report writes the lines of one directory.
func (st *directoryStatus) report(w *tabwriter.Writer, r *directory.Report) {
	fmt.Fprintf(w, "\n%s\t%s\n", r.Name, st.state(r))
	if r.Problem != "" {
		fmt.Fprintf(w, "problem\t%s\n", strings.ReplaceAll(r.Problem, "\n", "; "))
	}
	if s := r.Status; s != nil && s.Mode != "" {
		fmt.Fprintf(w, "followed\tby %s, woken by %s, deletions are %s; %s\n", s.Mode, s.Wake, s.Deletions, s.Server)
		if areCompared(s) {
			fmt.Fprintf(w, "deletions\tare found by comparing; %s\n", compareAdvice(st.file, r.Name))
		}
	}
	if s := r.Status; s != nil && s.Profile != "" {
		fmt.Fprintf(w, "read as\t%s: %s\n", s.Profile, s.ProfileWhy)
	}
	t := st.s.Tallies()[r.Name]
	fmt.Fprintf(w, "entries\t%d people, %d shared, %d rooms, %d groups, %d contacts, %d elsewhere, %d domains; %d have left and their mail is kept\n",
		t.Of(directory.KindPerson), t.Of(directory.KindShared), t.Of(directory.KindRoom), t.Of(directory.KindList),
		t.Of(directory.KindContact), t.Of(directory.KindElsewhere), t.Of(directory.KindDomain), t.Gone)
	age := "not known"
	if r.Age != nil {
		age = span(*r.Age)
	}
	fmt.Fprintf(w, "age\t%s\n", age)
	fmt.Fprintf(w, "last change\t%s\n", st.ago(r.Changed))
	compared := st.ago(r.Compared)
	if r.Compared != nil {
		compared += fmt.Sprintf(", %d changes found", r.Found)
	}
	if r.SyncAsked != nil {
		compared += fmt.Sprintf("; asked for %s", st.ago(r.SyncAsked))
	}
	fmt.Fprintf(w, "compared\t%s\n", compared)
	if r.Braked > 0 {
		fmt.Fprintf(w, "held back\t%d entries, since %s: see below, then 'dirpost directory release %s'\n", r.Braked, span(st.now.Sub(*r.Since)), r.Name)
	}
}

// servers writes how far the servers of a directory are.
func (st *directoryStatus) servers(std streams, all []directory.ServerStatus) error {
	w := tabwriter.NewWriter(std.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "SERVER\tROLE\tUSN\tBEHIND\tSEEN\tPROBLEM")
	for _, s := range all {
		role := "-"
		switch {
		case s.Followed:
			role = "followed"
		case s.Watched:
			role = "watched"
		}
		behind := "-"
		if s.Behind > 0 {
			behind = s.Behind.Round(time.Millisecond).String()
		}
		fmt.Fprintf(w, "%s\t%s\t%d\t%s\t%s\t%s\n", s.Name, role, s.USN, behind, st.ago(&s.Seen), strings.ReplaceAll(s.Problem, "\n", "; "))
	}
	return w.Flush()
}

// heldBack lists entries that stay as they were.
func (st *directoryStatus) heldBack(std streams, r *directory.Report) error {
	held := st.held[r.Name]
	if len(held) == 0 {
		return nil
	}
	fmt.Fprintf(std.out, "\nHeld back of %s:\n", r.Name)
	w := tabwriter.NewWriter(std.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "ADDRESS\tWOULD\tENTRY")
	for _, h := range held {
		fmt.Fprintf(w, "%s\t%s\t%s\n", h.Entry.Primary, would(h), h.Entry.DN)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	if more := r.Braked - int64(len(held)); more > 0 {
		fmt.Fprintf(std.out, "and %d more\n", more)
	}
	return nil
}

// would says what would become of an entry that is held back.
func would(h directory.HeldBack) string {
	switch {
	case h.Next == nil:
		return "vanish"
	case h.Entry.HasMailbox() && !h.Next.HasMailbox():
		return "lose its mailbox"
	}
	return "lose an address"
}

func (st *directoryStatus) writeJSON(std streams) error {
	enc := json.NewEncoder(std.out)
	if err := enc.Encode(map[string]any{
		"feeder": st.feeder, "version": st.s.Version(), "entries": st.s.Len(),
		"ambiguous_addresses": st.s.AmbiguousAddresses(), "ambiguous_logins": st.s.AmbiguousLogins(),
	}); err != nil {
		return err
	}
	for i := range st.reports {
		r := &st.reports[i]
		t := st.s.Tallies()[r.Name]
		line := map[string]any{
			"directory": r.Name, "state": st.state(r), "problem": r.Problem, "complete": r.Complete, "status": r.Status,
			"people": t.Of(directory.KindPerson), "shared": t.Of(directory.KindShared), "rooms": t.Of(directory.KindRoom),
			"groups": t.Of(directory.KindList), "contacts": t.Of(directory.KindContact), "elsewhere": t.Of(directory.KindElsewhere),
			"domains": t.Of(directory.KindDomain), "gone": t.Gone, "braked": r.Braked,
			"changed_at": r.Changed, "compared_at": r.Compared, "compared_changes": r.Found, "sync_asked_at": r.SyncAsked,
		}
		if r.Age != nil {
			line["age_seconds"] = r.Age.Seconds()
		}
		if err := enc.Encode(line); err != nil {
			return err
		}
	}
	for _, name := range st.missing {
		if err := enc.Encode(map[string]any{"directory": name, "state": "never read"}); err != nil {
			return err
		}
	}
	return nil
}
