package qmgr

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"dirpost/internal/blob"
	"dirpost/internal/envelope"
	"dirpost/internal/postgres"
	"dirpost/internal/testenv"
	"dirpost/mta/queue"
	"dirpost/mta/route"

	"github.com/emersion/go-smtp"
)

func TestOutcomes(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	srv := next(t, nil)
	id := w.put(nil, via(t, srv.Addr, "ok@a.example"), via(t, srv.Addr, "x@a.example"), via(t, srv.Addr, "y@a.example"), ours(t, "bob@corp.example"))
	w.start()
	want := "bob@corp.example delivered 2.0.0 local\nok@a.example sent 2.0.0 127.0.0.1\nx@a.example bounced 5.1.1 127.0.0.1\ny@a.example deferred 4.2.0 127.0.0.1"
	if got := w.events.wait(t, 4); got != want {
		t.Errorf("events:\n%s\nwant\n%s", got, want)
	}
	if m := srv.Messages(); len(m) != 1 || !strings.HasSuffix(m[0].Data, "\r\n\r\nHello\r\n") {
		t.Errorf("sent: %+v", m)
	}
	for _, e := range w.entries() {
		pause := e.Next.Sub(w.db.Now())
		switch e.Recipient.Address.Local {
		case "x": // waits for others of its message, a minute at most
			if e.State != queue.StateFinal || pause > time.Minute {
				t.Errorf("refused: %+v", e)
			}
		case "y":
			if e.State != queue.StateWaiting || pause < 4*time.Minute || pause > 6*time.Minute || e.Attempts != 1 || e.Last.Text != "later" {
				t.Errorf("deferred: %+v, in %v", e, pause)
			}
		default:
			t.Errorf("still queued: %+v", e)
		}
	}
	if n, err := w.queue.Delete(t.Context(), queue.Filter{QueueIDs: []envelope.QueueID{id}, States: []queue.State{queue.StateWaiting}}); n != 1 || err != nil {
		t.Error(n, err)
	}
}

// RFC 3461 §5: who is told what.
func TestReports(t *testing.T) {
	t.Parallel()
	plain, dsn := next(t, nil), next(t, func(s *smtp.Server) { s.EnableDSN = true })
	noted := func(r queue.Recipient, n envelope.Notify) queue.Recipient { r.Notify = n; return r }
	null := func(m *queue.Message) { m.ReversePath = envelope.ReversePath{} }
	x, ok := via(t, plain.Addr, "x@a.example"), via(t, plain.Addr, "ok@a.example")
	tests := []struct {
		name   string
		change func(*queue.Message)
		rcpts  []queue.Recipient
		want   string
	}{
		{"two destinations, one report", nil, []queue.Recipient{x, via(t, dsn.Addr, "x@b.example"), ok},
			"x@a.example failed 5.1.1 smtp; 550 5.1.1 nobody  | x@b.example failed 5.1.1 smtp; 550 5.1.1 nobody"},
		{"nothing about a report", null, []queue.Recipient{x}, ""},
		{"NOTIFY=NEVER", nil, []queue.Recipient{noted(x, envelope.NotifyNever)}, ""},
		{"NOTIFY=DELAY is not about failure", nil, []queue.Recipient{noted(x, envelope.NotifyDelay)}, ""},
		{"success is not told unasked", nil, []queue.Recipient{ok}, ""},
		{"NOTIFY=SUCCESS to a host without DSN", nil, []queue.Recipient{noted(ok, envelope.NotifySuccess)}, "ok@a.example relayed 2.0.0 smtp; 250 2.0.0 OK: queued"},
		{"NOTIFY=SUCCESS passed on", nil, []queue.Recipient{noted(via(t, dsn.Addr, "ok@a.example"), envelope.NotifySuccess)}, ""},
		{"NOTIFY=SUCCESS here", nil, []queue.Recipient{noted(ours(t, "bob@corp.example"), envelope.NotifySuccess)}, "bob@corp.example delivered 2.0.0"},
		{"RFC 3461 §5.2.7.4: a list, and a member of it", nil, []queue.Recipient{{Address: address(t, "sales@corp.example"), Local: queue.LocalExpanded, Notify: envelope.NotifySuccess}, noted(ours(t, "bob@corp.example"), envelope.NotifyFailure)},
			"sales@corp.example expanded 2.0.0"},
		{"RFC 3461 §5.2.7.1: a list of its own", nil, []queue.Recipient{{Address: address(t, "sales@corp.example"), Local: queue.LocalDelivered, Notify: envelope.NotifySuccess}},
			"sales@corp.example delivered 2.0.0"},
		{"our own finding", nil, []queue.Recipient{{Address: address(t, "bob@gone.example")}}, "bob@gone.example failed 5.1.2 X-Dirpost; Domain not found"},
		{"given up", func(m *queue.Message) { m.Expires = time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC) }, []queue.Recipient{via(t, plain.Addr, "y@a.example")},
			"y@a.example failed 5.4.7 X-Dirpost; delivery time expired; last: 450 4.2.0 later"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.put(tt.change, tt.rcpts...)
			stop := w.start()
			w.empty()
			stop()
			if got := w.door.brief(); got != tt.want {
				t.Errorf("reports:\n%s\nwant\n%s", got, tt.want)
			}
		})
	}
}

// Who has moved to another system is reported by the row that goes on there.
func TestMovedIsNotDelivered(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.door.onward = []queue.Onward{{Place: 0, QueueID: 7, NextHop: "exchange.corp.example:25"}}
	r := ours(t, "bob@corp.example")
	r.Notify = envelope.NotifySuccess
	w.put(nil, r)
	stop := w.start()
	w.empty()
	logged := w.events.wait(t, 1)
	stop()
	if got := w.door.brief(); got != "" {
		t.Errorf("reported: %s", got)
	}
	if want := "bob@corp.example moved 2.0.0 queue"; logged != want {
		t.Errorf("logged %q, want %q", logged, want)
	}
}

func TestDelayWarning(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.config.DelayWarning = 4 * time.Hour
	srv := next(t, nil)
	w.put(func(m *queue.Message) { m.Accepted = w.db.Now().Add(-5 * time.Hour) }, via(t, srv.Addr, "y@a.example"))
	stop := w.start()
	w.events.wait(t, 1) // after the report and the settlement
	if got, want := w.door.brief(), "y@a.example delayed 4.2.0 smtp; 450 4.2.0 later"; got != want {
		t.Errorf("warning: %q, want %q", got, want)
	}
	if _, err := w.queue.Retry(t.Context(), queue.Filter{}); err != nil {
		t.Fatal(err)
	}
	w.events.wait(t, 2)
	stop()
	if n := len(w.door.reports); n != 1 {
		t.Errorf("%d warnings, want one", n)
	}
	if e := w.entries(); len(e) != 1 || e[0].Attempts != 2 {
		t.Errorf("left: %+v", e)
	}
}

// Trouble of ours delays mail and never returns it.
func TestOurTrouble(t *testing.T) {
	t.Parallel()
	unclassified := errors.New("bug")
	tests := []struct {
		name   string
		change func(*world)
		rcpt   queue.Recipient
		want   string
	}{
		{"routing fails", func(w *world) { w.router = broken{unclassified} }, queue.Recipient{Address: address(t, "bob@a.example")}, "bob@a.example deferred 4.3.0 none"},
		{"directory away", func(w *world) { w.inside = func(context.Context) (string, error) { return "", envelope.ErrDirectory } }, queue.Recipient{Address: address(t, "bob@a.example")}, "bob@a.example deferred 4.4.3 none"},
		{"mailbox: database away", func(w *world) { w.door.fail = func([]queue.Recipient) error { return envelope.ErrDatabase } }, ours(t, "bob@corp.example"), "bob@corp.example deferred 4.3.0 local"},
		{"mailbox full", func(w *world) { w.door.fail = func([]queue.Recipient) error { return envelope.ErrOverQuota } }, ours(t, "bob@corp.example"), "bob@corp.example deferred 4.2.2 local"},
		{"mailbox gone is not ours", func(w *world) { w.door.fail = func([]queue.Recipient) error { return envelope.ErrNotFound } }, ours(t, "bob@corp.example"), "bob@corp.example bounced 5.1.1 local"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			tt.change(w)
			w.put(nil, tt.rcpt)
			w.start()
			if got := w.events.wait(t, 1); got != tt.want {
				t.Errorf("got %s, want %s", got, tt.want)
			}
		})
	}
}

// A report that cannot be accepted now stays; one whose sender does not exist is
// the end of it.
func TestReportRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	srv := next(t, nil)
	w.door.deny = func() error { return envelope.ErrNotFound }
	w.put(nil, via(t, srv.Addr, "x@a.example"))
	stop := w.start()
	if got := w.events.wait(t, 2); got != "report undeliverable alice@corp.example\nx@a.example bounced 5.1.1 127.0.0.1" {
		t.Errorf("events:\n%s", got)
	}
	w.empty()
	stop()

	asked := make(chan struct{}, 100)
	w.door.deny = func() error { asked <- struct{}{}; return envelope.ErrDatabase }
	w.put(nil, via(t, srv.Addr, "x@a.example"))
	w.config.Lease = 500 * time.Millisecond
	w.start()
	<-asked
	<-asked // once more when the lease is over
	if e := w.entries(); len(e) != 1 || e[0].State != queue.StateReporting {
		t.Errorf("left: %+v", e)
	}
}

// A slice in which one mailbox fails is delivered one by one; who failed is told
// and nobody else gets it twice.
func TestLocalSlices(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.config.LocalSlice = 10
	w.door.fail = func(rcpts []queue.Recipient) error {
		for _, r := range rcpts {
			if r.Address.Local == "u7" {
				return envelope.ErrNotFound
			}
		}
		return nil
	}
	var rcpts []queue.Recipient
	for i := range 25 {
		rcpts = append(rcpts, ours(t, fmt.Sprintf("u%d@corp.example", i)))
	}
	w.put(nil, rcpts...)
	stop := w.start()
	w.empty()
	stop()
	slices.Sort(w.door.delivered)
	if n := len(slices.Compact(w.door.delivered)); n != 24 || len(w.door.delivered) != 24 {
		t.Errorf("%d mailboxes of %d deliveries", n, len(w.door.delivered))
	}
	if got := w.door.brief(); got != "u7@corp.example failed 5.1.1 X-Dirpost; No such mailbox here" {
		t.Errorf("report: %s", got)
	}
	if slices.Max(w.door.slices) > 10 {
		t.Errorf("slices %v", w.door.slices)
	}
}

// Nobody knows whether a COMMIT happened: the lease decides, and the mailbox gets
// it once.
func TestUnknownCommit(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.door.late = func() error { return envelope.Because(envelope.StatusDatabase, postgres.ErrUnknown) }
	w.put(nil, ours(t, "bob@corp.example"))
	w.config.Lease = 300 * time.Millisecond
	stop := w.start()
	w.empty()
	stop()
	if len(w.door.delivered) != 1 || len(w.door.reports) != 0 {
		t.Errorf("delivered %v, reports %v", w.door.delivered, w.door.reports)
	}
}

// Nothing leaves: the demo's rule.
func TestInside(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.inside = func(context.Context) (string, error) { return "main:outbound", nil }
	w.put(nil, queue.Recipient{Address: address(t, "bob@a.example")}, via(t, "192.0.2.1:25", "carol@b.example"))
	stop := w.start()
	if got := w.events.wait(t, 2); got != "bob@a.example delivered 2.0.0 local\ncarol@b.example delivered 2.0.0 local" {
		t.Errorf("events:\n%s", got)
	}
	stop()
	if fmt.Sprint(w.door.delivered) != "[main:outbound main:outbound]" {
		t.Errorf("delivered to %v", w.door.delivered)
	}
}

// Two nodes on one database: nothing is sent twice, nothing is left.
func TestTwoNodes(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	var mu sync.Mutex
	seen := map[string]int{}
	w.router = straight{}
	w.to = scripted(func(_ context.Context, _ *route.Route, m *queue.Message, attempts []queue.Attempt) []queue.Outcome {
		mu.Lock()
		defer mu.Unlock()
		for _, a := range attempts {
			seen[m.QueueID.String()+a.Recipient.Address.String()]++
		}
		return sent(attempts)
	})
	const messages, recipients = 100, 4
	for i := range messages / 2 {
		w.put(nil, many(t, i, recipients)...)
	}
	w.start()
	w.config.Node = "b"
	other := *w
	other.queue = queue.New(w.db, queue.Config{})
	other.start()
	for i := range messages / 2 {
		other.put(nil, many(t, i, recipients)...)
	}
	w.empty()
	mu.Lock()
	defer mu.Unlock()
	if len(seen) != messages*recipients {
		t.Errorf("%d recipients were served, want %d", len(seen), messages*recipients)
	}
	for k, n := range seen {
		if n != 1 {
			t.Errorf("%s was served %d times", k, n)
		}
	}
}

// A node dies while it sends: another one sends when the lease is over.
func TestNodeDies(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.router = straight{}
	id := w.put(nil, many(t, 1, 3)...)
	var shards []int16
	for i := range int16(queue.Shards) {
		shards = append(shards, i)
	}
	held, err := w.queue.Claim(t.Context(), queue.Claim{Shards: shards, Lease: time.Second}) // and never heard of again
	if err != nil || len(held) != 3 {
		t.Fatal(held, err)
	}
	var mu sync.Mutex
	served := 0
	w.to = scripted(func(_ context.Context, _ *route.Route, m *queue.Message, attempts []queue.Attempt) []queue.Outcome {
		mu.Lock()
		defer mu.Unlock()
		served += len(attempts)
		return sent(attempts)
	})
	stop := w.start()
	w.empty()
	stop()
	if served != 3 {
		t.Errorf("served %d", served)
	}
	if there, err := w.queue.Exists(t.Context(), id); there || err != nil {
		t.Error("message is left", err)
	}
}

// Shutdown lets what is under way end, and gives back what does not.
func TestShutdown(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.config.Grace = 50 * time.Millisecond
	w.router = straight{}
	began := make(chan struct{}, 2)
	w.to = scripted(func(ctx context.Context, rt *route.Route, m *queue.Message, attempts []queue.Attempt) []queue.Outcome {
		began <- struct{}{}
		if rt.Name == "d1.example" {
			<-ctx.Done()
			return same(attempts, queue.Outcome{Reply: queue.Reply{Enhanced: "4.4.2", Text: "lost connection"}})
		}
		return sent(attempts)
	})
	w.put(nil, many(t, 1, 2)...)
	stop := w.start()
	<-began
	<-began
	stop()
	e := w.entries()
	if len(e) != 1 || e[0].State != queue.StateWaiting || e[0].Attempts != 0 || e[0].Next.After(w.db.Now()) {
		t.Errorf("left: %+v", e)
	}
}

// Long transfers keep their lease.
func TestHeartbeat(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.router = straight{}
	w.config.Lease = 300 * time.Millisecond
	var mu sync.Mutex
	served := 0
	w.to = scripted(func(ctx context.Context, rt *route.Route, m *queue.Message, attempts []queue.Attempt) []queue.Outcome {
		mu.Lock()
		served++
		mu.Unlock()
		time.Sleep(time.Second) // a slow peer: three leases long
		return sent(attempts)
	})
	w.put(nil, many(t, 1, 1)...)
	stop := w.start()
	w.empty()
	stop()
	if served != 1 {
		t.Errorf("sent %d times", served)
	}
}

// A destination that cannot be reached is asked a few times, then the rest waits
// with it.
func TestDead(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.router = straight{}
	var mu sync.Mutex
	asked := 0
	w.to = scripted(func(_ context.Context, rt *route.Route, m *queue.Message, attempts []queue.Attempt) []queue.Outcome {
		mu.Lock()
		defer mu.Unlock()
		asked++
		return same(attempts, queue.Outcome{Down: true, Reply: queue.Reply{Enhanced: "4.4.1", Text: "connection timed out", Relay: "none"}})
	})
	for i := range 30 {
		w.put(nil, queue.Recipient{Address: address(t, fmt.Sprintf("u%d@dead.example", i))})
	}
	w.start()
	w.events.wait(t, 30)
	mu.Lock()
	defer mu.Unlock()
	if asked > 5 {
		t.Errorf("asked %d times", asked)
	}
	for _, e := range w.entries() {
		if e.State != queue.StateWaiting || e.Last.Enhanced != "4.4.1" {
			t.Errorf("left: %+v", e)
		}
	}
}

// Who asks that mail be tried at once is not told that its destination was away a minute
// ago, on whichever node that is known; but what is known from after that counts.
func TestRetryDead(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.router = straight{}
	var away atomic.Bool
	var asked atomic.Int32
	away.Store(true)
	w.to = scripted(func(_ context.Context, _ *route.Route, _ *queue.Message, attempts []queue.Attempt) []queue.Outcome {
		asked.Add(1)
		if away.Load() {
			return same(attempts, queue.Outcome{Down: true, Reply: queue.Reply{Enhanced: "4.4.1", Text: "connection timed out", Relay: "none"}})
		}
		return sent(attempts)
	})
	const messages = 10
	for i := range messages {
		w.put(nil, queue.Recipient{Address: address(t, fmt.Sprintf("u%d@dead.example", i))})
	}
	w.start()
	w.events.wait(t, messages)
	before := asked.Load()
	retry := func() {
		t.Helper()
		// From a command, which is no node.
		if n, err := queue.New(w.db, queue.Config{}).Retry(t.Context(), queue.Filter{}); n != messages || err != nil {
			t.Fatalf("%d recipients, %v", n, err)
		}
		w.queue.WakeHere()
	}
	retry()
	w.events.wait(t, 2*messages)
	if n := asked.Load(); n == before || n > before+5 {
		t.Errorf("asked %d times, and %d times when it was to be tried again", before, n-before)
	}
	away.Store(false)
	retry()
	w.empty()
}

// A large body goes through in pieces, exactly as it was.
func TestLargeBody(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	srv := next(t, nil)
	bw := w.blobs.NewWriter(t.Context())
	line := strings.Repeat("0123456789", 7) + "\r\n"
	for range 5 << 20 / len(line) {
		if _, err := io.WriteString(bw, "."+line); err != nil {
			t.Fatal(err)
		}
	}
	body, err := bw.Finish(t.Context(), true)
	if err != nil {
		t.Fatal(err)
	}
	w.put(func(m *queue.Message) { m.Body = body }, via(t, srv.Addr, "ok@a.example"))
	w.start()
	w.empty()
	m := srv.Messages()
	if len(m) != 1 {
		t.Fatalf("%d messages", len(m))
	}
	_, got, _ := strings.Cut(m[0].Data, "\r\n\r\n")
	if want := strings.Repeat("."+line, 5<<20/len(line)); got != want {
		t.Errorf("%d octets arrived of %d", len(got), len(want))
	}
}

func BenchmarkRelay(b *testing.B) {
	w := newWorld(b)
	var wg sync.WaitGroup
	srv := testenv.SMTP(b, testenv.SMTPRefusal{Data: func(testenv.SMTPMessage) error { wg.Done(); return nil }}, nil)
	body := strings.Repeat("0123456789012345678901234567890123456789012345678901234567890\r\n", 65)
	for i := range b.N {
		w.put(func(m *queue.Message) { m.Body = blob.Body{Size: int64(len(body)), Inline: []byte(body)} }, via(b, srv.Addr, fmt.Sprintf("u%d@a.example", i)))
	}
	wg.Add(b.N)
	b.ResetTimer()
	w.start()
	wg.Wait()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "msg/s")
}
