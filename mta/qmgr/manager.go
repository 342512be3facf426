package qmgr

import (
	"context"
	"io"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"dirpost/internal/blob"
	"dirpost/internal/envelope"
	"dirpost/internal/event"
	"dirpost/internal/postgres"
	"dirpost/mta/queue"
	"dirpost/mta/route"

	"github.com/prometheus/client_golang/prometheus"
)

// Transport delivers to the outside. It returns an outcome for each attempt, in
// their order, and never fails as a whole.
type Transport interface {
	Deliver(ctx context.Context, rt *route.Route, m *queue.Message, attempts []queue.Attempt) []queue.Outcome
}

// Local delivers to mailboxes of ours: to all of rcpts, with settle in the same
// transaction, or to none. Those that settle hears of as onward have a row of
// another message instead. Its errors are envelope errors; permanent ones are about
// the recipient.
type Local interface {
	DeliverQueued(ctx context.Context, m *queue.Message, rcpts []queue.Recipient, settle func(ctx context.Context, tx postgres.Tx, onward []queue.Onward) error) error
}

// Originator accepts a message that we have written, with settle in the same
// transaction. A permanent error says that its recipient cannot be.
type Originator interface {
	Originate(ctx context.Context, env *envelope.Envelope, msg io.WriterTo, settle func(context.Context, postgres.Tx) error) error
}

// Router finds the way to a domain or a given next hop; *route.Router does.
type Router interface {
	Route(ctx context.Context, domain, nextHop string) (*route.Route, error)
}

// Deps are the parts that the queue manager works with.
type Deps struct {
	Queue      *queue.Queue
	Blobs      *blob.Store // bodies for reports
	Router     Router
	Transport  Transport
	Local      Local
	Originator Originator
	Now        func() time.Time // the database's clock
	// Departed returns why the mail of an author (queue.Message.Author) is to be held,
	// "" for mail that may go. nil: all may.
	Departed func(author string) string
	// Moved returns the directory key of the mailbox for which Local is to get a
	// recipient that waits for another system, "" for one that goes as it stands.
	// nil: nobody moves.
	Moved  func(*queue.Recipient) string
	Events event.Sink
	Log    *slog.Logger
}

// Manager is the queue manager of one node. Make one with New.
type Manager struct {
	Deps
	config       Config
	destinations *destinations
	settler      *settler
	remote       chan struct{} // a place for each worker to outside
	local        chan struct{} // a place for each local slice
	reports      chan struct{} // a place for each report
	idle         chan struct{} // somebody has left a place that was wanted
	wanted       atomic.Bool   // something due may wait for a place
	final        atomic.Bool   // a report may be due
	panics       prometheus.Counter
	attempts     *prometheus.CounterVec   // outcome
	attemptTime  *prometheus.HistogramVec // outcome
	workers      sync.WaitGroup

	mu     sync.Mutex // guards shards
	shards []int16
}

// New returns a Manager. It starts nothing.
func New(c Config, d Deps) (*Manager, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	c = c.withDefaults()
	return &Manager{
		Deps: d, config: c,
		destinations: newDestinations(c.PerDestination, c.MinBackoff),
		settler:      newSettler(d.Queue, d.Log),
		remote:       make(chan struct{}, c.Workers),
		local:        make(chan struct{}, c.LocalWorkers),
		reports:      make(chan struct{}, 2),
		idle:         make(chan struct{}, 1),
		panics:       newPanics(),
		attempts:     newAttempts(),
		attemptTime:  newAttemptTime(),
	}, nil
}

// pollInterval is how long something that is due may wait when nobody has said
// so.
const pollInterval = time.Second

// Run manages the queue until ctx is done, then lets the deliveries under way
// end within Config.Grace. A Manager runs once.
func (m *Manager) Run(ctx context.Context) error {
	// Deliveries outlive ctx for a while, and settlements outlive deliveries:
	// what a next hop has taken must be recorded.
	work, stop := context.WithCancelCause(context.WithoutCancel(ctx))
	defer stop(nil)
	record, giveUp := context.WithCancel(context.WithoutCancel(ctx))
	defer giveUp()
	var helpers sync.WaitGroup
	helpers.Go(func() { m.own(ctx) })
	helpers.Go(func() { m.settler.run(record) })
	m.dispatch(ctx, work)
	hurry := time.AfterFunc(m.config.Grace, func() { stop(errShutdown) })
	defer hurry.Stop()
	last := time.AfterFunc(m.config.Grace+recordGrace, giveUp)
	defer last.Stop()
	m.workers.Wait()
	close(m.settler.in)
	helpers.Wait()
	ending, cancel := context.WithTimeout(context.WithoutCancel(ctx), recordGrace)
	defer cancel()
	if err := m.Queue.Disown(ending, m.config.Node); err != nil {
		m.Log.WarnContext(ctx, "shards not given back, others take them later", "err", err)
	}
	return nil
}

// recordGrace is how long outcomes may take to be recorded at shutdown.
const recordGrace = 5 * time.Second

// own keeps our share of the shards.
func (m *Manager) own(ctx context.Context) {
	tick := time.NewTicker(queue.OwnInterval)
	defer tick.Stop()
	away := false
	for {
		shards, err := m.Queue.Own(ctx, m.config.Node)
		switch {
		case ctx.Err() != nil:
			return
		case err != nil && !away:
			m.Log.ErrorContext(ctx, "queue not reachable", "err", err)
			away = true
		case err == nil:
			away = false
			m.mu.Lock()
			changed := !slices.Equal(m.shards, shards)
			m.shards = shards
			m.mu.Unlock()
			if changed {
				m.Queue.WakeHere()
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// dispatch claims what is due and hands it to workers.
func (m *Manager) dispatch(ctx, work context.Context) {
	tick := time.NewTicker(pollInterval)
	defer tick.Stop()
	for ctx.Err() == nil {
		more := m.claim(ctx, work)
		if m.final.Swap(false) {
			more = m.claimReports(ctx, work) || more
		}
		if more {
			continue
		}
		select {
		case <-ctx.Done():
		case <-m.Queue.Woken():
		case <-m.idle:
		case <-tick.C:
			m.final.Store(true)
		}
	}
}

// claim leases what is due as far as there are places, and reports whether there
// may be more.
func (m *Manager) claim(ctx, work context.Context) bool {
	m.mu.Lock()
	shards := m.shards
	m.mu.Unlock()
	m.wanted.Store(true) // whoever leaves from now on may have been in our way
	free := cap(m.remote) - len(m.remote)
	skip := m.destinations.full()
	if len(m.local) == cap(m.local) {
		skip = append(skip, "")
	}
	m.wanted.Store(free == 0 || len(skip) > 0)
	if len(shards) == 0 || free == 0 && len(m.local) == cap(m.local) || m.settler.stuck.Load() {
		return false
	}
	// Hosts outside that keep all workers waiting do not keep our own people
	// waiting.
	claim := queue.Claim{Shards: shards, Skip: skip, Local: free == 0, Destinations: max(min(free, claimDestinations), 1), Recipients: claimRecipients, LocalRecipients: m.config.LocalSlice, Lease: m.config.Lease}
	attempts, messages := m.take(ctx, work, func(ctx context.Context) ([]queue.Attempt, error) { return m.Queue.Claim(ctx, claim) })
	if len(attempts) == 0 {
		return false
	}
	claimed := time.Now()
	for destination, group := range byDestination(m.rehome(m.holdDeparted(work, attempts, messages))) {
		job := &job{m: m, destination: destination, attempts: group, messages: messages, claimed: claimed}
		if destination == "" {
			m.start(work, m.local, job.deliverLocal)
		} else {
			m.start(work, m.remote, job.deliverRemote)
		}
	}
	return m.hasMore(claim, attempts)
}

// take claims, and reads the messages of what it got. It does not stop halfway
// when ctx ends: what the database has leased to us and we have not heard of
// would wait for the end of its lease.
func (m *Manager) take(ctx, work context.Context, claim func(context.Context) ([]queue.Attempt, error)) ([]queue.Attempt, map[envelope.QueueID]*queue.Message) {
	work, cancel := context.WithTimeout(work, time.Minute)
	defer cancel()
	attempts, err := claim(work)
	if err != nil {
		if ctx.Err() == nil {
			m.Log.WarnContext(ctx, "nothing claimed", "err", err)
		}
		return nil, nil
	}
	if len(attempts) == 0 {
		return nil, nil
	}
	messages, err := m.messages(work, attempts)
	if err != nil {
		m.Log.WarnContext(ctx, "queued messages not read, tried again when their lease ends", "err", err)
		return nil, nil
	}
	return attempts, messages
}

// hasMore reports whether a claim that got attempts may have left something: it
// took as many destinations, or as many of one, as it was allowed.
func (m *Manager) hasMore(c queue.Claim, attempts []queue.Attempt) bool {
	type group struct {
		shard       int16
		destination string
	}
	n := make(map[group]int)
	for _, a := range attempts {
		g := group{a.Shard, a.Destination}
		n[g]++
		if n[g] >= c.Recipients {
			return true
		}
	}
	return len(n) >= c.Destinations
}

// What one claim takes: enough for a connection to be worth its while, not so
// much that others wait behind a slow host.
const (
	claimDestinations = 5
	claimRecipients   = 20
)

// rehome has those delivered by Local whose mailbox is not with the system any more
// that they wait for. It is asked before each attempt, so that nobody waits for a
// system that is away.
func (m *Manager) rehome(attempts []queue.Attempt) []queue.Attempt {
	if m.Moved == nil {
		return attempts
	}
	out := slices.Clone(attempts)
	for i := range out {
		if key := m.Moved(&out[i].Recipient); key != "" {
			out[i].Recipient.Local, out[i].Destination = key, ""
		}
	}
	return out
}

// byDestination groups attempts, each group in the order of messages.
func byDestination(attempts []queue.Attempt) map[string][]queue.Attempt {
	groups := make(map[string][]queue.Attempt)
	for _, a := range attempts {
		groups[a.Destination] = append(groups[a.Destination], a)
	}
	for _, g := range groups {
		slices.SortFunc(g, func(a, b queue.Attempt) int {
			if a.QueueID != b.QueueID {
				return cmpID(a.QueueID, b.QueueID)
			}
			return int(a.N) - int(b.N)
		})
	}
	return groups
}

func cmpID(a, b envelope.QueueID) int {
	if a < b {
		return -1
	}
	return 1
}

// messages reads the messages of attempts.
func (m *Manager) messages(ctx context.Context, attempts []queue.Attempt) (map[envelope.QueueID]*queue.Message, error) {
	ids := make([]envelope.QueueID, 0, len(attempts))
	for _, a := range attempts {
		ids = append(ids, a.QueueID)
	}
	slices.Sort(ids)
	return m.Queue.Messages(ctx, slices.Compact(ids))
}

// start runs f on a place of places. It waits for one, since what was claimed is
// ours to do; places are counted before a claim, so the wait is short.
func (m *Manager) start(work context.Context, places chan struct{}, f func(context.Context)) {
	places <- struct{}{}
	m.workers.Go(func() {
		defer func() {
			<-places
			if m.wanted.Load() {
				select {
				case m.idle <- struct{}{}:
				default: // the dispatcher is going to look anyway
				}
			}
		}()
		defer func() {
			// guard has what is done for a message. A fault in what is around
			// it costs a lease, not the whole server.
			if v := recover(); v != nil {
				_ = m.panicked(work, 0, v)
			}
		}()
		f(work)
	})
}
