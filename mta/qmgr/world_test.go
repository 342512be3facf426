package qmgr

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"dirpost/internal/blob"
	"dirpost/internal/envelope"
	"dirpost/internal/event"
	"dirpost/internal/postgres"
	"dirpost/internal/resolver"
	"dirpost/internal/testenv"
	"dirpost/mta/queue"
	"dirpost/mta/remote"
	"dirpost/mta/route"

	"github.com/emersion/go-smtp"
)

// world is a queue on a real database with what surrounds its manager.
type world struct {
	t      testing.TB
	db     *postgres.DB
	queue  *queue.Queue
	blobs  *blob.Store
	config Config
	router Router
	inside func(context.Context) (string, error)
	to     Transport // nil: SMTP
	gone   func(author string) string
	moved  func(*queue.Recipient) string
	door   *door
	events *events

	manager *Manager // once it was started
}

func newWorld(t testing.TB) *world {
	t.Helper()
	db := testenv.Database(t)
	w := &world{t: t, db: db, queue: queue.New(db, queue.Config{}), blobs: blob.New(db), events: newEvents(), door: &door{db: db}}
	w.config = Config{Node: "a", Hostname: "mail.corp.example", Postmaster: address(t, "postmaster@corp.example"), Grace: 5 * time.Second}
	return w
}

// start runs a manager until the test ends or stop is called.
func (w *world) start() (stop func()) {
	w.t.Helper()
	router := w.router
	if router == nil {
		dns, err := resolver.New(resolver.Config{Servers: []string{testenv.DNS(w.t).Addr}})
		if err != nil {
			w.t.Fatal(err)
		}
		if router, err = route.New(route.Config{Hostname: "mail.corp.example"}, dns, w.inside); err != nil {
			w.t.Fatal(err)
		}
	}
	log := slog.New(slog.DiscardHandler)
	to := w.to
	if to == nil {
		smtp, err := remote.New(remote.Config{Hostname: "mail.corp.example"}, w.blobs, log)
		if err != nil {
			w.t.Fatal(err)
		}
		w.t.Cleanup(smtp.Close)
		to = smtp
	}
	m, err := New(w.config, Deps{Queue: w.queue, Blobs: w.blobs, Router: router, Transport: to, Local: w.door, Originator: w.door, Now: w.db.Now, Departed: w.gone, Moved: w.moved, Events: w.events, Log: log})
	if err != nil {
		w.t.Fatal(err)
	}
	w.manager = m
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := m.Run(ctx); err != nil {
			w.t.Error(err)
		}
	}()
	stop = sync.OnceFunc(func() { cancel(); <-done })
	w.t.Cleanup(stop)
	return stop
}

// put queues a message to rcpts and returns its id.
func (w *world) put(change func(*queue.Message), rcpts ...queue.Recipient) envelope.QueueID {
	w.t.Helper()
	m := &queue.Message{
		QueueID: envelope.QueueID(w.db.NewID()), ReversePath: envelope.ReversePathOf(address(w.t, "alice@corp.example")),
		Header: []byte("Subject: plans\r\nMessage-ID: <1@corp.example>\r\n\r\n"), Body: blob.Body{Size: 7, Lines: 1, Inline: []byte("Hello\r\n")},
	}
	if change != nil {
		change(m)
	}
	err := w.db.InTx(w.t.Context(), postgres.Delivery, func(ctx context.Context, tx postgres.Tx) error { return w.queue.EnqueueTx(ctx, tx, m, rcpts) })
	if err != nil {
		w.t.Fatal(err)
	}
	w.queue.Wake()
	return m.QueueID
}

// entries is what is still queued.
func (w *world) entries() []queue.Entry {
	w.t.Helper()
	e, err := w.queue.List(w.t.Context(), queue.Filter{}, queue.Entry{}, 1000)
	if err != nil {
		w.t.Fatal(err)
	}
	return e
}

// empty waits until nothing is queued.
func (w *world) empty() {
	w.t.Helper()
	for deadline := time.Now().Add(30 * time.Second); ; {
		e := w.entries()
		if len(e) == 0 {
			return
		}
		if time.Now().After(deadline) {
			w.t.Fatalf("still queued: %+v", e)
		}
		time.Sleep(5 * time.Millisecond) // the database tells nobody that a table is empty
	}
}

func address(t testing.TB, s string) envelope.Address {
	t.Helper()
	a, err := envelope.ParseAddress(s)
	if err != nil {
		t.Fatalf("%s: %v", s, err)
	}
	return a
}

// via is a recipient with a given next hop.
func via(t testing.TB, hop, s string) queue.Recipient {
	return queue.Recipient{Address: address(t, s), Original: s, OriginalType: "rfc822", NextHop: hop}
}

// ours is a recipient with a mailbox here.
func ours(t testing.TB, s string) queue.Recipient {
	return queue.Recipient{Address: address(t, s), Original: s, Local: "main:" + s}
}

// events collects what was emitted.
type events struct {
	mu   sync.Mutex // guards all
	cond *sync.Cond
	all  []string
}

func newEvents() *events {
	e := new(events)
	e.cond = sync.NewCond(&e.mu)
	return e
}

// Emit keeps "to status dsn relay" of each delivery.
func (e *events) Emit(_ context.Context, ev event.Event) {
	values := map[string]string{}
	for _, a := range ev.Attrs {
		values[a.Key] = a.Value.String()
	}
	line := ev.Msg + " " + values["to"]
	if ev.Msg == "delivery" {
		host, _, _ := strings.Cut(values["relay"], "[")
		line = fmt.Sprintf("%s %s %s %s", values["to"], values["status"], values["dsn"], host)
		for _, key := range []string{"queue_id", "from", "delay", "delays"} {
			if values[key] == "" {
				line += " without " + key
			}
		}
	}
	e.mu.Lock()
	e.all = append(e.all, line)
	e.mu.Unlock()
	e.cond.Broadcast()
}

// wait returns the events, sorted, when there are n.
func (e *events) wait(t testing.TB, n int) string {
	t.Helper()
	timer := time.AfterFunc(30*time.Second, e.cond.Broadcast)
	defer timer.Stop()
	deadline := time.Now().Add(30 * time.Second)
	e.mu.Lock()
	defer e.mu.Unlock()
	for len(e.all) < n {
		if time.Now().After(deadline) {
			t.Fatalf("waited for %d events, have %q", n, e.all)
		}
		e.cond.Wait()
	}
	all := slices.Clone(e.all)
	slices.Sort(all)
	return strings.Join(all, "\n")
}

// door stands for intake: it has real transactions, and mailboxes that are lists.
type door struct {
	db     *postgres.DB
	fail   func(rcpts []queue.Recipient) error // of deliveries
	deny   func() error                        // of reports
	late   func() error                        // after the commit
	onward []queue.Onward                      // what has moved

	mu        sync.Mutex // guards the fields below
	delivered []string
	slices    []int
	reports   []string
}

func (d *door) DeliverQueued(ctx context.Context, m *queue.Message, rcpts []queue.Recipient, settle func(context.Context, postgres.Tx, []queue.Onward) error) error {
	if d.fail != nil {
		if err := d.fail(rcpts); err != nil {
			return err
		}
	}
	d.mu.Lock() // as in Originate
	defer d.mu.Unlock()
	if err := d.db.InTx(ctx, postgres.Delivery, func(ctx context.Context, tx postgres.Tx) error { return settle(ctx, tx, d.onward) }); err != nil {
		return err
	}
	d.slices = append(d.slices, len(rcpts))
	for _, r := range rcpts {
		d.delivered = append(d.delivered, r.Local)
	}
	if d.late != nil {
		return d.late()
	}
	return nil
}

func (d *door) Originate(ctx context.Context, env *envelope.Envelope, msg io.WriterTo, settle func(context.Context, postgres.Tx) error) error {
	if d.deny != nil {
		if err := d.deny(); err != nil {
			return err
		}
	}
	var b bytes.Buffer
	if _, err := msg.WriteTo(&b); err != nil {
		return err
	}
	if !env.ReversePath.IsNull() || len(env.Recipients) != 1 || env.Recipients[0].Notify != envelope.NotifyNever {
		return fmt.Errorf("envelope of a report: %+v", env)
	}
	// Whoever sees that the queue is empty finds the report.
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.db.InTx(ctx, postgres.Delivery, settle); err != nil {
		return err
	}
	d.reports = append(d.reports, "To: "+env.Recipients[0].Address.String()+"\r\n"+b.String())
	return nil
}

// brief is each report as its recipients with action, status and diagnosis.
func (d *door) brief() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	var all []string
	for _, r := range d.reports {
		var b strings.Builder
		for line := range strings.SplitSeq(r, "\r\n") {
			for _, f := range []string{"Final-Recipient: rfc822; ", "Action: ", "Status: ", "Diagnostic-Code: "} {
				if v, ok := strings.CutPrefix(line, f); ok {
					if f[0] == 'F' && b.Len() > 0 {
						b.WriteString(" | ")
					}
					b.WriteString(v + " ")
				}
			}
		}
		all = append(all, strings.TrimSpace(b.String()))
	}
	slices.Sort(all)
	return strings.Join(all, "\n")
}

// next is a server that refuses recipients by their first letter.
func next(t testing.TB, change func(*smtp.Server)) *testenv.SMTPServer {
	return testenv.SMTP(t, testenv.SMTPRefusal{Rcpt: func(to string) error {
		switch to[0] {
		case 'x':
			return &smtp.SMTPError{Code: 550, EnhancedCode: smtp.EnhancedCode{5, 1, 1}, Message: "nobody"}
		case 'y':
			return &smtp.SMTPError{Code: 450, EnhancedCode: smtp.EnhancedCode{4, 2, 0}, Message: "later"}
		}
		return nil
	}}, change)
}

type broken struct{ err error }

func (b broken) Route(context.Context, string, string) (*route.Route, error) { return nil, b.err }

// scripted is a transport that does as it is told.
type scripted func(ctx context.Context, rt *route.Route, m *queue.Message, attempts []queue.Attempt) []queue.Outcome

func (f scripted) Deliver(ctx context.Context, rt *route.Route, m *queue.Message, attempts []queue.Attempt) []queue.Outcome {
	return f(ctx, rt, m, attempts)
}

// straight is a router for scripted transports.
type straight struct{}

func (straight) Route(_ context.Context, domain, _ string) (*route.Route, error) {
	return &route.Route{Kind: route.ByMX, Name: domain, Hops: []route.Hop{{Host: domain, Addr: netip.MustParseAddrPort("192.0.2.1:25")}}}, nil
}

func sent(attempts []queue.Attempt) []queue.Outcome {
	return same(attempts, queue.Outcome{Reply: queue.Reply{Code: 250, Enhanced: "2.0.0", Relay: "next[192.0.2.1]:25"}})
}

func many(t testing.TB, i, n int) (rcpts []queue.Recipient) {
	for j := range n {
		rcpts = append(rcpts, queue.Recipient{Address: address(t, fmt.Sprintf("u%d@d%d.example", i, (i+j)%20))})
	}
	return rcpts
}
