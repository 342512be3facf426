package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"dirpost/internal/blob"
	"dirpost/internal/bus"
	"dirpost/internal/envelope"
	"dirpost/internal/postgres"
	"dirpost/mta/queue"

	"github.com/spf13/cobra"
)

// queueTools are what the queue commands work with.
type queueTools struct {
	db    *postgres.DB
	queue *queue.Queue
	blobs *blob.Store
	bus   *bus.Bus
}

// wake tells the nodes that there is work. Its loss would do no harm: they look
// for themselves too.
func (t *queueTools) wake(ctx context.Context) {
	t.bus.Publish(bus.TopicQueue, "")
	ctx, cancel := context.WithCancel(ctx)
	cancel() // Run sends what was published before it ends
	_ = t.bus.Run(ctx, nil)
}

// withQueue opens the queue for one command.
func withQueue(ctx context.Context, path string, std streams, f func(context.Context, *queueTools) error) error {
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
	return f(ctx, &queueTools{db: db, queue: queue.New(db, queue.Config{}), blobs: blob.New(db), bus: bus.New(db, log)})
}

// queueCommand is `dirpost queue`.
func queueCommand(path *string, std streams) *cobra.Command {
	c := &cobra.Command{
		Use: "queue", Short: "Look at mail that is on its way, and decide about it",
		Long: `The queue holds the recipients that were not served within the transaction that
accepted their message: mail to outside, and mail of ours that waits.

The commands take queue ids, which stand in the Received field, in the answer to
the client and in the log; or they select with --sender, --domain and --state.`,
	}
	c.AddCommand(queueListCommand(path, std), queueShowCommand(path, std))
	for _, a := range []struct {
		use, short, done string
		do               func(*queue.Queue, context.Context, queue.Filter) (int, error)
	}{
		{"retry", "Try recipients that wait at once, also where the destination was away", "will be tried at once", (*queue.Queue).Retry},
		{"hold", "Keep recipients until they are released", "held", (*queue.Queue).Hold},
		{"release", "Let held recipients go", "released", (*queue.Queue).Release},
		{"delete", "Take recipients out of the queue, without a report to anybody", "deleted", (*queue.Queue).Delete},
	} {
		c.AddCommand(queueChangeCommand(path, std, a.use, a.short, a.done, a.do))
	}
	c.AddCommand(queueRejectCommand(path, std))
	return c
}

// queueRejectCommand is `dirpost queue reject`.
func queueRejectCommand(path *string, std streams) *cobra.Command {
	words := ""
	c := queueChangeCommand(path, std, "reject", "Return held recipients to their senders", "returned",
		func(q *queue.Queue, ctx context.Context, f queue.Filter) (int, error) { return q.Reject(ctx, f, words) })
	c.Flags().StringVar(&words, "reason", "The administrator has not let it through.", "what the sender is told")
	return c
}

// queueSelection are the flags that select recipients.
type queueSelection struct {
	sender, domain string
	states         []string
	all            bool
}

func (s *queueSelection) flags(c *cobra.Command) {
	c.Flags().StringVar(&s.sender, "sender", "", "only mail of this sender, <> for reports")
	c.Flags().StringVar(&s.domain, "domain", "", "only recipients of this domain")
	c.Flags().StringSliceVar(&s.states, "state", nil, "only recipients that are waiting, active, held, final or reporting")
}

// filter makes the filter of ids and flags.
func (s *queueSelection) filter(ids []string) (queue.Filter, error) {
	f := queue.Filter{Sender: s.sender}
	for _, id := range ids {
		q, err := envelope.ParseQueueID(id)
		if err != nil {
			return f, fmt.Errorf("%q is no queue id: 13 letters and digits, as in the Received field", id)
		}
		f.QueueIDs = append(f.QueueIDs, q)
	}
	if s.domain != "" {
		d, err := envelope.ParseDomain(s.domain)
		if err != nil {
			return f, fmt.Errorf("--domain %s: %w", s.domain, err)
		}
		f.Domain = d
	}
	for _, name := range s.states {
		found := false
		for _, st := range []queue.State{queue.StateWaiting, queue.StateActive, queue.StateHeld, queue.StateFinal, queue.StateReporting} {
			if st.String() == name {
				f.States, found = append(f.States, st), true
			}
		}
		if !found {
			return f, fmt.Errorf("--state %s: is none of waiting, active, held, final, reporting", name)
		}
	}
	return f, nil
}

// isEmpty reports whether everything is selected.
func (s *queueSelection) isEmpty(ids []string) bool {
	return len(ids) == 0 && s.sender == "" && s.domain == "" && len(s.states) == 0
}

func queueListCommand(path *string, std streams) *cobra.Command {
	var s queueSelection
	asJSON := false
	c := &cobra.Command{
		Use: "list [ID…]", Short: "List the recipients in the queue", Aliases: []string{"ls"},
		RunE: func(c *cobra.Command, ids []string) error {
			f, err := s.filter(ids)
			if err != nil {
				return err
			}
			return withQueue(c.Context(), *path, std, func(ctx context.Context, t *queueTools) error {
				return listQueue(ctx, t, f, asJSON, std.out)
			})
		},
	}
	s.flags(c)
	c.Flags().BoolVar(&asJSON, "json", false, "one JSON object a line")
	return c
}

// queueEntryJSON is a recipient as programs read it.
type queueEntryJSON struct {
	QueueID  string    `json:"queue_id"`
	State    string    `json:"state"`
	From     string    `json:"from"`
	To       string    `json:"to"`
	OrigTo   string    `json:"orig_to,omitempty"`
	Size     int64     `json:"size"`
	Accepted time.Time `json:"accepted"`
	Expires  time.Time `json:"expires"`
	Next     time.Time `json:"next,omitzero"`
	Attempts int       `json:"attempts"`
	Relay    string    `json:"relay,omitempty"`
	Code     int       `json:"code,omitempty"`
	DSN      string    `json:"dsn,omitempty"`
	Reply    string    `json:"reply,omitempty"`
}

func entryJSON(e queue.Entry) queueEntryJSON {
	return queueEntryJSON{
		QueueID: e.QueueID.String(), State: e.State.String(), From: e.ReversePath, To: e.Recipient.Address.String(), OrigTo: e.Recipient.Original,
		Size: e.Size, Accepted: e.Accepted, Expires: e.Expires, Next: e.Next, Attempts: e.Attempts,
		Relay: e.Last.Relay, Code: e.Last.Code, DSN: e.Last.Enhanced, Reply: e.Last.Text,
	}
}

// listPage is how many recipients are read at once.
const listPage = 500

// listQueue prints the recipients that f selects.
func listQueue(ctx context.Context, t *queueTools, f queue.Filter, asJSON bool, out io.Writer) error {
	enc := json.NewEncoder(out)
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	now, total := t.db.Now(), 0
	for after := (queue.Entry{}); ; {
		page, err := t.queue.List(ctx, f, after, listPage)
		if err != nil {
			return fmt.Errorf("list the queue: %w", err)
		}
		for _, e := range page {
			if asJSON {
				if err := enc.Encode(entryJSON(e)); err != nil {
					return err
				}
				continue
			}
			if total == 0 {
				fmt.Fprintln(w, "QUEUE ID\tSTATE\tAGE\tSIZE\tFROM\tTO\tNEXT\tLAST ANSWER")
			}
			total++
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", e.QueueID, e.State, span(now.Sub(e.Accepted)), octets(e.Size),
				bracket(e.ReversePath), e.Recipient.Address, next(e, now), answer(e.Last))
		}
		if len(page) < listPage {
			break
		}
		after = page[len(page)-1]
	}
	if asJSON {
		return nil
	}
	if total == 0 {
		_, err := fmt.Fprintln(out, "The queue is empty.")
		return err
	}
	return w.Flush()
}

func bracket(address string) string {
	if address == "" {
		return "<>"
	}
	return address
}

// next says when an entry is tried next.
func next(e queue.Entry, now time.Time) string {
	switch {
	case e.Next.IsZero():
		return "—"
	case !e.Next.After(now):
		return "now"
	}
	return "in " + span(e.Next.Sub(now))
}

// answer is what the last attempt came to.
func answer(r queue.Reply) string {
	if r.Code == 0 && r.Text == "" {
		return "—"
	}
	if r.Code == 0 && r.Relay == "" {
		return r.Text // why it is held
	}
	if r.Code == 0 { // no server has said it
		return strings.TrimSpace(fmt.Sprintf("%s: %s %s", r.Relay, r.Enhanced, r.Text))
	}
	return strings.TrimSpace(fmt.Sprintf("%s: %d %s %s", r.Relay, r.Code, r.Enhanced, r.Text))
}

// span is a time span in its two largest units.
func span(d time.Duration) string {
	d = max(d, 0)
	switch {
	case d >= 24*time.Hour:
		return fmt.Sprintf("%dd%dh", d/(24*time.Hour), d%(24*time.Hour)/time.Hour)
	case d >= time.Hour:
		return fmt.Sprintf("%dh%dm", d/time.Hour, d%time.Hour/time.Minute)
	case d >= time.Minute:
		return fmt.Sprintf("%dm%ds", d/time.Minute, d%time.Minute/time.Second)
	}
	return fmt.Sprintf("%ds", d/time.Second)
}

// octets is a size in its largest unit.
func octets(n int64) string {
	for _, u := range []struct {
		name  string
		shift uint
	}{{"GiB", 30}, {"MiB", 20}, {"KiB", 10}} {
		if n >= 1<<u.shift {
			return fmt.Sprintf("%.1f %s", float64(n)/float64(int64(1)<<u.shift), u.name)
		}
	}
	return fmt.Sprintf("%d B", n)
}

func queueShowCommand(path *string, std streams) *cobra.Command {
	asJSON, content := false, false
	c := &cobra.Command{
		Use: "show ID", Short: "Show one message and what became of its recipients", Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			id, err := envelope.ParseQueueID(args[0])
			if err != nil {
				return fmt.Errorf("%q is no queue id: 13 letters and digits, as in the Received field", args[0])
			}
			return withQueue(c.Context(), *path, std, func(ctx context.Context, t *queueTools) error {
				m, entries, err := t.queue.Get(ctx, id)
				if errors.Is(err, queue.ErrNotFound) {
					return fmt.Errorf("%s is not in the queue: it was delivered, returned or deleted; the log has a line with queue_id=%s for each recipient", id, id)
				}
				if err != nil {
					return err
				}
				switch {
				case content:
					return t.print(ctx, m, std.out)
				case asJSON:
					return showJSON(m, entries, std.out)
				}
				return showQueued(m, entries, t.db.Now(), std.out)
			})
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "as JSON")
	c.Flags().BoolVar(&content, "content", false, "print the message itself")
	return c
}

// print writes the message as it will be sent.
func (t *queueTools) print(ctx context.Context, m *queue.Message, out io.Writer) error {
	if _, err := out.Write(m.Header); err != nil {
		return err
	}
	r, err := t.blobs.Open(ctx, m.Body)
	if err != nil {
		return err
	}
	defer r.Close()
	_, err = r.WriteTo(out)
	return err
}

func showJSON(m *queue.Message, entries []queue.Entry, out io.Writer) error {
	all := make([]queueEntryJSON, len(entries))
	for i, e := range entries {
		all[i] = entryJSON(e)
	}
	enc := json.NewEncoder(out)
	enc.SetIndent("", "  ")
	return enc.Encode(map[string]any{
		"queue_id": m.QueueID.String(), "from": m.ReversePath.String(), "size": m.Size(), "client": m.Client,
		"accepted": m.Accepted, "expires": m.Expires, "smtputf8": m.SMTPUTF8, "recipients": all,
	})
}

func showQueued(m *queue.Message, entries []queue.Entry, now time.Time, out io.Writer) error {
	fmt.Fprintf(out, "Message   %s\nFrom      %s\nSize      %s\nAccepted  %s (%s ago) from %s\nExpires   %s\n\n", m.QueueID, bracket(m.ReversePath.String()),
		octets(m.Size()), m.Accepted.UTC().Format(time.RFC3339), span(now.Sub(m.Accepted)), m.Client, m.Expires.UTC().Format(time.RFC3339))
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "TO\tSTATE\tATTEMPTS\tNEXT\tLAST ANSWER")
	for _, e := range entries {
		fmt.Fprintf(w, "%s\t%s\t%d\t%s\t%s\n", e.Recipient.Address, e.State, e.Attempts, next(e, now), answer(e.Last))
	}
	return w.Flush()
}

func queueChangeCommand(path *string, std streams, use, short, done string, do func(*queue.Queue, context.Context, queue.Filter) (int, error)) *cobra.Command {
	var s queueSelection
	c := &cobra.Command{
		Use: use + " [ID…]", Short: short,
		RunE: func(c *cobra.Command, ids []string) error {
			if s.isEmpty(ids) && !s.all {
				return fmt.Errorf("say which: queue ids, --sender, --domain, --state, or --all for the whole queue")
			}
			f, err := s.filter(ids)
			if err != nil {
				return err
			}
			return withQueue(c.Context(), *path, std, func(ctx context.Context, t *queueTools) error {
				n, err := do(t.queue, ctx, f)
				if err != nil {
					return err
				}
				t.wake(ctx)
				_, err = fmt.Fprintf(std.out, "%d recipients %s.\n", n, done)
				return err
			})
		},
	}
	s.flags(c)
	c.Flags().BoolVar(&s.all, "all", false, "the whole queue")
	return c
}

// mailq is `mailq`: the queue for people's eyes.
func mailq(ctx context.Context, config string, std streams) int {
	err := withQueue(ctx, config, std, func(ctx context.Context, t *queueTools) error {
		return listQueue(ctx, t, queue.Filter{}, false, std.out)
	})
	if err != nil {
		fmt.Fprintf(std.err, "mailq: %v\n", err)
		return exUnavailable
	}
	return 0
}
