package intake

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"dirpost/auth"
	"dirpost/directory"
	"dirpost/internal/blob"
	"dirpost/internal/envelope"
	"dirpost/internal/event"
	"dirpost/internal/message"
	"dirpost/internal/postgres"
	"dirpost/internal/store"
	"dirpost/internal/testenv"
	"dirpost/mta/queue"

	"github.com/emersion/go-imap/v2"
)

// rows records what would go into the queue; the queue itself has its own
// tests, and both together those of cmd/dirpost.
type rows struct {
	messages []*queue.Message
	rcpts    []queue.Recipient
	woken    int
}

func (q *rows) EnqueueTx(_ context.Context, _ postgres.Tx, m *queue.Message, r []queue.Recipient) error {
	q.messages, q.rcpts = append(q.messages, m), append(q.rcpts, r...)
	return nil
}
func (q *rows) Wake() { q.woken++ }

func (q *rows) AskTx(context.Context, postgres.Tx, queue.Question) error { return nil }
func (q *rows) Asked(context.Context, string) (queue.Asked, error) {
	return queue.Asked{}, queue.ErrNotFound
}
func (q *rows) DecideTx(context.Context, postgres.Tx, queue.Answer) error { return nil }

// events collects what is emitted.
type events struct {
	mu  sync.Mutex // guards all
	all []event.Event
}

func (e *events) Emit(_ context.Context, ev event.Event) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.all = append(e.all, ev)
}

// inboxes plans every delivery into INBOX; what else a plan may say is the
// delivery agent's matter.
type inboxes struct{ *store.Store }

func (s inboxes) Plan(ctx context.Context, r directory.LocalRecipient, _ *message.Parsed) (store.Delivery, error) {
	a, err := s.Account(ctx, string(r.Entry.Key), store.KindPerson)
	return store.Delivery{Account: a, Targets: []store.Target{{Mailbox: "INBOX"}}, Quota: r.Quota, Recipient: r.Recipient.Address}, err
}

// house is a door with a store on a database of its own, and a few people.
type house struct {
	*Door
	t     *testing.T
	queue *rows
	said  *events
}

func person(name string, f func(*directory.Entry)) *directory.Entry {
	a, err := envelope.ParseAddress(name + "@corp.example")
	if err != nil {
		panic(err)
	}
	e := &directory.Entry{Key: directory.Key("test:" + name), DN: "cn=" + name, Kind: directory.KindPerson, DisplayName: name, Primary: a,
		Login: directory.StateActive, Delivery: directory.StateActive, Logins: []string{name}}
	if f != nil {
		f(e)
	}
	return e
}

func newHouse(t *testing.T, entries ...*directory.Entry) *house {
	t.Helper()
	db := testenv.Database(t)
	blobs := blob.New(db)
	log := slog.New(slog.DiscardHandler)
	s := store.New(db, blobs, nil, log)
	if len(entries) == 0 {
		entries = []*directory.Entry{person("alice", nil), person("bob", nil), person("carol", nil)}
	}
	q, said := &rows{}, &events{}
	return &house{t: t, queue: q, said: said, Door: New(DefaultConfig("mail.corp.example"), Deps{
		DB: db, Store: s, Blobs: blobs, Queue: q, Directory: directory.NewLive(directory.NewSnapshot([]string{"corp.example"}, entries)),
		Planner: inboxes{s}, Events: said, Log: log,
	})}
}

func (h *house) as(name string) *auth.Identity {
	e := h.Directory.Snapshot().ByKey(directory.Key("test:" + name))
	return &auth.Identity{Person: e.Key, Address: e.Primary}
}

// send passes one message through the door.
func (h *house) send(id *auth.Identity, from string, to []string, text string) (Accepted, error) {
	h.t.Helper()
	env := MailParams{}
	if from != "" {
		env.ReversePath = envelope.ReversePathOf(address(h.t, from))
	}
	tx, err := h.Start(&envelope.Client{Addr: "192.0.2.1", Helo: "client.example.net", Protocol: "ESMTP", Session: "s"}, id, env)
	if err != nil {
		return Accepted{}, err
	}
	defer tx.Abort()
	for _, r := range to {
		if err := tx.AddRecipient(h.t.Context(), envelope.Recipient{Address: address(h.t, r)}); err != nil {
			return Accepted{}, err
		}
	}
	tx.Begin(h.t.Context())
	io.WriteString(tx, text)
	return tx.Commit(h.t.Context())
}

// inbox returns the messages in somebody's INBOX, whole.
func (h *house) inbox(name string) (out []string) {
	h.t.Helper()
	ctx := h.t.Context()
	a, err := h.Store.LookupAccount(ctx, "test:"+name)
	if errors.Is(err, envelope.ErrNotFound) || errors.Is(err, store.ErrNotFound) {
		return nil
	}
	if err != nil {
		h.t.Fatal(err)
	}
	m, err := h.Store.MailboxByName(ctx, a.ID, "INBOX")
	if err != nil {
		h.t.Fatal(err)
	}
	v, err := h.Store.Open(ctx, a.ID, m.ID)
	if err != nil {
		h.t.Fatal(err)
	}
	var uids []imap.UID
	for i := range v.Len() {
		uids = append(uids, v.UIDAt(i))
	}
	for msg, err := range h.Store.Messages(ctx, a.ID, m.ID, uids, store.ItemHeader|store.ItemBody) {
		if err != nil {
			h.t.Fatal(err)
		}
		r, err := h.Store.OpenMessage(ctx, a.ID, msg)
		if err != nil {
			h.t.Fatal(err)
		}
		var b strings.Builder
		if _, err := r.WriteTo(&b); err != nil {
			h.t.Fatal(err)
		}
		out = append(out, b.String())
	}
	return out
}

const plain = "From: Ann <ann@example.net>\r\nTo: bob@corp.example\r\nSubject: hello\r\nMessage-ID: <1@example.net>\r\n\r\nHello Bob.\r\n"

// A message from outside is in the mailbox when Commit returns, byte for byte
// behind our trace fields (RFC 5321 §4.4).
func TestDeliver(t *testing.T) {
	h := newHouse(t)
	acc, err := h.send(nil, "ann@example.net", []string{"bob@corp.example"}, plain)
	if err != nil {
		t.Fatal(err)
	}
	got := h.inbox("bob")
	if len(got) != 1 {
		t.Fatalf("%d messages in INBOX, want 1", len(got))
	}
	trace, ok := strings.CutSuffix(got[0], plain)
	if !ok {
		t.Fatalf("message changed:\n%s", got[0])
	}
	for _, want := range []string{"Return-Path: <ann@example.net>\r\nDelivered-To: bob@corp.example\r\nReceived: from client.example.net ([192.0.2.1])\r\n", "id " + acc.QueueID.String(), "for <bob@corp.example>"} {
		if !strings.Contains(trace, want) {
			t.Errorf("trace fields lack %q:\n%s", want, trace)
		}
	}
	// One grep for the id that the client got finds everything.
	for _, e := range h.said.all {
		if i := slices.IndexFunc(e.Attrs, func(a slog.Attr) bool { return a.Key == "queue_id" }); i < 0 || e.Attrs[i].Value.String() != acc.QueueID.String() {
			t.Errorf("event %q without the queue id: %v", e.Msg, e.Attrs)
		}
	}
	if len(h.said.all) != 2 {
		t.Errorf("%d events, want one for the message and one for the mailbox", len(h.said.all))
	}
	if acc.Delivered != 1 || acc.Queued != 0 || h.queue.woken != 0 {
		t.Errorf("accepted %+v, queue woken %d times", acc, h.queue.woken)
	}
}

// Whatever form an address takes, nothing leaves for a stranger: the decision
// is made on the parsed address (RFC 5321 §7.1, RFC 2505 §2.1).
func TestNeverAnOpenRelay(t *testing.T) {
	h := newHouse(t)
	for _, path := range []string{
		"<victim@example.org>",
		"<victim%example.org@corp.example>",
		"<victim@example.org@corp.example>",
		`<"victim@example.org"@corp.example>`,
		`<"victim%example.org"@corp.example>`,
		"<example.org!victim@corp.example>",
		"<@corp.example:victim@example.org>",
		"<@corp.example,@example.org:victim@example.org>",
		"<victim@[192.0.2.7]>",
		"<victim@[IPv6:2001:db8::7]>",
		"<victim@[127.0.0.1]>",
		"<victim@localhost>",
		"<victim@corp.example.example.org>",
		"<victim@CORP.EXAMPLE.example.org>",
		"<victim@corp.example.>",
		"<victim@xn--crp-0na.example>",
		"<victim@cörp.example>",
		"<victim@corp。example.org>",
		"<bob@corp.example\x00@example.org>",
		"<bob@corp.example victim@example.org>",
		`<"bob@corp.example, victim"@example.org>`,
		"<|/bin/sh@corp.example>",
		"</etc/passwd@corp.example>",
		"<:include:/etc/passwd@corp.example>",
	} {
		t.Run(path, func(t *testing.T) {
			a, rest, err := envelope.ParseForwardPath(path, "corp.example")
			if err != nil || rest != "" {
				return // refused by the grammar
			}
			tx, err := h.Start(&envelope.Client{}, nil, MailParams{})
			if err != nil {
				t.Fatal(err)
			}
			defer tx.Abort()
			err = tx.AddRecipient(t.Context(), envelope.Recipient{Address: a})
			if st := envelope.StatusOf(err); err == nil || st.Code != 550 {
				t.Errorf("%s was answered %v, want 550", path, err)
			}
		})
	}
}

// The directory names domains of ours, too. While it is away, or was not read yet,
// a domain that is not known is no reason to refuse mail for good, and still none
// to relay it.
func TestUnknownDomainWhileStale(t *testing.T) {
	h := newHouse(t)
	h.Directory = directory.Open(directory.Rules{Domains: []string{"corp.example"}})
	check := func(when, want string) {
		t.Helper()
		tx, err := h.Start(&envelope.Client{}, nil, MailParams{})
		if err != nil {
			t.Fatal(err)
		}
		defer tx.Abort()
		if got := status(tx.AddRecipient(t.Context(), envelope.Recipient{Address: address(t, "x@brand.example")})); got != want {
			t.Errorf("%s: answered %q, want %q", when, got, want)
		}
	}
	check("nothing was read", "4.4.3")
	h.Directory.Apply(1, []directory.Change{{Key: "test:alice", Entry: person("alice", nil)}})
	check("half of it was read", "4.4.3")
	h.Directory.Confirm(time.Now())
	check("complete", "5.7.1")
	h.Directory.Confirm(time.Time{})
	check("away", "4.4.3")
}

func TestRecipients(t *testing.T) {
	list := &directory.Entry{Key: "test:list", DN: "cn=list", Kind: directory.KindList, Primary: address(t, "list@corp.example"),
		Delivery: directory.StateActive, Policy: directory.ListOpen, Members: []string{"cn=alice", "cn=bob"}}
	full := person("full", func(e *directory.Entry) { e.Quota = 100 })
	h := newHouse(t, person("alice", nil), person("bob", nil), list, full)
	h.Directory.Snapshot()
	for _, tt := range []struct {
		name string
		to   []string
		want string // enhanced status, "" for success
		in   map[string]int
	}{
		{"unknown", []string{"nobody@corp.example"}, "5.1.1", nil},
		{"list", []string{"list@corp.example"}, "", map[string]int{"alice": 1, "bob": 1}},
		{"list and member: one copy", []string{"list@corp.example", "bob@corp.example"}, "", map[string]int{"alice": 1, "bob": 1}},
		{"twice the same: one copy", []string{"bob@corp.example", "BOB@corp.example"}, "", map[string]int{"bob": 1}},
		{"full mailbox alone", []string{"full@corp.example"}, "4.2.2", nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			before := map[string]int{"alice": len(h.inbox("alice")), "bob": len(h.inbox("bob"))}
			text := strings.Replace(plain, "<1@", "<"+strings.ReplaceAll(tt.name, " ", ".")+"@", 1)
			_, err := h.send(nil, "ann@example.net", tt.to, text)
			if got := status(err); got != tt.want {
				t.Fatalf("answered %q (%v), want %q", got, err, tt.want)
			}
			for name, n := range tt.in {
				if got := len(h.inbox(name)) - before[name]; got != n {
					t.Errorf("%s got %d copies, want %d", name, got, n)
				}
			}
		})
	}
}

func status(err error) string {
	if err == nil {
		return ""
	}
	return envelope.StatusOf(err).Enhanced
}

// One full mailbox does not keep the others from getting their mail: its
// recipient waits in the queue.
func TestFullMailboxAmongOthers(t *testing.T) {
	h := newHouse(t, person("alice", nil), person("full", func(e *directory.Entry) { e.Quota = 100 }))
	acc, err := h.send(nil, "ann@example.net", []string{"alice@corp.example", "full@corp.example"}, plain)
	if err != nil {
		t.Fatal(err)
	}
	if n := len(h.inbox("alice")); n != 1 {
		t.Errorf("alice has %d messages, want 1", n)
	}
	if acc.Queued != 1 || len(h.queue.rcpts) == 0 || h.queue.rcpts[len(h.queue.rcpts)-1].Local != "test:full" {
		t.Errorf("accepted %+v, queue %+v", acc, h.queue.rcpts)
	}
}

// The client's 250 got lost and it sends again: the answer is 250 again, the
// mailbox has one copy.
func TestRepeat(t *testing.T) {
	h := newHouse(t)
	for range 3 {
		if _, err := h.send(nil, "ann@example.net", []string{"bob@corp.example"}, plain); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(h.inbox("bob")); n != 1 {
		t.Errorf("%d copies after repeats, want 1", n)
	}
	other := strings.Replace(plain, "Hello", "Goodbye", 1)
	if _, err := h.send(nil, "ann@example.net", []string{"bob@corp.example"}, other); err != nil {
		t.Fatal(err)
	}
	if n := len(h.inbox("bob")); n != 2 {
		t.Errorf("%d messages, want 2: another body is another message", n)
	}
	anonymous := strings.Replace(plain, "Message-ID: <1@example.net>\r\n", "", 1)
	for range 2 {
		if _, err := h.send(nil, "ann@example.net", []string{"bob@corp.example"}, anonymous); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(h.inbox("bob")); n != 4 {
		t.Errorf("%d messages, want 4: without a Message-ID there is no telling", n)
	}
}

func TestSubmission(t *testing.T) {
	h := newHouse(t, person("alice", nil), person("bob", nil))
	text := "Received: forged\r\nBcc: secret@corp.example\r\nReturn-Path: <x@y.example>\r\nFrom: Alice <alice@corp.example>\r\nTo: bob@corp.example\r\nSubject: s\r\n\r\nx\r\n"
	acc, err := h.send(h.as("alice"), "alice@corp.example", []string{"bob@corp.example", "out@example.org"}, text)
	if err != nil {
		t.Fatal(err)
	}
	got := h.inbox("bob")
	if len(got) != 1 {
		t.Fatalf("%d messages, want 1", len(got))
	}
	for _, not := range []string{"forged", "Bcc:", "x@y.example"} {
		if strings.Contains(got[0], not) {
			t.Errorf("%q got through:\n%s", not, got[0])
		}
	}
	for _, want := range []string{"Date: ", "Message-ID: <" + acc.QueueID.String() + "@mail.corp.example>"} {
		if !strings.Contains(got[0], want) {
			t.Errorf("%q missing:\n%s", want, got[0])
		}
	}
	if acc.Queued != 1 || h.queue.rcpts[0].Address.String() != "out@example.org" || h.queue.woken != 1 {
		t.Errorf("accepted %+v, queue %+v", acc, h.queue.rcpts)
	}
}

// A person sends only as who they are (RFC 6409 §6.1).
func TestSubmissionSender(t *testing.T) {
	office := person("office", func(e *directory.Entry) { e.Kind = directory.KindShared; e.OnBehalf = []string{"cn=alice"} })
	h := newHouse(t, person("alice", nil), person("bob", nil), office)
	for _, tt := range []struct{ name, from, header, want, contains string }{
		{"own", "alice@corp.example", "alice@corp.example", "", ""},
		{"another's envelope", "bob@corp.example", "alice@corp.example", "5.7.1", ""},
		{"another's From", "alice@corp.example", "bob@corp.example", "5.7.1", ""},
		{"one own, one not", "alice@corp.example", "alice@corp.example, bob@corp.example", "5.7.1", ""},
		{"stranger's domain", "alice@corp.example", "alice@example.org", "5.7.1", ""},
		{"on behalf", "alice@corp.example", "office@corp.example", "", "Sender: \"alice\" <alice@corp.example>"},
		{"null reverse-path", "", "alice@corp.example", "", ""},
		{"own Sender", "alice@corp.example", "alice@corp.example\r\nSender: alice@corp.example", "", "Sender: alice@corp.example"},
		{"another's Sender", "alice@corp.example", "alice@corp.example\r\nSender: bob@corp.example", "", "for <bob@corp.example>"},
		{"no address", "alice@corp.example", "undisclosed", "5.6.0", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			before := len(h.inbox("bob"))
			text := fmt.Sprintf("From: %s\r\nMessage-ID: <%s@x>\r\n\r\nx\r\n", tt.header, strings.ReplaceAll(tt.name, " ", "."))
			_, err := h.send(h.as("alice"), tt.from, []string{"bob@corp.example"}, text)
			if got := status(err); got != tt.want {
				t.Fatalf("answered %q (%v), want %q", got, err, tt.want)
			}
			if got := h.inbox("bob"); len(got) > 0 && strings.Contains(got[len(got)-1], "Sender: bob@") {
				t.Errorf("forged Sender got through: %q", got[len(got)-1])
			}
			if tt.contains != "" {
				if got := h.inbox("bob"); len(got) != before+1 || !strings.Contains(got[before], tt.contains) {
					t.Errorf("message lacks %q: %q", tt.contains, got)
				}
			}
		})
	}
}

// Cron writes a From that is no address (RFC 6409 §8.8 lets us mend it); so do
// scripts. The user is known to the kernel.
func TestLocalSender(t *testing.T) {
	h := newHouse(t)
	for _, from := range []string{"From: root (Cron Daemon)\r\n", "From: \"root\" <root>\r\n", ""} {
		before := len(h.inbox("bob"))
		u := LocalUser{Login: "root", Name: "root", Address: address(t, "root@corp.example"), Trusted: true}
		tx, err := h.StartLocal(&envelope.Client{}, u, MailParams{ReversePath: envelope.ReversePathOf(u.Address)})
		if err != nil {
			t.Fatal(err)
		}
		if err := tx.AddRecipient(t.Context(), envelope.Recipient{Address: address(t, "bob@corp.example")}); err != nil {
			t.Fatal(err)
		}
		tx.Begin(t.Context())
		io.WriteString(tx, from+"Subject: cron\r\n\r\n"+from+"\r\n")
		if _, err := tx.Commit(t.Context()); err != nil {
			t.Errorf("%q: %v", from, err)
		}
		if got := h.inbox("bob"); len(got) != before+1 || !strings.Contains(got[before], "From: \"root\" <root@corp.example>\r\n") {
			t.Errorf("%q became %q", from, got)
		}
	}
}

// More recipients than fit into one transaction are queue rows of it.
func TestManyRecipients(t *testing.T) {
	var people []*directory.Entry
	var to []string
	for i := range 60 {
		p := person(fmt.Sprintf("p%02d", i), nil)
		people, to = append(people, p), append(to, p.Primary.String())
	}
	h := newHouse(t, people...)
	acc, err := h.send(nil, "ann@example.net", to, plain)
	if err != nil {
		t.Fatal(err)
	}
	if acc.Delivered != 50 || acc.Queued != 10 {
		t.Fatalf("accepted %+v, want 50 delivered and 10 queued", acc)
	}
	m := h.queue.messages[0]
	settled := 0
	if err := h.DeliverQueued(t.Context(), m, h.queue.rcpts, func(context.Context, postgres.Tx, []queue.Onward) error { settled++; return nil }); err != nil {
		t.Fatal(err)
	}
	if n := len(h.inbox("p59")); n != 1 || settled != 1 {
		t.Errorf("p59 has %d messages, settled %d times", n, settled)
	}
	// A crash after the COMMIT makes the queue try again: still one copy.
	if err := h.DeliverQueued(t.Context(), m, h.queue.rcpts, func(context.Context, postgres.Tx, []queue.Onward) error { return nil }); err != nil {
		t.Fatal(err)
	}
	if n := len(h.inbox("p59")); n != 1 {
		t.Errorf("p59 has %d messages after the second attempt, want 1", n)
	}
}

// The warning that a mailbox is full arrives in it.
func TestOriginateOverQuota(t *testing.T) {
	h := newHouse(t, person("full", func(e *directory.Entry) { e.Quota = 10 }))
	env := envelope.Envelope{Recipients: []envelope.Recipient{{Address: address(t, "full@corp.example")}}}
	if err := h.Originate(t.Context(), &env, strings.NewReader(plain), nil); err == nil && len(h.inbox("full")) > 0 {
		t.Error("a message of ours went into a full mailbox")
	}
	if err := h.OriginateOverQuota(t.Context(), &env, strings.NewReader(plain), nil); err != nil {
		t.Fatal(err)
	}
	if n := len(h.inbox("full")); n != 1 {
		t.Errorf("the warning arrived %d times", n)
	}
}

// A failing settlement undoes the delivery (exactly once inside our walls).
func TestDeliverQueuedWithSettlement(t *testing.T) {
	h := newHouse(t)
	if _, err := h.send(h.as("alice"), "alice@corp.example", []string{"out@example.org"}, "From: alice@corp.example\r\n\r\nx\r\n"); err != nil {
		t.Fatal(err)
	}
	m := h.queue.messages[0]
	rcpt := []queue.Recipient{{Address: address(t, "bob@corp.example"), Local: "test:bob"}}
	broken := errors.New("settlement failed")
	if err := h.DeliverQueued(t.Context(), m, rcpt, func(context.Context, postgres.Tx, []queue.Onward) error { return broken }); !errors.Is(err, broken) {
		t.Fatalf("got %v, want the settlement's error", err)
	}
	if n := len(h.inbox("bob")); n != 0 {
		t.Errorf("bob has %d messages of a transaction that was rolled back", n)
	}
	gone := []queue.Recipient{{Address: address(t, "left@corp.example"), Local: "test:left"}}
	if got := status(h.DeliverQueued(t.Context(), m, gone, nil)); got != "5.1.1" {
		t.Errorf("who has left: %q, want 5.1.1", got)
	}
}

// What came to us before for the same address goes round in a circle
// (RFC 5321 §6.3).
func TestLoop(t *testing.T) {
	h := newHouse(t)
	_, err := h.send(nil, "ann@example.net", []string{"bob@corp.example"}, "Delivered-To: bob@corp.example\r\n"+plain)
	if got := status(err); got != "5.4.6" {
		t.Errorf("answered %q (%v), want 5.4.6", got, err)
	}
	_, err = h.send(nil, "ann@example.net", []string{"bob@corp.example"}, strings.Repeat("Received: from a by b\r\n", 101)+plain)
	if got := status(err); got != "5.4.6" {
		t.Errorf("101 hops: answered %q (%v), want 5.4.6", got, err)
	}
}

func TestBadContent(t *testing.T) {
	h := newHouse(t)
	h.cfg.MaxSize = 1 << 16
	for _, tt := range []struct{ name, text, want string }{
		{"bare LF", "Subject: x\r\n\r\na\nb\r\n", "5.6.0"},
		{"bare CR", "Subject: x\r\n\r\na\rb\r\n", "5.6.0"},
		{"bare LF in the header", "Subject: x\nBcc: y\r\n\r\nb\r\n", "5.6.0"},
		{"too big", "Subject: x\r\n\r\n" + strings.Repeat("0123456789\r\n", 6000), "5.3.4"},
		{"no header at all", "\r\nbody\r\n", ""},
		{"no empty line", "Subject: x\r\n", ""},
		{"nothing", "", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := h.send(nil, "ann@example.net", []string{"bob@corp.example"}, tt.text)
			if got := status(err); got != tt.want {
				t.Errorf("answered %q (%v), want %q", got, err, tt.want)
			}
		})
	}
}

// A report of ours reaches a person at home and outside alike.
func TestOriginate(t *testing.T) {
	h := newHouse(t)
	report := "From: postmaster@corp.example\r\nSubject: report\r\n\r\nfailed\r\n"
	env := &envelope.Envelope{Recipients: []envelope.Recipient{{Address: address(t, "bob@corp.example")}, {Address: address(t, "out@example.org")}}}
	if err := h.Originate(t.Context(), env, strings.NewReader(report), nil); err != nil {
		t.Fatal(err)
	}
	got := h.inbox("bob")
	if len(got) != 1 || !strings.HasPrefix(got[0], "Return-Path: <>\r\n") {
		t.Errorf("bob has %q", got)
	}
	if !slices.ContainsFunc(h.queue.rcpts, func(r queue.Recipient) bool { return r.Address.String() == "out@example.org" }) {
		t.Errorf("queue %+v", h.queue.rcpts)
	}
}

// Nobody hears what becomes of a report: in a full mailbox it waits in the queue,
// for the lifetime of mail, and a list that people send as gets it whoever may
// post there.
func TestOriginateDespite(t *testing.T) {
	list := &directory.Entry{Key: "test:list", DN: "cn=list", Kind: directory.KindList, Primary: address(t, "list@corp.example"),
		Delivery: directory.StateActive, Policy: directory.ListOwners, Members: []string{"cn=alice"}}
	h := newHouse(t, person("alice", nil), list, person("full", func(e *directory.Entry) { e.Quota = 10 }))
	settled := 0
	for _, to := range []string{"list@corp.example", "full@corp.example"} {
		env := &envelope.Envelope{Recipients: []envelope.Recipient{{Address: address(t, to)}}}
		settle := func(context.Context, postgres.Tx) error { settled++; return nil }
		if err := h.Originate(t.Context(), env, strings.NewReader("Subject: report\r\n\r\nfailed\r\n"), settle); err != nil {
			t.Errorf("report to %s: %v", to, err)
		}
	}
	if n := len(h.inbox("alice")); n != 1 {
		t.Errorf("alice, of the list, has %d messages, want 1", n)
	}
	if len(h.queue.rcpts) != 1 || h.queue.rcpts[0].Local != "test:full" || settled != 2 {
		t.Errorf("settled %d times, queue %+v", settled, h.queue.rcpts)
	}
}

// Who asks for it is told that the message is in the mailbox (RFC 3461 §5.2.3): by
// the queue manager, which writes all reports.
func TestReportsSuccess(t *testing.T) {
	h := newHouse(t)
	tx, err := h.Start(&envelope.Client{}, nil, MailParams{ReversePath: envelope.ReversePathOf(address(t, "ann@example.net"))})
	if err != nil {
		t.Fatal(err)
	}
	for name, notify := range map[string]envelope.Notify{"alice": envelope.NotifySuccess | envelope.NotifyFailure, "bob": envelope.NotifyFailure} {
		if err := tx.AddRecipient(t.Context(), envelope.Recipient{Address: address(t, name+"@corp.example"), Notify: notify}); err != nil {
			t.Fatal(err)
		}
	}
	tx.Begin(t.Context())
	io.WriteString(tx, plain)
	if acc, err := tx.Commit(t.Context()); err != nil || acc.Delivered != 1 || acc.Queued != 1 || h.queue.rcpts[0].Local != "test:alice" {
		t.Fatalf("accepted %+v %v, queue %+v", acc, err, h.queue.rcpts)
	}
	if err := h.DeliverQueued(t.Context(), h.queue.messages[0], h.queue.rcpts, nil); err != nil {
		t.Fatal(err)
	}
	if n := len(h.inbox("alice")); n != 1 {
		t.Errorf("alice has %d messages, want 1", n)
	}
}

// A list that is expanded is a row for the report, its members are delivered to
// at once (RFC 3461 §5.2.7.4); the null reverse-path is never told.
func TestReportsExpansion(t *testing.T) {
	list := &directory.Entry{Key: "test:list", DN: "cn=list", Kind: directory.KindList, Primary: address(t, "list@corp.example"),
		Delivery: directory.StateActive, Policy: directory.ListOpen, Members: []string{"cn=alice", "cn=bob"}}
	owned := group("owned", func(e *directory.Entry) { e.Members, e.Owners = []string{"cn=alice", "cn=bob"}, []string{"cn=alice"} })
	h := newHouse(t, person("alice", nil), person("bob", nil), list, owned)
	for i, reverse := range []envelope.ReversePath{envelope.ReversePathOf(address(t, "ann@example.net")), {}, envelope.ReversePathOf(address(t, "ann@example.net"))} {
		h.queue.rcpts = nil
		to, want := list, queue.LocalExpanded
		if i == 2 {
			to, want = owned, queue.LocalDelivered
		}
		tx, err := h.Start(&envelope.Client{}, nil, MailParams{ReversePath: reverse})
		if err != nil {
			t.Fatal(err)
		}
		if err := tx.AddRecipient(t.Context(), envelope.Recipient{Address: to.Primary, Notify: envelope.NotifySuccess}); err != nil {
			t.Fatal(err)
		}
		tx.Begin(t.Context())
		io.WriteString(tx, strings.Replace(plain, "<1@", fmt.Sprintf("<x%d@", i), 1))
		acc, err := tx.Commit(t.Context())
		if err != nil || acc.Delivered != 2 {
			t.Fatalf("accepted %+v, %v", acc, err)
		}
		rows := h.queue.rcpts
		if reverse.IsNull() && len(rows) != 0 || !reverse.IsNull() && (len(rows) != 1 || rows[0].Local != want || rows[0].Address != to.Primary) {
			t.Errorf("from %s queued %+v", reverse, rows)
		}
	}
}

// A held list waits in the queue, and reaches its members when it is released.
func TestHeld(t *testing.T) {
	list := &directory.Entry{Key: "test:list", DN: "cn=list", Kind: directory.KindList, Primary: address(t, "list@corp.example"),
		Delivery: directory.StateActive, Policy: directory.ListModerated, Members: []string{"cn=alice"}, Owners: []string{"cn=alice"}}
	suspended := person("bob", func(e *directory.Entry) { e.Delivery = directory.StateHeld })
	h := newHouse(t, person("alice", nil), suspended, list)
	acc, err := h.send(nil, "ann@example.net", []string{"list@corp.example", "bob@corp.example"}, plain)
	if err != nil {
		t.Fatal(err)
	}
	if acc.Delivered != 0 || acc.Queued != 2 || !h.queue.rcpts[0].Held || !h.queue.rcpts[1].Held {
		t.Fatalf("accepted %+v, queue %+v", acc, h.queue.rcpts)
	}
	if err := h.DeliverQueued(t.Context(), h.queue.messages[0], h.queue.rcpts, nil); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"alice", "bob"} {
		if n := len(h.inbox(name)); n != 1 {
			t.Errorf("%s has %d messages after the release, want 1", name, n)
		}
	}
}

// A recipient that turns out to be none after RCPT does not keep the others
// from their mail; the queue reports it to the sender.
func TestRefusedAmongOthers(t *testing.T) {
	h := newHouse(t)
	looped := "Delivered-To: bob@corp.example\r\n" + plain
	acc, err := h.send(nil, "ann@example.net", []string{"alice@corp.example", "bob@corp.example"}, looped)
	if err != nil {
		t.Fatal(err)
	}
	if acc.Delivered != 1 || acc.Queued != 1 {
		t.Fatalf("accepted %+v, want one delivered, one for the queue", acc)
	}
	if got := status(h.DeliverQueued(t.Context(), h.queue.messages[0], h.queue.rcpts, nil)); got != "5.4.6" {
		t.Errorf("the queue finds %q, want 5.4.6", got)
	}
}
