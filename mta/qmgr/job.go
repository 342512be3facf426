package qmgr

import (
	"cmp"
	"context"
	"errors"
	"iter"
	"sync"
	"time"

	"dirpost/internal/envelope"
	"dirpost/internal/postgres"
	"dirpost/mta/queue"
	"dirpost/mta/route"
)

// errShutdown is why a delivery is broken off at shutdown.
var errShutdown = errors.New("shutting down")

// job is what one worker does: recipients of one destination.
type job struct {
	m           *Manager
	destination string
	attempts    []queue.Attempt
	messages    map[envelope.QueueID]*queue.Message
	claimed     time.Time

	mu   sync.Mutex // guards left
	left []queue.Attempt
}

// byMessage yields the attempts of each message that is still there.
func (j *job) byMessage(limit int) iter.Seq2[*queue.Message, []queue.Attempt] {
	return func(yield func(*queue.Message, []queue.Attempt) bool) {
		for rest := j.attempts; len(rest) > 0; {
			n := 1
			for n < len(rest) && n < limit && rest[n].QueueID == rest[0].QueueID {
				n++
			}
			// A message that was deleted meanwhile is nobody's business.
			if msg := j.messages[rest[0].QueueID]; msg != nil && !yield(msg, rest[:n:n]) {
				return
			}
			rest = rest[n:]
			j.mu.Lock()
			j.left = rest
			j.mu.Unlock()
		}
	}
}

// localLease is the lease of what goes to mailboxes of ours. It may be short, so
// that nobody waits long when a node dies: delivery and settlement are one
// transaction, and a lost lease rolls both back.
const localLease = 30 * time.Second

// beat renews the leases of what is left until stop is called.
func (j *job) beat(ctx context.Context, lease time.Duration) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	j.left = j.attempts
	wg.Go(func() {
		tick := time.NewTicker(lease / 3)
		defer tick.Stop()
		if lease < j.m.config.Lease {
			j.extend(ctx, lease)
		}
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
				j.extend(ctx, lease)
			}
		}
	})
	return func() { cancel(); wg.Wait() }
}

func (j *job) extend(ctx context.Context, lease time.Duration) {
	j.mu.Lock()
	left := j.left
	j.mu.Unlock()
	if _, err := j.m.Queue.Extend(ctx, left, lease); err != nil && ctx.Err() == nil {
		j.m.Log.WarnContext(ctx, "lease not renewed", "err", err)
	}
}

// deliverRemote sends to a destination outside, message by message over one
// route.
func (j *job) deliverRemote(ctx context.Context) {
	defer j.beat(ctx, j.m.config.Lease)()
	reason, dead := j.m.destinations.enter(j.destination)
	defer j.m.destinations.leave(j.destination)
	if dead && j.m.retried(ctx, j.destination) {
		dead = false
	}
	var rt *route.Route
	for msg, attempts := range j.byMessage(maxTransaction) {
		if !dead {
			reason, dead = j.m.destinations.isDead(j.destination)
		}
		if dead {
			j.conclude(ctx, msg, attempts, same(attempts, suspended(reason)))
			continue
		}
		if rt == nil {
			first := &attempts[0].Recipient
			if err := j.m.guard(ctx, msg, func() (err error) {
				rt, err = j.m.Router.Route(ctx, first.Address.Domain, first.NextHop)
				return err
			}); err != nil {
				// The DNS has it in its cache when the next message asks.
				j.conclude(ctx, msg, attempts, same(attempts, outcomeOf(err, "none")))
				continue
			}
		}
		if rt.Kind == route.Inside {
			for i := range attempts {
				attempts[i].Recipient.Local = rt.Mailbox
			}
			j.slice(ctx, msg, attempts)
			continue
		}
		outcomes := j.transport(ctx, rt, msg, attempts)
		j.m.destinations.heard(j.destination, outcomes[0])
		j.conclude(ctx, msg, attempts, outcomes)
	}
}

// retried forgets that a destination is dead if an administrator has asked since to try
// again what waits, and reports whether that is so.
func (m *Manager) retried(ctx context.Context, destination string) bool {
	ago, ok, err := m.Queue.Retried(ctx)
	if err != nil {
		m.Log.WarnContext(ctx, "destination left alone, whether it is to be tried again is not known", "err", err)
	}
	return ok && m.destinations.revive(destination, time.Now().Add(-ago))
}

// transport hands a message to the transport. What a bug of ours has kept from
// being sent, or from being known to be sent, is tried again.
func (j *job) transport(ctx context.Context, rt *route.Route, msg *queue.Message, attempts []queue.Attempt) (outcomes []queue.Outcome) {
	if err := j.m.guard(ctx, msg, func() error {
		outcomes = j.m.Transport.Deliver(ctx, rt, msg, attempts)
		return nil
	}); err != nil {
		return same(attempts, outcomeOf(err, "none"))
	}
	return outcomes
}

// maxTransaction is how many recipients of one message a transport gets at once.
const maxTransaction = 100

// suspended is the outcome for a destination that is left alone for a while.
func suspended(reason queue.Reply) queue.Outcome {
	return queue.Outcome{Reply: queue.Reply{Enhanced: "4.4.1", Text: "destination not tried for a while: " + reason.Text, Relay: "none"}}
}

// outcomeOf is the outcome of an error of ours.
func outcomeOf(err error, relay string) queue.Outcome {
	st := envelope.StatusOf(err)
	return queue.Outcome{Reply: queue.Reply{Enhanced: st.Enhanced, Text: st.Text, Relay: relay}}
}

func same(attempts []queue.Attempt, o queue.Outcome) []queue.Outcome {
	all := make([]queue.Outcome, len(attempts))
	for i := range all {
		all[i] = o
	}
	return all
}

// deliverLocal delivers to mailboxes of ours, slice by slice.
func (j *job) deliverLocal(ctx context.Context) {
	defer j.beat(ctx, min(localLease, j.m.config.Lease))()
	for msg, attempts := range j.byMessage(j.m.config.LocalSlice) {
		var lists, boxes []queue.Attempt
		var outcomes []queue.Outcome // of lists
		for _, a := range attempts {
			if o, ok := listOutcomes[a.Recipient.Local]; ok {
				lists, outcomes = append(lists, a), append(outcomes, o)
			} else {
				boxes = append(boxes, a)
			}
		}
		if len(lists) > 0 {
			j.conclude(ctx, msg, lists, outcomes)
		}
		if len(boxes) > 0 {
			j.slice(ctx, msg, boxes)
		}
	}
}

// relayList is Reply.Relay of a list that was expanded.
const relayList = "list"

// listOutcomes are the outcomes of lists: their members have the message, or rows
// of their own.
var listOutcomes = map[string]queue.Outcome{
	queue.LocalExpanded:  {Reply: queue.Reply{Enhanced: "2.0.0", Text: "expanded", Relay: relayList}},
	queue.LocalDelivered: {Reply: queue.Reply{Enhanced: "2.0.0", Text: "delivered to the list", Relay: "local"}},
}

// slice delivers one message to some mailboxes in one transaction, with the
// settlement. If that fails it does each alone, to learn whose fault it is.
func (j *job) slice(ctx context.Context, msg *queue.Message, attempts []queue.Attempt) {
	began := time.Now()
	rcpts := make([]queue.Recipient, len(attempts))
	settlements := make([]queue.Settlement, len(attempts))
	delivered := queue.Outcome{Reply: queue.Reply{Enhanced: "2.0.0", Text: "delivered", Relay: "local"}}
	for i, a := range attempts {
		rcpts[i], settlements[i] = a.Recipient, j.m.settlement(msg, a, delivered)
	}
	err := j.m.guard(ctx, msg, func() error {
		return j.m.Local.DeliverQueued(ctx, msg, rcpts, func(ctx context.Context, tx postgres.Tx, onward []queue.Onward) error {
			for _, o := range onward {
				settlements[o.Place] = queue.Settlement{Attempt: attempts[o.Place], Verdict: queue.Done, Reply: movedReply(o)}
			}
			return j.m.Queue.SettleTx(ctx, tx, settlements)
		})
	})
	delivered.Transmit = time.Since(began)
	switch {
	case err == nil:
		j.emit(ctx, msg, &conclusions{same(attempts, delivered), settlements, time.Now()})
		j.m.reportSoon(settlements)
	case errors.Is(err, queue.ErrLease), errors.Is(err, postgres.ErrUnknown):
		// Somebody else has them, or the lease will tell: nothing is lost, and
		// the mailbox recognises a second delivery.
		j.m.Log.WarnContext(ctx, "local delivery left to the lease", "queue_id", msg.QueueID.String(), "nrcpt", len(attempts), "err", err)
	case len(attempts) > 1 && ctx.Err() == nil:
		for i := range attempts {
			j.slice(ctx, msg, attempts[i:i+1])
		}
	default:
		o := outcomeOf(err, "local")
		o.Transmit = time.Since(began)
		if !o.Reply.IsPermanent() {
			j.m.Log.WarnContext(ctx, "local delivery failed", "queue_id", msg.QueueID.String(), "to", rcpts[0].Address.String(), "err", err)
		}
		j.conclude(ctx, msg, attempts, same(attempts, o))
	}
}

// relayQueue is Reply.Relay of a recipient that goes on as one of another message.
const relayQueue = "queue"

// movedReply is the outcome of a recipient whose mailbox another system has now.
func movedReply(o queue.Onward) queue.Reply {
	return queue.Reply{Enhanced: "2.0.0", Text: "mailbox is elsewhere now, goes on to " + cmp.Or(o.NextHop, "its domain") + " as " + o.QueueID.String(), Relay: relayQueue}
}
