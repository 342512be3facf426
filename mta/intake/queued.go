package intake

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"dirpost/directory"
	"dirpost/internal/envelope"
	"dirpost/internal/message"
	"dirpost/internal/postgres"
	"dirpost/internal/store"
	"dirpost/mta/queue"
)

// SettleQueued is the settlement of the rows of queued recipients, which commits
// with their deliveries or not at all. onward are those that go on as rows of
// another message: what they come to is not known yet.
type SettleQueued = func(ctx context.Context, tx postgres.Tx, onward []queue.Onward) error

// DeliverQueued delivers a queued message to recipients of ours: the rest of a
// large list, or a mailbox that could not be had when the message came. Each mailbox
// gets the message exactly once, and whose mailbox another system has by now, there.
//
// One error is for all of them: the caller tries them one by one to learn whose
// it is. Someone who has left the directory is 550 5.1.1.
func (d *Door) DeliverQueued(ctx context.Context, m *queue.Message, rcpts []queue.Recipient, settle SettleQueued) error {
	c, err := d.contents.get(ctx, d, m)
	if err != nil {
		return err
	}
	t := &Transaction{door: d, queued: true, env: envelope.Envelope{ReversePath: m.ReversePath}, client: envelope.Client{Addr: m.Client}, snap: d.Directory.Snapshot(), began: time.Now()}
	exp, moved, err := t.expandQueued(m, c.header, rcpts)
	if err != nil {
		return err
	}
	p := t.plan(ctx, exp, &message.Parsed{Header: c.header})
	p.content = c.content
	key := mix(repeatKey(m.Sender(), c.header), m.Body.Hash)
	if strings.Contains(c.header.Get("Message-ID"), m.QueueID.String()) {
		key = [16]byte{} // ours, from mend: the sender gave it none
	}
	for i := range p.deliveries {
		p.deliveries[i].Repeat = key
	}
	if p.queued() > len(moved) && !expands(rcpts) {
		return envelope.Because(envelope.LocalError, fmt.Errorf("no plan for %d of %d recipients", p.queued()-len(moved), len(rcpts)))
	}
	if len(p.out) > 0 {
		// What goes on from here is a message of its own with the same content:
		// the queued one is immutable.
		p.base = *m
		if t.handsOver(p) {
			if p.base.Header, err = d.markHandedOver(m.Header); err != nil {
				return err
			}
		}
		p.messages(d)
	}
	for _, o := range p.out {
		for i := range moved {
			if o.list == nil && !o.ours {
				moved[i].QueueID = o.message.QueueID
			}
		}
	}
	if settle != nil {
		p.settle = func(ctx context.Context, tx postgres.Tx) error { return settle(ctx, tx, moved) }
	}
	_, err = d.commit(ctx, p)
	return err
}

func expands(rcpts []queue.Recipient) bool {
	return slices.ContainsFunc(rcpts, func(r queue.Recipient) bool { return r.Local == queue.LocalExpand })
}

// expandQueued finds the mailboxes of queued recipients. moved are those who waited
// for a mailbox that another system has now. What is refused is the error: the queue
// manager reports it.
func (t *Transaction) expandQueued(m *queue.Message, h message.Header, rcpts []queue.Recipient) (exp directory.Expansion, moved []queue.Onward, err error) {
	for i, r := range rcpts {
		rcpt := envelope.Recipient{Address: r.Address, Original: r.Original, OriginalType: r.OriginalType, Notify: r.Notify}
		if r.Local == queue.LocalExpand {
			rcpt.Notify = rcpt.Notify.Onward() // the row itself reports
			more := t.snap.Expand([]envelope.Recipient{rcpt}, directory.Terms{Released: true, From: m.ReversePath, Been: deliveredTo(h)})
			exp.Local, exp.Remote, exp.Refused = append(exp.Local, more.Local...), append(exp.Remote, more.Remote...), append(exp.Refused, more.Refused...)
			exp.Held = append(exp.Held, more.Held...) // members whose delivery is held
			continue
		}
		// Not by its address, which may be that of a list that the message came by.
		to := t.snap.Awaited(directory.Key(r.Local), r.Address)
		switch {
		case !to.OK():
			return exp, nil, envelope.Because(to.Status, nil)
		case to.Home == directory.HomeHere:
			exp.Local = append(exp.Local, directory.LocalRecipient{Entry: to.Entry, Recipient: rcpt, Quota: t.snap.Limits(to.Entry).Quota})
		default:
			rcpt.Address = to.Target
			exp.Remote = append(exp.Remote, directory.RemoteRecipient{Entry: to.Entry, Recipient: rcpt, NextHop: to.NextHop})
			moved = append(moved, queue.Onward{Place: i, NextHop: to.NextHop})
		}
	}
	dropLoops(&exp, h)
	if len(exp.Refused) > 0 {
		return exp, nil, refusalOf(exp)
	}
	t.dropRounds(&exp, h)
	alone := len(rcpts) > 1 || !expands(rcpts) || len(exp.Local)+len(exp.Remote)+len(exp.Held) == 0
	if len(exp.Refused) > 0 && alone { // else a member of a list, who gets a row of its own to be refused
		return exp, nil, refusalOf(exp)
	}
	return exp, moved, nil
}

// Moved says which queued recipient of another system is to go through DeliverQueued
// instead, with the directory key that it returns as queue.Recipient.Local: the mailbox
// is ours by now, or is reached in another way. It is "" for all others, also for those
// whose home is not known now.
func (d *Door) Moved(r *queue.Recipient) string {
	if r.Local != "" || r.NextHop == "" {
		return ""
	}
	return string(d.Directory.Snapshot().Moved(directory.Key(r.Person), r.Address, r.NextHop))
}

// Originate lets in a message that Dirpost itself wrote: a report, a notice.
// msg is complete and canonical. settle commits with it or not at all.
func (d *Door) Originate(ctx context.Context, env *envelope.Envelope, msg io.WriterTo, settle Settle) error {
	return d.originateOwn(ctx, env, msg, settle, false)
}

// OriginateOverQuota is Originate for what must arrive in a mailbox that is full: the
// warning that it is.
func (d *Door) OriginateOverQuota(ctx context.Context, env *envelope.Envelope, msg io.WriterTo, settle Settle) error {
	return d.originateOwn(ctx, env, msg, settle, true)
}

func (d *Door) originateOwn(ctx context.Context, env *envelope.Envelope, msg io.WriterTo, settle Settle, overQuota bool) error {
	t := &Transaction{door: d, ours: true, overQuota: overQuota, env: *env, snap: d.Directory.Snapshot(), began: time.Now(),
		client: envelope.Client{Helo: d.cfg.Hostname, Protocol: "local", Received: d.now()}}
	t.env.Recipients = nil
	for _, r := range env.Recipients {
		if err := t.AddRecipient(ctx, r); err != nil {
			return fmt.Errorf("recipient %s: %w", r.Address, err)
		}
	}
	t.Begin(ctx)
	if _, err := msg.WriteTo(t); err != nil {
		t.Abort()
		return fmt.Errorf("write message: %w", err)
	}
	if _, err := t.commit(ctx, settle); err != nil {
		t.release()
		return err
	}
	return nil
}

// queuedContent is a queued message as the store takes it.
type queuedContent struct {
	content store.Content
	header  message.Header
}

// contents remembers the last few queued messages in the form that delivery
// needs, so that the slices of a large list parse it once.
type contents struct {
	mu    sync.Mutex // guards the fields below
	size  int
	order []envelope.QueueID
	byID  map[envelope.QueueID]*queuedContent
}

func newContents(size int) *contents {
	return &contents{size: size, byID: make(map[envelope.QueueID]*queuedContent, size)}
}

func (c *contents) get(ctx context.Context, d *Door, m *queue.Message) (*queuedContent, error) {
	c.mu.Lock()
	q := c.byID[m.QueueID]
	c.mu.Unlock()
	if q != nil {
		return q, nil
	}
	q, err := d.parseQueued(ctx, m)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, ok := c.byID[m.QueueID]; !ok {
		if len(c.order) == c.size {
			delete(c.byID, c.order[0])
			c.order = c.order[1:]
		}
		c.order = append(c.order, m.QueueID)
		c.byID[m.QueueID] = q
	}
	return q, nil
}

// parseQueued reads a queued message again and rebuilds what the store keeps.
func (d *Door) parseQueued(ctx context.Context, m *queue.Message) (*queuedContent, error) {
	r, err := d.Blobs.Open(ctx, m.Body)
	if err != nil {
		return nil, fmt.Errorf("open body of %s: %w", m.QueueID, err)
	}
	s := message.NewScanner(message.DefaultLimits())
	s.Write(m.Header)
	defer r.Close()
	if _, err := r.WriteTo(s); err != nil {
		return nil, fmt.Errorf("read body of %s: %w", m.QueueID, err)
	}
	parsed := s.Close()
	header := message.ParseHeader(m.Header)
	return &queuedContent{header: header, content: store.Content{
		QueueID: m.QueueID, InternalDate: m.Accepted, Header: m.Header, Body: m.Body,
		Envelope: header.Envelope(nil), Structure: message.EncodeStructure(parsed.Root), Index: store.Index(message.IndexOf(header)),
	}}, nil
}
