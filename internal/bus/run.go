package bus

import (
	"context"
	"fmt"
	"sync"
	"time"

	"dirpost/internal/store"
)

// Run connects the node to the others until ctx ends; what was committed before
// is still told to them then. poll is asked for what hints have missed.
func (b *Bus) Run(ctx context.Context, poll Poller) error {
	var wg sync.WaitGroup
	wg.Go(func() { b.send(ctx) })
	wg.Go(func() { b.poll(ctx, poll) })
	err := b.db.Listen(ctx, channel, b.receive, b.listening)
	wg.Wait()
	if err != nil {
		return fmt.Errorf("bus: %w", err)
	}
	return nil
}

// listening is called each time LISTEN was acknowledged: from now on nothing is
// missed, before something may have been.
func (b *Bus) listening() {
	signal(b.look)
	b.mu.Lock()
	b.pending.topic(topicHello, "")
	var topics []string
	for topic := range b.topics {
		topics = append(topics, topic)
	}
	b.mu.Unlock()
	b.flushSoon()
	for _, topic := range topics {
		b.deliver(topic, "", "polled")
	}
}

// receive takes a notification.
func (b *Bus) receive(payload string) {
	r := parse(payload)
	if r.node == b.node {
		return
	}
	b.mu.Lock()
	if r.node != noNode {
		b.nodes[r.node] = time.Now()
	}
	b.connected.Set(float64(len(b.nodes)))
	if r.hello {
		b.pending.topic(topicHere, "")
	}
	b.mu.Unlock()
	if r.hello {
		b.flushSoon()
	}
	for _, h := range r.topics {
		b.deliver(h.topic, h.payload, "received")
	}
	for key, seq := range r.mailboxes {
		b.tell(key, seq, "received")
	}
}

// send notifies other nodes of what is pending, at most once in 20 ms.
func (b *Bus) send(ctx context.Context) {
	here := time.NewTicker(hereEvery)
	defer here.Stop()
	for {
		select {
		case <-ctx.Done():
			// Hints of the last commits; the nodes that stay would find out by polling.
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
			defer cancel()
			b.flush(last)
			return
		case <-here.C:
			b.mu.Lock()
			b.forgetNodesLocked(time.Now())
			b.pending.topic(topicHere, "")
			b.mu.Unlock()
		case <-b.wake:
			pause(ctx, coalesce)
		}
		if !b.flush(ctx) {
			pause(ctx, retryAfter)
			b.flushSoon()
		}
	}
}

// pause waits for d or the end of ctx.
func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// forgetNodesLocked drops nodes that were not heard for long.
func (b *Bus) forgetNodesLocked(now time.Time) {
	for node, last := range b.nodes {
		if now.Sub(last) > goneAfter {
			delete(b.nodes, node)
		}
	}
	b.connected.Set(float64(len(b.nodes)))
}

// flush sends what is pending, and keeps it if that fails.
func (b *Bus) flush(ctx context.Context) bool {
	b.mu.Lock()
	out := b.pending
	b.pending = outbox{}
	b.mu.Unlock()
	payloads := out.payloads(b.node)
	if err := b.db.Notify(ctx, channel, payloads); err != nil {
		b.failures.WithLabelValues("notify").Inc()
		b.log.DebugContext(ctx, "hints not sent, trying again", "err", err)
		b.mu.Lock()
		b.pending.merge(out)
		b.mu.Unlock()
		return false
	}
	b.hints.WithLabelValues("sent").Add(float64(len(out.mailboxes) + len(out.topics)))
	return true
}

// poll asks for the watched mailboxes: regularly, and when hints may have been
// lost.
func (b *Bus) poll(ctx context.Context, poll Poller) {
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		case <-b.look:
		}
		if err := b.pollOnce(ctx, poll); err != nil && ctx.Err() == nil {
			// The database is away: the next poll finds the same and more.
			b.failures.WithLabelValues("poll").Inc()
			b.log.DebugContext(ctx, "watched mailboxes not polled", "err", err)
		}
	}
}

func (b *Bus) pollOnce(ctx context.Context, poll Poller) error {
	b.mu.Lock()
	known := make([]map[store.MailboxKey]store.ModSeq, 0, 1+len(b.mailboxes)/pollBatch)
	for key, m := range b.mailboxes {
		if n := len(known); n == 0 || len(known[n-1]) == pollBatch {
			known = append(known, make(map[store.MailboxKey]store.ModSeq))
		}
		known[len(known)-1][key] = m.behind()
	}
	b.mu.Unlock()
	for _, batch := range known {
		risen, err := poll(ctx, batch)
		if err != nil {
			return fmt.Errorf("poll: %w", err)
		}
		for key, seq := range risen {
			b.tell(key, seq, "polled")
		}
	}
	return nil
}
