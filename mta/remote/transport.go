package remote

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"time"

	"dirpost/internal/blob"
	"dirpost/internal/envelope"
	"dirpost/internal/message"
	"dirpost/mta/queue"
	"dirpost/mta/route"
)

// Transport delivers by SMTP. Make one with New.
type Transport struct {
	config  Config
	blobs   *blob.Store
	log     *slog.Logger
	tickets tls.ClientSessionCache
	idle    idle
}

// New returns a Transport that reads bodies from blobs.
func New(c Config, blobs *blob.Store, log *slog.Logger) (*Transport, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	t := &Transport{config: c.withDefaults(), blobs: blobs, log: log, tickets: tls.NewLRUClientSessionCache(1024)}
	t.idle.keep = t.config.KeepIdle
	return t, nil
}

// Close ends the connections that wait for more.
func (t *Transport) Close() { t.idle.close() }

// maxSessions is how many hosts get to see one message in one attempt. Beyond
// two, a host more rarely helps and the lease grows old.
const maxSessions = 2

// Deliver sends m along rt to the recipients of attempts and returns an outcome
// for each, in their order. It never fails as a whole.
func (t *Transport) Deliver(ctx context.Context, rt *route.Route, m *queue.Message, attempts []queue.Attempt) []queue.Outcome {
	d := &delivery{t: t, m: m, attempts: attempts, outcomes: make([]queue.Outcome, len(attempts))}
	for i := range attempts {
		d.pending = append(d.pending, i)
		d.outcomes[i].Reply = queue.Reply{Enhanced: "4.4.1", Text: "no host of the destination was tried", Relay: "none"}
	}
	d.utf8Header = slices.ContainsFunc(m.Header, func(c byte) bool { return c >= 0x80 })
	d.as8Bit = t.original(ctx, m)
	if s := t.idle.take(rt.Name); s != nil {
		d.over(ctx, rt, s)
	}
	refusedByAll, sessions := true, 0
	for i, hop := range rt.Hops {
		if len(d.pending) == 0 || d.alone || sessions == maxSessions || ctx.Err() != nil {
			break
		}
		began := time.Now()
		s, tr := t.open(ctx, rt, hop)
		d.connect += time.Since(began)
		if tr == nil {
			sessions++
			refusedByAll = false
			d.over(ctx, rt, s)
			continue
		}
		refusedByAll = refusedByAll && tr.reply.IsPermanent()
		if sessions == 0 { // else there is a reply that says more
			d.giveUp(tr, refusedByAll && i == len(rt.Hops)-1 && rt.Kind == route.ByMX)
		}
	}
	return d.outcomes
}

// delivery is the state of one Deliver.
type delivery struct {
	t          *Transport
	m          *queue.Message
	attempts   []queue.Attempt
	outcomes   []queue.Outcome
	pending    []int // indexes of attempts that another host may still take
	utf8Header bool
	as8Bit     *content // the message as it is
	as7Bit     *content // converted; nil: not needed until now, or not possible
	not7Bit    error    // why it is not
	connect    time.Duration
	alone      bool // no other host may be asked: it would not help, or the mail may have arrived
}

// giveUp records that a hop could not be used. That is final only when every
// exchanger of the domain refused for good: a host that answers 5xx before it
// knows the recipient speaks for itself alone (RFC 5321 §3.1). A smarthost, or a
// next hop that was given, is of our own choice: that it does not want us is our
// trouble, and no reason to return anybody's mail.
func (d *delivery) giveUp(tr *trouble, final bool) {
	r := tr.reply
	if !final && r.IsPermanent() {
		r.Enhanced = "4" + r.Enhanced[1:]
	}
	for _, i := range d.pending {
		d.outcomes[i] = queue.Outcome{Reply: r, Down: true, Connect: d.connect}
	}
}

// over sends to what is pending through s, in as many transactions as that
// takes, and keeps s for others if it is still good.
func (d *delivery) over(ctx context.Context, rt *route.Route, s *session) {
	stop := context.AfterFunc(ctx, func() { _ = s.raw.Close() })
	defer stop()
	var again []int
	for len(d.pending) > 0 && !s.dead {
		c := d.content(ctx, s)
		group := d.admit(s, c)
		if len(group) == 0 {
			break
		}
		limit := d.t.config.MaxRecipients
		if s.ext.maxRecipients > 0 {
			limit = min(limit, s.ext.maxRecipients)
		}
		if len(group) > limit {
			group = group[:limit]
		}
		retry, stale := d.transact(s, c, group)
		if stale {
			s.close()
			return
		}
		again = append(again, retry...)
	}
	d.pending = append(again, d.pending...)
	d.t.keep(rt, s, stop)
}

// content is the message in the form that s takes; nil if there is none, and the
// reason is in d.not7Bit.
func (d *delivery) content(ctx context.Context, s *session) *content {
	if s.ext.eightBit || !d.m.Body8Bit {
		return d.as8Bit
	}
	if d.as7Bit == nil && d.not7Bit == nil {
		d.as7Bit, d.not7Bit = d.t.converted(ctx, d.m)
	}
	return d.as7Bit
}

// What a next hop cannot take. Nothing was said about it, so there is no code.
const (
	enhancedTooBig  = "5.3.4"
	enhanced8Bit    = "5.6.3"
	enhancedAddress = "5.6.7" // RFC 6531 §4.4 by RFC 6533 §6.1
	enhancedHeader  = "5.6.9"
)

// admit returns the pending recipients that this server can be asked to take,
// and settles the others.
func (d *delivery) admit(s *session, c *content) (group []int) {
	relay := s.hop.String()
	size := d.m.Size()
	if c != nil {
		size = c.size
	}
	reject := func(i int, enhanced, text string) {
		d.outcomes[i] = queue.Outcome{Reply: queue.Reply{Enhanced: enhanced, Text: text, Relay: relay}}
	}
	from, _ := d.m.ReversePath.Address()
	for _, i := range d.pending {
		switch r := &d.attempts[i].Recipient; {
		case s.ext.size > 0 && size > s.ext.size:
			reject(i, enhancedTooBig, "message of "+strconv.FormatInt(size, 10)+" octets is larger than the "+strconv.FormatInt(s.ext.size, 10)+" that the next hop takes")
		case !s.ext.smtpUTF8 && !(from.IsASCII() && r.Address.IsASCII()):
			reject(i, enhancedAddress, "next hop does not take internationalized addresses")
		case !s.ext.smtpUTF8 && d.utf8Header:
			reject(i, enhancedHeader, "next hop does not take internationalized header fields")
		case c == nil && errors.Is(d.not7Bit, message.ErrSevenBit):
			reject(i, enhanced8Bit, "next hop does not take 8-bit content, and "+d.not7Bit.Error())
		case c == nil:
			reject(i, "4.3.0", "message could not be converted: "+envelope.StatusOf(d.not7Bit).Text)
		default:
			group = append(group, i)
		}
	}
	d.pending = group
	return group
}

// transact runs one transaction for group, the first of what is pending, and
// records what came of it. It returns those that another host may take; stale
// says that the session had ended while it waited: it is as if it had not been.
func (d *delivery) transact(s *session, c *content, group []int) (again []int, stale bool) {
	needUTF8 := d.m.SMTPUTF8 || d.utf8Header
	tx := &transaction{s: s, body: c.write}
	for _, i := range group {
		r := &d.attempts[i].Recipient
		needUTF8 = needUTF8 || !r.Address.IsASCII()
		tx.rcpt = append(tx.rcpt, rcptLine(&s.ext, r))
	}
	if from, ok := d.m.ReversePath.Address(); ok && !from.IsASCII() {
		needUTF8 = true
	}
	tx.mail = mailLine(&s.ext, d.m, c, needUTF8)
	reused, began := s.messages > 0, time.Now()
	tx.run()
	if reused && (tx.mailReply.code == 421 || tx.mailReply.code == 0 && isLost(tx.err)) {
		return nil, true
	}
	transmit := time.Since(began)
	d.pending = d.pending[len(group):]
	accepted := slices.ContainsFunc(tx.rcptReplies, func(r reply) bool { return r.class() == 2 })
	for k, i := range group {
		out, another := tx.judge(k, len(group) > 1 && accepted)
		d.outcomes[i] = queue.Outcome{Reply: out, Passed: s.ext.dsn && out.IsDelivered(), TLS: s.tlsName(), Connect: d.connect, Transmit: transmit}
		switch another {
		case anotherTransaction:
			d.pending = append(d.pending, i)
		case anotherHost:
			again = append(again, i)
		}
	}
	if tx.sourceErr != nil || tx.uncertain {
		d.alone = true
	}
	if tx.closed() {
		s.close()
	}
	return again, false
}

// What may still help a recipient in this attempt.
type another uint8

const (
	nothingMore another = iota
	anotherTransaction
	anotherHost
)

// closed reports whether the server said that it closes the connection, or is
// out of step with us.
func (t *transaction) closed() bool {
	for _, r := range append([]reply{t.mailReply, t.dataReply, t.final}, t.rcptReplies...) {
		if r.code == 421 || r.class() == 3 && r.code != 354 {
			return true
		}
	}
	return false
}

// judge says what became of recipient k. others says that the server took some
// recipient of this transaction, so that too many for it is no judgement.
func (t *transaction) judge(k int, others bool) (queue.Reply, another) {
	relay := t.s.hop.String()
	rcpt := t.rcptReplies[k]
	for _, r := range []reply{t.mailReply, rcpt, t.dataReply, t.final} {
		switch {
		case r.code == 0:
		case r.class() == 4:
			if r.code == 452 && others && sameReply(r, rcpt) {
				return r.outcome(relay), anotherTransaction
			}
			return r.outcome(relay), anotherHost
		case r.class() == 5:
			out := r.outcome(relay)
			if sameReply(r, rcpt) && (r.code == 552 && strings.HasSuffix(out.Enhanced, ".0.0") || out.Enhanced == "5.5.3") {
				// RFC 5321 §4.5.3.1.10: servers say 552 for too many recipients.
				out.Enhanced = "4.5.3"
				if others {
					return out, anotherTransaction
				}
				return out, anotherHost
			}
			return out, nothingMore
		case r.class() == 3 && r.code != 354:
			out := r.outcome(relay)
			out.Enhanced = "4.5.0"
			return out, anotherHost
		}
	}
	switch {
	case t.sourceErr != nil:
		st := envelope.StatusOf(t.sourceErr)
		return queue.Reply{Enhanced: "4.3.0", Text: "message could not be read: " + st.Text, Relay: "none"}, nothingMore
	case t.uncertain:
		return t.s.broken(t.doing, t.err).reply, nothingMore
	case t.err != nil:
		return t.s.broken(t.doing, t.err).reply, anotherHost
	case t.final.class() == 2 && rcpt.class() == 2:
		return t.final.outcome(relay), nothingMore
	}
	for _, r := range t.rcptReplies {
		if r.code == 421 {
			return r.outcome(relay), anotherHost // said to one, meant for all
		}
	}
	t.s.close()
	return queue.Reply{Enhanced: "4.5.0", Text: "server is out of step", Relay: relay}, anotherHost
}

func sameReply(a, b reply) bool { return a.code == b.code && slices.Equal(a.lines, b.lines) }
