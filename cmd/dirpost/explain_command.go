package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"dirpost/directory"
	"dirpost/internal/envelope"
	"dirpost/internal/postgres"

	"github.com/spf13/cobra"
)

// explainCommand is `dirpost explain`.
func explainCommand(path *string, std streams) *cobra.Command {
	var o explainOptions
	c := &cobra.Command{
		Use: "explain ADDRESS|LOGIN|DN|KEY", Short: "Say what becomes of mail for an address or of a login, and why",
		Long: `Explain says which entry of the directory an address or a login name belongs to, by
which attribute, and what follows: where mail for it goes and by way of which lists,
whether the person may log in, limits, groups, rights. It asks the replica in the
database, as nodes do, and no directory server.

With --at it answers as nodes would have at that time: a date, a time of day, a date
and time, or how long ago. Changes are kept for 30 days; the rules of the
configuration are those of now.`,
		Example: `  dirpost explain sales@example.com --from bob
  dirpost explain alice --at 2026-11-24T09:30
  dirpost explain alice@example.com --at 3h --json`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			return withReplica(c.Context(), *path, std, func(ctx context.Context, file *File, db *postgres.DB) error {
				return o.run(ctx, file, db, args[0], std)
			})
		},
	}
	f := c.Flags()
	f.StringVar(&o.at, "at", "", "as it was then: 2026-11-24, 2026-11-24T09:30, 09:30, or 3h ago as 3h")
	f.StringVar(&o.from, "from", "", "login name or address of who sends to a list; somebody outside without it")
	f.BoolVar(&o.asJSON, "json", false, "one JSON object")
	return c
}

type explainOptions struct {
	at, from string
	asJSON   bool
}

func (o explainOptions) run(ctx context.Context, file *File, db *postgres.DB, asked string, std streams) error {
	now := time.Now()
	s, err := o.snapshot(ctx, file, db, now)
	if err != nil {
		return err
	}
	var from *directory.Entry
	if o.from != "" {
		if from = s.ByLogin(o.from); from == nil {
			if a, err := envelope.ParseAddress(o.from); err == nil {
				from = s.ByAddress(a)
			}
		}
		if from == nil {
			return fmt.Errorf("--from %s: nobody has this login name or address", o.from)
		}
	}
	if o.at != "" {
		now, _ = parseMoment(o.at, now)
	}
	x := s.Explain(asked, from, now)
	if o.asJSON {
		enc := json.NewEncoder(std.out)
		enc.SetEscapeHTML(false)
		return enc.Encode(x)
	}
	return writeExplanation(std.out, x)
}

// snapshot is the directory of now, or of --at.
func (o explainOptions) snapshot(ctx context.Context, file *File, db *postgres.DB, now time.Time) (*directory.Snapshot, error) {
	if o.at == "" {
		return replicaOf(ctx, file, db)
	}
	at, err := parseMoment(o.at, now)
	if err != nil {
		return nil, fmt.Errorf("--at: %w", err)
	}
	rules, err := file.rules()
	if err != nil {
		return nil, err
	}
	return directory.SnapshotAt(ctx, db, rules, at)
}

// parseMoment reads a moment as people write it, in local time: a date, a date and
// time, a time of day, or how long ago. A moment to come is none that was.
func parseMoment(text string, now time.Time) (time.Time, error) {
	var d Duration
	if err := d.UnmarshalText([]byte(text)); err == nil {
		return now.Add(-time.Duration(d)), nil
	}
	for _, form := range []string{time.RFC3339, "2006-01-02T15:04:05", "2006-01-02T15:04", "2006-01-02 15:04:05", "2006-01-02 15:04", time.DateOnly} {
		if t, err := time.ParseInLocation(form, text, now.Location()); err == nil {
			if t.After(now) {
				return t, fmt.Errorf("%s is yet to come", text)
			}
			return t, nil
		}
	}
	if t, err := time.ParseInLocation("15:04", text, now.Location()); err == nil {
		t = time.Date(now.Year(), now.Month(), now.Day(), t.Hour(), t.Minute(), 0, 0, now.Location())
		if t.After(now) {
			t = t.AddDate(0, 0, -1)
		}
		return t, nil
	}
	return now, fmt.Errorf("%q is no moment: write 2026-11-24, 2026-11-24T09:30, 09:30, or 3h for three hours ago", text)
}

// writeExplanation writes x for people.
func writeExplanation(out io.Writer, x directory.Explanation) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	line := func(key, format string, args ...any) { fmt.Fprintf(w, "  %s\t%s\n", key, fmt.Sprintf(format, args...)) }
	if a := x.Address; a != nil {
		explainMail(w, line, a)
	}
	if l := x.Login; l != nil {
		fmt.Fprintf(w, "Login as %s\n", l.Name)
		works := "no"
		if l.Works {
			works = "yes"
		}
		line(works, "%s", l.Why)
		if len(l.Services) > 0 {
			line("protocols", "%s", strings.Join(l.Services, ", "))
		}
	}
	for _, e := range x.Entries {
		explainEntry(w, line, e)
	}
	if len(x.Entries) == 0 && x.Address == nil {
		fmt.Fprintf(w, "  no entry has the login name, address, DN or key %s\n", x.Asked)
	}
	if len(x.Member) > 0 {
		fmt.Fprintln(w, "Groups")
		for _, g := range x.Member {
			how := "direct"
			if !g.Direct {
				how = "through another"
			}
			line(g.DN, "%s", strings.TrimSpace(how+" "+g.Address))
		}
	}
	if len(x.Rights) > 0 {
		fmt.Fprintln(w, "May")
		for _, r := range x.Rights {
			line(strings.Join(r.Rights, ", "), "%s", r.Of)
		}
	}
	if h := x.Held; h != nil {
		fmt.Fprintln(w, "Who may, and whose it is")
		for _, f := range []struct {
			key   string
			names []string
		}{{"open it", h.Open}, {"send as it", h.SendAs}, {"send on its behalf", h.OnBehalf}, {"owners", h.Owners}, {"moderators", h.Moderators}} {
			for _, n := range f.names {
				line(f.key, "%s", n)
			}
		}
	}
	return w.Flush()
}

func explainMail(w io.Writer, line func(key, format string, args ...any), a *directory.AddressExplained) {
	fmt.Fprintf(w, "Mail for %s\n", a.Address)
	line("leads to", "%s: %s", a.Home, a.How)
	if a.Target != "" {
		line("target", "%s", a.Target)
	}
	if a.NextHop != "" {
		line("next hop", "%s", a.NextHop)
	}
	if a.Refused != "" {
		line("answer", "%s", a.Refused)
	}
	if a.Post != "" {
		line("sending to it", "%s", a.Post)
	}
	for _, c := range a.Copies {
		via := ""
		if len(c.Path) > 0 {
			via = ", through " + strings.Join(c.Path, " → ")
		}
		line("copy", "%s %s%s%s", c.To, c.Where, via, c.Status)
	}
}

func explainEntry(w io.Writer, line func(key, format string, args ...any), e directory.EntryExplained) {
	fmt.Fprintf(w, "Entry %s\n", e.DN)
	line("key", "%s", e.Key)
	line("kind", "%s", strings.TrimSpace(e.Kind+" "+quoted(e.Name)))
	for i, a := range e.Addresses {
		line([]string{"primary", "also"}[min(i, 1)], "%s", a)
	}
	for _, a := range e.Former {
		line("formerly", "%s", a)
	}
	if len(e.Logins) > 0 {
		line("login names", "%s", strings.Join(e.Logins, ", "))
	}
	line("delivery", "%s", e.Delivery)
	for _, q := range []struct {
		key string
		n   int64
	}{{"quota", e.Quota}, {"sending stops at", e.QuotaSend}, {"warning at", e.QuotaWarn}, {"largest in", e.MaxReceive}, {"largest out", e.MaxSend}} {
		if q.n > 0 {
			line(q.key, "%s", octets(q.n))
		}
	}
	if e.Hidden {
		line("hidden", "from the address book")
	}
	if len(e.Unreadable) > 0 {
		line("unreadable", "%s: kept as it was", strings.Join(e.Unreadable, ", "))
	}
	if !e.Modified.IsZero() {
		line("changed", "%s", e.Modified.Local().Format(time.DateTime))
	}
	if len(e.Origins) > 0 {
		line("read from", "%s", strings.Join(e.Origins, ", "))
	}
}

func quoted(name string) string {
	if name == "" {
		return ""
	}
	return fmt.Sprintf("%q", name)
}
