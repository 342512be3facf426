package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/netip"
	"os"
	"text/tabwriter"
	"time"

	"dirpost/auth/permit"
	"dirpost/directory"
	"dirpost/internal/bus"
	"dirpost/internal/postgres"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"
)

// topEvery is how often `dirpost auth top` looks again.
const topEvery = 2 * time.Second

// authTopCommand is `dirpost auth top`.
func authTopCommand(path *string, std streams) *cobra.Command {
	once, asJSON, most := false, false, 10
	c := &cobra.Command{
		Use: "top", Short: "Show who guesses passwords, whose, and what is left of the permits",
		Long: `Top shows what the nodes together see of wrong logins: how logins went by minute,
from which clients they come, whose accounts are tried, how many passwords are tried on
everybody (nobody knows which: only keyed hashes of them are kept), and of how many
people the permits are used up. On a terminal it looks again every two seconds.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			return withReplica(c.Context(), *path, std, func(ctx context.Context, file *File, db *postgres.DB) error {
				t := topView{db: db, most: most, live: !once && !asJSON && isOutputTerminal(std.out)}
				var err error
				if t.config, err = file.Auth.permits(); err != nil {
					return err
				}
				if t.people, err = replicaOf(ctx, file, db); err != nil {
					return err
				}
				if asJSON {
					return t.json(ctx, std.out)
				}
				return t.show(ctx, std.out)
			})
		},
	}
	c.Flags().BoolVar(&once, "once", false, "look once")
	c.Flags().BoolVar(&asJSON, "json", false, "one JSON object, once")
	c.Flags().IntVar(&most, "lines", most, "how many clients, accounts and passwords are shown")
	return c
}

// isOutputTerminal reports whether out is a terminal.
func isOutputTerminal(out io.Writer) bool {
	f, ok := out.(*os.File)
	if !ok {
		return false
	}
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil
}

// topView is what `dirpost auth top` shows.
type topView struct {
	db     *postgres.DB
	config permit.Config
	people *directory.Snapshot
	most   int
	live   bool // goes on
}

// name is what an administrator knows a person by.
func (t *topView) name(person directory.Key) string {
	if person == "" {
		return "(names that nobody has, app passwords)"
	}
	if e := t.people.ByKey(person); e != nil {
		return e.Primary.String()
	}
	return string(person)
}

// json writes one JSON object.
func (t *topView) json(ctx context.Context, out io.Writer) error {
	top, err := permit.ReadTop(ctx, t.db, t.config, t.most)
	if err != nil {
		return err
	}
	type account struct {
		permit.Account
		Address string `json:"address"`
	}
	v := struct {
		*permit.Top
		Accounts []account `json:"accounts"`
	}{Top: top, Accounts: []account{}}
	for _, a := range top.Accounts {
		v.Accounts = append(v.Accounts, account{a, t.name(a.Person)})
	}
	enc := json.NewEncoder(out)
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}

// show writes for people, on a terminal again and again.
func (t *topView) show(ctx context.Context, out io.Writer) error {
	tick := time.NewTicker(topEvery)
	defer tick.Stop()
	for {
		top, err := permit.ReadTop(ctx, t.db, t.config, t.most)
		if err != nil {
			return err
		}
		var b bytes.Buffer
		if t.live {
			b.WriteString("\x1b[H\x1b[2J")
		}
		t.write(&b, top)
		if _, err := out.Write(b.Bytes()); err != nil || !t.live {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// shownMinutes is how many minutes are shown.
const shownMinutes = 5

// write writes one view.
func (t *topView) write(out io.Writer, top *permit.Top) {
	state := "Nothing unusual."
	if top.Attack {
		state = "Attack: strangers are slowed."
	}
	fmt.Fprintf(out, "%s  %s\n\n", top.At.Local().Format(time.TimeOnly), state)
	p := top.Permits
	fmt.Fprintf(out, "Permits: %d used, of %d people; strangers get none for %d of them, nobody does for %d.\n\n", p.Used, p.People, p.Exhausted, p.Reserved)
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "minute\tlet in\tnew place\tjudged at home\twrong\tnot asked\tsame again\t")
	for i, m := range top.Minutes {
		if i == shownMinutes {
			break
		}
		fmt.Fprintf(w, "%s\t%d\t%d\t%d\t%d\t%d\t%d\t\n", m.Minute.Local().Format("15:04"), m.Entered, m.Arrived, m.Familiar, m.Wrong, m.Refused, m.Repeated)
	}
	w.Flush()
	fmt.Fprintln(out, "\nClients")
	w = tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	for _, s := range top.Sources {
		client := s.Network.String()
		if s.Network.IsSingleIP() {
			client = s.Network.Addr().String()
		}
		fmt.Fprintf(w, "  %s\t%d wrong\t%d not asked\t%s ago\n", client, s.Wrong, s.Refused, ago(top.At, s.LastAt))
	}
	w.Flush()
	fmt.Fprintln(out, "\nAccounts")
	w = tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	for _, a := range top.Accounts {
		permits := "counted once wrong"
		if a.Everybody > 0 {
			permits = fmt.Sprintf("%d of %d used, %d for strangers", a.Wrong+a.Pending, a.Everybody, a.Strangers)
		}
		if a.Person == "" {
			permits = ""
		}
		fmt.Fprintf(w, "  %s\t%d wrong\t%d not asked\t%s\t%s ago\n", t.name(a.Person), a.Tried, a.Refused, permits, ago(top.At, a.LastAt))
	}
	w.Flush()
	fmt.Fprintln(out, "\nPasswords that failed for several accounts")
	w = tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	for i, s := range top.Sprayed {
		refused := ""
		if s.Refused {
			refused = "refused to strangers"
		}
		fmt.Fprintf(w, "  %d.\t%s accounts\t%d tries\t%s\t%s ago\n", i+1, t.atLeast(s.Accounts), s.Tries, refused, ago(top.At, s.LastAt))
	}
	w.Flush()
}

// atLeast says how many accounts: they are counted as far as it takes to decide.
func (t *topView) atLeast(n int) string {
	if n >= t.config.SprayAccounts {
		return fmt.Sprintf("%d or more", n)
	}
	return fmt.Sprint(n)
}

// ago is a span of time in words.
func ago(now, then time.Time) string { return max(0, now.Sub(then)).Round(time.Second).String() }

// authUnblockCommand is `dirpost auth unblock`.
func authUnblockCommand(path *string, std streams) *cobra.Command {
	return &cobra.Command{
		Use: "unblock PERSON|NETWORK", Short: "Forget the wrong passwords of a person, or of a network", Args: cobra.ExactArgs(1),
		Long: `Unblock gives a person all permits again, and forgets which passwords were wrong; or it
forgets what the clients of a network have tried. PERSON is a login name, an address or
a key, NETWORK an address or a network such as 192.0.2.0/24.

What the domain itself counts stays: unlock an account there. Where its count cannot be
read, wait until its window has passed, or permits are given that the domain has not.`,
		RunE: func(c *cobra.Command, args []string) error {
			return withStore(c.Context(), *path, std, func(ctx context.Context, t *storeTools) error {
				if n, err := parseNetwork(args[0]); err == nil {
					return unblockNetwork(ctx, t.db, n.Masked(), std.out)
				}
				key, err := t.key(ctx, args[0])
				if err != nil {
					return err
				}
				found, err := permit.Unblock(ctx, t.db, directory.Key(key))
				if err != nil {
					return err
				}
				if err := bus.Send(ctx, t.db, permit.Topic, key); err != nil {
					return fmt.Errorf("tell the nodes: %w", err)
				}
				words := "has all permits again"
				if !found {
					words = "had all permits"
				}
				_, err = fmt.Fprintf(std.out, "%s %s.\n", args[0], words)
				return err
			})
		},
	}
}

// unblockNetwork forgets what clients of a network have tried.
func unblockNetwork(ctx context.Context, db *postgres.DB, n netip.Prefix, out io.Writer) error {
	count, err := permit.UnblockNetwork(ctx, db, n)
	if err != nil {
		return err
	}
	if err := bus.Send(ctx, db, permit.Topic, n.String()); err != nil {
		return fmt.Errorf("tell the nodes: %w", err)
	}
	_, err = fmt.Fprintf(out, "%s: %d clients may try again.\n", n, count)
	return err
}
