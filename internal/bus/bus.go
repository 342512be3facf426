package bus

import (
	"context"
	"fmt"
	"log/slog"
	"math"
	"math/rand/v2"
	"strconv"
	"sync"
	"time"

	"dirpost/internal/postgres"
	"dirpost/internal/store"

	"github.com/prometheus/client_golang/prometheus"
)

// The topics of the house.
const (
	TopicDirectory = "directory" // payload: the version of the newest snapshot
	TopicKill      = "kill"      // payload: the key of a person to log out
	TopicQueue     = "queue"     // no payload: there is work
	TopicMachine   = "machine"   // payload: the directory whose account in its domain has changed
)

// channel is the channel of NOTIFY.
const channel = "dirpost"

const (
	coalesce   = 20 * time.Millisecond
	pollEvery  = 5 * time.Second
	hereEvery  = 20 * time.Second
	goneAfter  = 3 * hereEvery
	retryAfter = time.Second
	pollBatch  = 5000
)

// Poller returns the modseq of those mailboxes that have one above that of
// known. store.Poll is one.
type Poller func(ctx context.Context, known map[store.MailboxKey]store.ModSeq) (map[store.MailboxKey]store.ModSeq, error)

// Bus is one node's end of the bus.
type Bus struct {
	db   *postgres.DB
	log  *slog.Logger
	node string // to know our own echo

	mu        sync.Mutex // guards what follows
	mailboxes map[store.MailboxKey]mailbox
	topics    map[string]map[*subscriber]struct{}
	pending   outbox
	nodes     map[string]time.Time // others, and when they were last heard

	wake chan struct{} // capacity 1: pending has something
	look chan struct{} // capacity 1: poll now

	hints     *prometheus.CounterVec // way: local, sent, received, polled
	failures  *prometheus.CounterVec // of: notify, poll
	connected prometheus.Gauge
}

// mailbox is a watched one: who watches it, and which modseq they were told of.
type mailbox map[*watcher]store.ModSeq

type watcher struct{ f func(store.ModSeq) }

// behind is the lowest modseq that a watcher was told of.
func (m mailbox) behind() store.ModSeq {
	var lowest store.ModSeq = math.MaxInt64
	for _, told := range m {
		lowest = min(lowest, told)
	}
	return lowest
}

type subscriber struct{ f func(payload string) }

// New returns a bus on db. It works within the process at once, and between
// nodes while Run runs.
func New(db *postgres.DB, log *slog.Logger) *Bus {
	b := &Bus{
		db: db, log: log, node: strconv.FormatUint(rand.Uint64(), 36),
		mailboxes: make(map[store.MailboxKey]mailbox),
		topics:    make(map[string]map[*subscriber]struct{}),
		nodes:     make(map[string]time.Time),
		wake:      make(chan struct{}, 1),
		look:      make(chan struct{}, 1),
		hints: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "dirpost_bus_hints_total", Help: "Hints by the way that they came or went.",
		}, []string{"way"}),
		failures: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "dirpost_bus_failures_total", Help: "What went wrong and was covered later.",
		}, []string{"of"}),
		connected: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "dirpost_bus_nodes", Help: "Other nodes that were heard within the last minute.",
		}),
	}
	return b
}

// Collectors are the metrics of the bus, to be registered by the caller.
func (b *Bus) Collectors() []prometheus.Collector {
	return []prometheus.Collector{b.hints, b.failures, b.connected}
}

// Nodes is how many other nodes were heard within the last minute.
func (b *Bus) Nodes() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.nodes)
}

// WatchMailbox calls f when the mailbox reaches a modseq that f was not told of.
// The first call may come with nothing changed, from the first poll after
// WatchMailbox: it covers what happened between the caller's look at the mailbox
// and this call.
func (b *Bus) WatchMailbox(a store.AccountID, mb store.MailboxID, f func(store.ModSeq)) (cancel func()) {
	key := store.MailboxKey{Account: a, Mailbox: mb}
	w := &watcher{f}
	b.mu.Lock()
	defer b.mu.Unlock()
	m := b.mailboxes[key]
	if m == nil {
		m = make(mailbox, 1)
		b.mailboxes[key] = m
	}
	m[w] = 0
	return func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		m := b.mailboxes[key]
		if delete(m, w); len(m) == 0 {
			delete(b.mailboxes, key)
		}
	}
}

// Changed tells everybody who watches the mailbox that it has reached seq. It
// comes after the commit, and does not block.
func (b *Bus) Changed(a store.AccountID, mb store.MailboxID, seq store.ModSeq) {
	key := store.MailboxKey{Account: a, Mailbox: mb}
	b.tell(key, seq, "local")
	b.mu.Lock()
	send := len(b.nodes) > 0 && b.pending.mailbox(key, seq)
	b.mu.Unlock()
	if send {
		b.flushSoon()
	}
}

// tell calls the watchers of a mailbox to whom seq is news.
func (b *Bus) tell(key store.MailboxKey, seq store.ModSeq, way string) {
	var watchers []*watcher
	b.mu.Lock()
	m := b.mailboxes[key]
	for w, told := range m {
		if told < seq {
			m[w] = seq
			watchers = append(watchers, w)
		}
	}
	b.mu.Unlock()
	if len(watchers) == 0 {
		return
	}
	b.hints.WithLabelValues(way).Add(float64(len(watchers)))
	for _, w := range watchers {
		w.f(seq)
	}
}

// Subscribe calls f with each payload published on topic, by this node or
// another, and with "" when hints may have been lost: then f's owner looks for
// itself.
func (b *Bus) Subscribe(topic string, f func(payload string)) (cancel func()) {
	s := &subscriber{f}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.topics[topic] == nil {
		b.topics[topic] = make(map[*subscriber]struct{})
	}
	b.topics[topic][s] = struct{}{}
	return func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		delete(b.topics[topic], s)
	}
}

// Publish hands payload to the subscribers of topic on all nodes. The same
// payload several times within a short time reaches other nodes once.
func (b *Bus) Publish(topic, payload string) {
	if len(topic)+len(payload) > maxPublish {
		b.log.Error("hint too large, not published", "verb", topic, "size", len(payload))
		return
	}
	b.deliver(topic, payload, "local")
	b.mu.Lock()
	b.pending.topic(topic, payload)
	b.mu.Unlock()
	b.flushSoon()
}

// Send hands payload to the subscribers of topic on all nodes, for a command that
// is no node itself. When it returns, the database has the hint.
func Send(ctx context.Context, db *postgres.DB, topic, payload string) error {
	if len(topic)+len(payload) > maxPublish {
		return fmt.Errorf("hint of %d octets is too large", len(payload))
	}
	var out outbox
	out.topic(topic, payload)
	return db.Notify(ctx, channel, out.payloads(noNode))
}

// noNode is the sender of what no node sends.
const noNode = ""

// deliver calls the subscribers of topic.
func (b *Bus) deliver(topic, payload, way string) {
	b.mu.Lock()
	subscribers := make([]*subscriber, 0, 8)
	for s := range b.topics[topic] {
		subscribers = append(subscribers, s)
	}
	b.mu.Unlock()
	b.hints.WithLabelValues(way).Add(float64(len(subscribers)))
	for _, s := range subscribers {
		s.f(payload)
	}
}

func (b *Bus) flushSoon() { signal(b.wake) }

// signal makes a receiver of c run, now or next.
func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
