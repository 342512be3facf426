package intake

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"time"

	"dirpost/directory"
	"dirpost/internal/blob"
	"dirpost/internal/envelope"
	"dirpost/internal/event"
	"dirpost/internal/message"
	"dirpost/internal/postgres"
	"dirpost/internal/store"
	"dirpost/mta/queue"
)

// Settle is SQL of the caller that belongs to the same transaction: the
// settlement of the queue rows that a delivery or a report is about. nil for
// none.
type Settle = func(ctx context.Context, tx postgres.Tx) error

// Commit ends the content and makes the message durable: when it returns nil,
// every recipient has it in the mailbox or in the queue, and 250 may be said.
// After an error nothing of it exists; envelope.StatusOf(err) is the answer.
func (t *Transaction) Commit(ctx context.Context) (Accepted, error) {
	var acc Accepted
	err := t.door.guard(ctx, t.QueueID(), func() (err error) {
		acc, err = t.commit(ctx, nil)
		return err
	})
	if err != nil {
		t.release()
		t.door.emitRefused(ctx, t, err)
	}
	return acc, err
}

func (t *Transaction) commit(ctx context.Context, settle Settle) (Accepted, error) {
	t.Begin(ctx)
	parsed, err := t.finish()
	if err != nil {
		return Accepted{}, err
	}
	planning := time.Now()
	exp := t.expanded(parsed.Header)
	if t.sender == nil {
		dropLoops(&exp, parsed.Header)
	}
	t.dropRounds(&exp, parsed.Header)
	t.unmoderated(&exp, parsed.Header)
	if len(exp.Local)+len(exp.Remote)+len(exp.Held) == 0 && t.decision == nil {
		return Accepted{}, refusalOf(exp)
	}
	p := t.plan(ctx, exp, parsed)
	p.times.planning, p.times.planned = planning, time.Now()
	p.settle = settle
	if err := t.content(ctx, p, parsed); err != nil {
		return Accepted{}, err
	}
	if err := t.ask(ctx, p, parsed); err != nil {
		return Accepted{}, err
	}
	if t.decision == nil {
		return t.door.commit(ctx, p)
	}
	if p.settle, err = t.settleDecision(ctx, p, parsed); err != nil {
		return Accepted{}, err
	}
	acc, err := t.door.commit(ctx, p)
	if errors.Is(err, queue.ErrDecided) {
		return acc, envelope.Because(statusDecided("decided by another moderator just now"), err)
	}
	if err == nil {
		t.door.Queue.Wake()
		t.door.emitDecided(ctx, t)
	}
	return acc, err
}

// expanded follows the recipients, now that it is known where the message has been:
// most messages nowhere, and have one recipient, whom RCPT has followed already.
func (t *Transaction) expanded(h message.Header) directory.Expansion {
	been := t.been(h)
	if t.first != nil && len(t.env.Recipients) == 1 && len(been) == 0 {
		return *t.first
	}
	return t.expand(t.env.Recipients, been)
}

// refusalOf is the answer to a message that no recipient may have; a list without members is nobody's address.
func refusalOf(exp directory.Expansion) error {
	if len(exp.Refused) == 0 {
		return envelope.ErrNotFound
	}
	return envelope.Because(exp.Refused[0].Status, nil)
}

// finish ends the content, mends the header and writes the trace field.
func (t *Transaction) finish() (*message.Parsed, error) {
	if t.err != nil {
		return nil, t.err
	}
	parsed := t.scanner.Close()
	if parsed.Defects&(message.DefectBareCR|message.DefectBareLF) != 0 {
		return nil, envelope.Because(envelope.Status{Code: 550, Enhanced: "5.6.0", Text: "Message contains a bare CR or LF"}, nil)
	}
	if parsed.Defects&message.DefectHeaderTooBig != 0 && parsed.HeaderSize >= int64(message.DefaultLimits().MaxHeader) {
		return nil, envelope.Because(envelope.StatusTooBig.WithText("Message header too big"), nil)
	}
	if len(parsed.Header.Values("Received")) > maxHops {
		return nil, envelope.Because(envelope.StatusLoop, fmt.Errorf("more than %d Received fields", maxHops))
	}
	if t.junk != "" {
		if err := parsed.Header.Prepend(message.JunkField, t.junk); err != nil {
			return nil, fmt.Errorf("junk field: %w", err)
		}
	}
	return parsed, nil
}

// maxHops is how many Received fields a message may bring; RFC 5321 §6.3 asks
// for at least 100.
const maxHops = 100

// plan is everything that one COMMIT will do.
type plan struct {
	content    store.Content
	deliveries []store.Delivery
	recipients map[store.AccountID]*directory.LocalRecipient
	lists      lists
	out        []*outgoing // what goes into the queue
	questions  []*question // to moderators, about rows of out
	asked      []queue.Question
	base       queue.Message // what all of out share, but for lists
	has8Bit    bool
	settle     Settle
	ours       bool   // of Transaction
	fromQueue  bool   // likewise
	author     string // directory key of who submits it, where that must be known later
	env        envelope.Envelope
	client     envelope.Client
	times      times
}

// outgoing is one message of the queue: the one that came in, or the one that a
// list makes of it.
type outgoing struct {
	list    *list // nil: as it came in
	ours    bool  // no form of it, but a message that it made us write
	message *queue.Message
	rcpts   []queue.Recipient
}

// queue lists a recipient for the queue, and returns its place within its message.
func (p *plan) queue(l *list, r queue.Recipient) int {
	r = l.recipient(r)
	for _, o := range p.out {
		if o.list == l && !o.ours {
			o.rcpts = append(o.rcpts, r)
			return len(o.rcpts) - 1
		}
	}
	p.out = append(p.out, &outgoing{list: l, rcpts: []queue.Recipient{r}})
	return 0
}

// queued is how many recipients the queue will see to.
func (p *plan) queued() (n int) {
	for _, o := range p.out {
		if !o.ours {
			n += len(o.rcpts)
		}
	}
	return n
}

// messages makes the messages of the queue. Each has an id of its own, as they
// differ; the one that came in keeps its id, unless it came from the queue, where
// messages are immutable.
func (p *plan) messages(d *Door) {
	for _, o := range p.out {
		if o.message != nil {
			continue
		}
		m := p.base
		if o.list != nil || p.fromQueue {
			m.QueueID = envelope.QueueID(d.DB.NewID())
		}
		o.list.message(&m)
		o.message = &m
	}
}

// plan asks the agent about each recipient of ours and lists the rest for the
// queue. A recipient whose plan cannot be made now becomes a queue row.
func (t *Transaction) plan(ctx context.Context, exp directory.Expansion, parsed *message.Parsed) *plan {
	p := &plan{recipients: make(map[store.AccountID]*directory.LocalRecipient, len(exp.Local)), env: t.env, client: t.client,
		lists: lists{snap: t.snap, env: &t.env, header: parsed.Header}, has8Bit: parsed.Defects&message.Defect8Bit != 0, ours: t.ours, fromQueue: t.queued, times: times{began: t.began}}
	if t.sender != nil && t.door.cfg.Authors {
		p.author = string(t.sender.Key)
	}
	// The reverse-path as the sender gave it, whatever lists make of it: a copy
	// by a list and one that was addressed to the person are the same message.
	repeat := repeatKey(t.env.ReversePath, parsed.Header)
	for i := range exp.Local {
		r := &exp.Local[i]
		l := p.lists.of(r.List)
		if t.overQuota {
			r.Quota = 0
		}
		if len(p.deliveries) >= t.door.cfg.InTransaction || t.reportsSuccess(r.Recipient) {
			p.queue(l, localRow(*r))
			continue
		}
		var d store.Delivery
		err := t.door.guard(ctx, t.queue, func() (err error) {
			d, err = t.door.Planner.Plan(ctx, *r, parsed)
			return err
		})
		if err != nil {
			t.door.Log.WarnContext(ctx, "plan failed, recipient queued", "queue_id", t.queue.String(), "to", r.Recipient.Address.String(), "err", err)
			p.queue(l, localRow(*r))
			continue
		}
		d.Repeat = repeat
		d.Prepend = append(copyFields(l.reversePath(t.env.ReversePath), mailboxAddress(*r)), l.lines()...)
		p.deliveries = append(p.deliveries, d)
		p.recipients[d.Account.ID] = r
	}
	for _, r := range exp.Held {
		row := queueRow(r.Recipient, string(r.Entry.Key), "")
		row.Held, row.Reason = true, queue.HeldByDirectory
		if r.Entry.Kind == directory.KindList {
			row.Local, row.Reason = queue.LocalExpand, "waits for a moderator of the list"
		}
		n := p.queue(p.lists.of(r.List), row)
		if address, ok := t.snap.ListAddress(r.Entry); ok && r.Entry.Kind == directory.KindList {
			p.questions = append(p.questions, &question{address: address, moderators: r.Moderators,
				Question: queue.Question{N: int32(n), List: string(r.Entry.Key), Address: address}})
		}
	}
	// Accepted at RCPT and refused now, while others get the message: the
	// queue finds the same answer and reports it to the sender.
	for _, r := range exp.Refused {
		p.queue(nil, queueRow(r.Recipient, queue.LocalExpand, ""))
	}
	for _, r := range exp.Expanded {
		if t.reportsSuccess(r.Recipient) {
			p.queue(nil, queueRow(r.Recipient, p.lists.of(r.Entry).success(), ""))
		}
	}
	for _, r := range exp.Remote {
		row := queueRow(r.Recipient, "", r.NextHop)
		if r.Entry != nil {
			row.Person = string(r.Entry.Key)
		}
		p.queue(p.lists.of(r.List), row)
	}
	return p
}

// reportsSuccess says whether the sender is to be told that r has got the message
// (RFC 3461 §5.2.3). Reports are written by the queue manager, so the queue
// delivers.
func (t *Transaction) reportsSuccess(r envelope.Recipient) bool {
	return !t.queued && r.Notify&envelope.NotifySuccess != 0 && !t.env.ReversePath.IsNull()
}

// localRow is the queue row of a recipient of ours who cannot be served within
// the accepting transaction.
func localRow(r directory.LocalRecipient) queue.Recipient {
	return queueRow(r.Recipient, string(r.Entry.Key), "")
}

func queueRow(r envelope.Recipient, local, nextHop string) queue.Recipient {
	return queue.Recipient{Address: r.Address, Original: r.Original, OriginalType: r.OriginalType, Notify: r.Notify, Local: local, NextHop: nextHop}
}

// repeatKey names a message as its sender made it: reverse-path and Message-ID
// here, the hash of the body joins in content. A message without a Message-ID
// has no such name (two runs of a job may send the very same text): zero.
func repeatKey(reverse envelope.ReversePath, h message.Header) (key [16]byte) {
	id := h.Get("Message-ID")
	if id == "" {
		return key
	}
	sum := sha256.New()
	sum.Write([]byte(reverse.String()))
	sum.Write([]byte{0})
	sum.Write([]byte(id))
	copy(key[:], sum.Sum(nil))
	return key
}

// content finishes body and header and fills in what all copies share.
func (t *Transaction) content(ctx context.Context, p *plan, parsed *message.Parsed) error {
	body, err := t.body.Finish(ctx, false)
	t.body = nil
	if err != nil {
		return fmt.Errorf("store body: %w", err)
	}
	if t.sender != nil {
		if err := t.mend(&parsed.Header); err != nil {
			return err
		}
	}
	if t.handsOver(p) {
		if err := parsed.Header.Prepend(handedOver, "by "+t.door.cfg.Hostname); err != nil {
			return fmt.Errorf("trace field: %w", err)
		}
	}
	now := t.door.now()
	header := parsed.Header
	if t.leaves(p) {
		if err := t.sign(ctx, &header, body); err != nil {
			return err
		}
	}
	raw := append(received(t.door.cfg.Hostname, &t.client, t.queue, t.env.Recipients, now), header.Bytes()...)
	for i := range p.deliveries {
		p.deliveries[i].Repeat = mix(p.deliveries[i].Repeat, body.Hash)
	}
	p.content = store.Content{
		QueueID:      t.queue,
		InternalDate: now,
		Header:       raw,
		Body:         body,
		Envelope:     header.Envelope(nil),
		Structure:    message.EncodeStructure(parsed.Root),
		Index:        store.Index(message.IndexOf(header)),
	}
	p.base = p.queueMessage()
	p.messages(t.door)
	return nil
}

// mix joins the hash of the body into a repeat key.
func mix(key [16]byte, hash [32]byte) [16]byte {
	if key == [16]byte{} {
		return key
	}
	for i := range key {
		key[i] ^= hash[i]
	}
	return key
}

// queueMessage is what the queue rows of p share.
func (p *plan) queueMessage() queue.Message {
	return queue.Message{
		QueueID:     p.content.QueueID,
		ReversePath: p.env.ReversePath,
		Return:      p.env.Return,
		EnvID:       p.env.EnvID,
		SMTPUTF8:    p.env.SMTPUTF8,
		Body8Bit:    p.has8Bit,
		Header:      p.content.Header,
		Body:        p.content.Body,
		Client:      p.client.Addr,
		Author:      p.author,
	}
}

// leaves says whether somebody outside will get the message.
func (t *Transaction) leaves(p *plan) bool {
	for _, o := range p.out {
		if slices.ContainsFunc(o.rcpts, func(r queue.Recipient) bool { return r.Local == "" }) {
			return t.sender != nil || t.ours
		}
	}
	return false
}

// sign adds the signature of the domain in From. A message without one is sent
// unsigned rather than held: the next hop judges it.
func (t *Transaction) sign(ctx context.Context, h *message.Header, body blob.Body) error {
	if t.door.Signer == nil {
		return nil
	}
	from := message.AddressList(*h, "From")
	if len(from) == 0 || !t.snap.IsLocalDomain(from[0].Domain) {
		return nil
	}
	r, err := t.door.Blobs.Open(ctx, body)
	if err != nil {
		return fmt.Errorf("read body for signature: %w", err)
	}
	defer r.Close()
	field, err := t.door.Signer.Sign(ctx, from[0].Domain, *h, io.NewSectionReader(r, 0, r.Size()))
	if err != nil {
		return fmt.Errorf("sign for %s: %w", from[0].Domain, err)
	}
	if field != nil {
		*h = message.ParseHeader(append(field, h.Bytes()...))
	}
	return nil
}

// commit carries out p. A recipient whose mailbox is full, or whose delivery
// makes the transaction fail for a reason of ours, becomes a queue row if
// others can be served; alone, the error is the answer, unless nobody is there to
// hear it: what we write ourselves waits in the queue.
func (d *Door) commit(ctx context.Context, p *plan) (Accepted, error) {
	p.times.committing = time.Now()
	for {
		delivered, err := d.Store.Commit(ctx, store.Unit{Content: &p.content, Deliveries: p.deliveries, Also: p.alsoFunc(d)})
		if err == nil {
			d.emitAccepted(ctx, p, delivered)
			if len(p.out) > 0 {
				d.Queue.Wake()
			}
			return Accepted{QueueID: p.content.QueueID, Delivered: len(delivered), Queued: p.queued()}, nil
		}
		alone := len(p.deliveries)+p.queued() < 2 && !p.ours
		if alone || p.fromQueue || ctx.Err() != nil || errors.Is(err, postgres.ErrUnknown) || errors.Is(err, queue.ErrLease) || errors.Is(err, queue.ErrDecided) {
			return Accepted{}, err
		}
		if err := d.postpone(ctx, p, err); err != nil {
			return Accepted{}, err
		}
	}
}

// alsoFunc returns the SQL that goes with the deliveries, nil for none.
func (p *plan) alsoFunc(d *Door) func(context.Context, postgres.Tx) error {
	if len(p.out) == 0 && p.settle == nil {
		return nil
	}
	return func(ctx context.Context, tx postgres.Tx) error {
		for _, o := range p.out {
			if err := d.Queue.EnqueueTx(ctx, tx, o.message, o.rcpts); err != nil {
				return err
			}
		}
		for _, q := range p.asked {
			if err := d.Queue.AskTx(ctx, tx, q); err != nil {
				return err
			}
		}
		if p.settle != nil {
			return p.settle(ctx, tx)
		}
		return nil
	}
}

// postpone turns what failed with cause into queue rows: the recipient that is
// known to be at fault, else all mailboxes, which the queue then serves one by
// one. It returns cause where nothing can be postponed.
func (d *Door) postpone(ctx context.Context, p *plan, cause error) error {
	if len(p.deliveries) == 0 {
		return cause
	}
	var full *store.OverQuotaError
	isFull := errors.As(cause, &full)
	rest := p.deliveries[:0:0]
	for _, del := range p.deliveries {
		if isFull && del.Account.ID != full.Account {
			rest = append(rest, del)
			continue
		}
		r := p.recipients[del.Account.ID]
		p.queue(p.lists.of(r.List), localRow(*r))
	}
	if isFull && len(rest) == len(p.deliveries) {
		return cause
	}
	p.deliveries = rest
	p.messages(d)
	d.Log.WarnContext(ctx, "delivery postponed", "queue_id", p.content.QueueID.String(), "nrcpt", p.queued(), "err", cause)
	return nil
}

// emitAccepted says what happened, one line for the message and one for each
// mailbox.
func (d *Door) emitAccepted(ctx context.Context, p *plan, delivered []store.Delivered) {
	trace := p.content.QueueID.String()
	d.Events.Emit(ctx, event.Event{Level: slog.LevelInfo, Room: "mta/intake", Msg: "message accepted", Trace: trace, Attrs: []slog.Attr{
		slog.String("queue_id", trace), slog.String("session", p.client.Session), slog.String("client", p.client.Addr), slog.String("user", p.client.Login),
		slog.String("from", p.env.ReversePath.String()), slog.Int("nrcpt", len(p.env.Recipients)),
		slog.Int64("size", int64(len(p.content.Header))+p.content.Body.Size), slog.Int("queued", p.queued()),
	}, Span: p.times.accepted(p.fromQueue)})
	for _, o := range p.out {
		if o.list != nil {
			d.Events.Emit(ctx, event.Event{Level: slog.LevelInfo, Room: "mta/intake", Msg: "list expanded", Trace: trace, Attrs: []slog.Attr{
				slog.String("queue_id", trace), slog.String("list", o.list.address.String()), slog.String("list_queue_id", o.message.QueueID.String()),
				slog.String("from", o.message.ReversePath.String()), slog.Int("nrcpt", len(o.rcpts)),
			}, Span: event.Span{Name: "list expanded"}})
		}
	}
	for _, del := range delivered {
		r := p.recipients[del.Account]
		status := "delivered"
		if del.Repeat {
			status = "repeated"
		}
		d.Events.Emit(ctx, event.Event{Level: slog.LevelInfo, Room: "mda", Msg: "delivery", Trace: trace, Attrs: []slog.Attr{
			slog.String("queue_id", trace), slog.String("to", r.Recipient.Address.String()), slog.String("orig_to", r.Recipient.Original),
			slog.String("relay", "local"), slog.String("dsn", "2.0.0"), slog.String("status", status),
		}, Span: p.times.delivered()})
	}
}

// emitRefused says why the content was not taken.
func (d *Door) emitRefused(ctx context.Context, t *Transaction, err error) {
	st := envelope.StatusOf(err)
	level := slog.LevelInfo
	if st == envelope.LocalError {
		level = slog.LevelError
	}
	d.Events.Emit(ctx, event.Event{Level: level, Room: "mta/intake", Msg: "message refused", Trace: t.QueueID().String(), Attrs: []slog.Attr{
		slog.String("queue_id", t.QueueID().String()), slog.String("session", t.client.Session), slog.String("client", t.client.Addr), slog.String("user", t.client.Login),
		slog.String("from", t.env.ReversePath.String()), slog.Int("nrcpt", len(t.env.Recipients)),
		slog.Int("code", st.Code), slog.String("dsn", st.Enhanced), slog.Any("err", err),
	}, Span: times{began: t.began}.refused()})
}
