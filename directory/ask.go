package directory

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"dirpost/internal/envelope"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/time/rate"
)

// Seeker is a directory that can be asked by itself, beside its Source.
type Seeker interface {
	// Name is the name of the directory in the configuration.
	Name() string
	// Seek returns the entries that have one of these addresses now, as a Source
	// would hand them over. None is no proof that there is none: an account may not
	// see all, and a mapping may read an address from what no filter finds.
	Seek(ctx context.Context, names []envelope.Address) ([]Change, error)
}

// The limits of asking. Nobody needs it in the normal run of things, and whoever tries
// addresses out must not make us search the directory at their pace.
const (
	askAfter    = 5 * time.Second // age of the snapshot from which on it is not believed about nobody
	askLimit    = 3 * time.Second // for an answer
	askAtOnce   = 4
	askRate     = 50 // a second, and as many at once
	askClient   = 5  // of one client, a second
	askBurst    = 20 // of one client
	askRemember = 10 * time.Second
	askRest     = 5 * time.Second // for a directory that did not answer
	askMaxKept  = 10000           // answers, and clients
)

// Asker asks the directories themselves about addresses that the snapshot does not have,
// while it is older than 5 s: somebody may be new. It only adds to what the snapshot
// says: who is found takes mail at once, by the same rules as everybody; for who is not
// found the answer stays what it was; and where nobody could be asked it is to come
// again.
//
// Those who ask about one address wait for one answer, which is remembered for one
// snapshot, for 10 s at most. At most 4 questions are asked at once, 50 in a second and
// 5 of one client. A directory that fails is left alone for 5 s. An Asker is safe for
// concurrent use.
type Asker struct {
	seekers []Seeker
	log     *slog.Logger
	total   *rate.Limiter
	places  chan struct{}
	asked   *prometheus.CounterVec

	mu      sync.Mutex // guards what follows
	of      edition    // that the answers are about
	answers map[string]*asking
	clients map[string]*rate.Limiter
	alone   map[string]time.Time // directory -> until when it is left alone
}

// edition names a snapshot, and those of it that were told of more besides.
type edition struct {
	live    *freshness
	version int64
}

// asking is a question and, once done is closed, its answer.
type asking struct {
	done  chan struct{}
	at    time.Time
	found []Change
	err   error // a directory could not be asked
}

// NewAsker returns an Asker of these directories. It does no I/O.
func NewAsker(seekers []Seeker, log *slog.Logger) *Asker {
	return &Asker{
		seekers: seekers, log: log, total: rate.NewLimiter(askRate, askRate), places: make(chan struct{}, askAtOnce),
		asked: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "dirpost_directory_asked_total",
			Help: "Addresses that a snapshot older than 5 s did not have and the directories were asked about, by the answer: known, unknown, limited (not asked), failed."}, []string{"answer"}),
		answers: map[string]*asking{}, clients: map[string]*rate.Limiter{}, alone: map[string]time.Time{},
	}
}

// Collectors are the metrics, to be registered by the caller.
func (k *Asker) Collectors() []prometheus.Collector { return []prometheus.Collector{k.asked} }

var errAskLimit = errors.New("too much is asked already")

// Resolve is Snapshot.Resolve, and asks where s may be too old to say that nobody has a.
// client is who wants to know. It returns the snapshot to go on with: s, or one that has
// been told who was found besides.
func (k *Asker) Resolve(ctx context.Context, s *Snapshot, client string, a envelope.Address) (*Snapshot, Resolution) {
	r := s.Resolve(a)
	if !s.mayMiss(a, r) {
		return s, r
	}
	answer := k.ask(ctx, s, client, a)
	switch {
	case len(answer.found) > 0:
		next := s.besides(answer.found)
		if found := next.Resolve(a); !next.mayMiss(a, found) {
			k.asked.WithLabelValues("known").Inc()
			return next, found
		}
		k.asked.WithLabelValues("unknown").Inc()
	case answer.err == nil:
		k.asked.WithLabelValues("unknown").Inc()
	case errors.Is(answer.err, errAskLimit):
		k.asked.WithLabelValues("limited").Inc()
	default:
		k.asked.WithLabelValues("failed").Inc()
	}
	if answer.err != nil && !s.Stale() {
		r = Resolution{Status: envelope.StatusDirectory}
	}
	return s, r
}

// mayMiss reports whether r, what s says of a, may be otherwise by now: nobody has the
// address, and s is not of this moment.
func (s *Snapshot) mayMiss(a envelope.Address, r Resolution) bool {
	if !s.ready || r.Entry != nil || r.Claims != nil || s.fresh == nil || !s.IsLocalDomain(a.Domain) {
		return false
	}
	if age, known := s.Age(); known && age <= askAfter {
		return false
	}
	return r.Home == HomeNobody || r.Home == HomeElsewhere || r.Home == HomeUnknown && r.Status == envelope.StatusDirectory
}

// besides is s with what a directory says of entries besides. They are merged as the
// Feeder would: they have what is new of them from now on, and who had an address before
// keeps it.
func (s *Snapshot) besides(found []Change) *Snapshot {
	l := life{now: s.now(), s: s}
	changes := make([]Change, 0, len(found))
	for _, c := range found {
		if e := l.merge(s.ByKey(c.Key), c.Entry); e != nil {
			changes = append(changes, Change{Key: c.Key, Entry: e})
		}
	}
	return s.with(s.version, changes)
}

// askedFor are the addresses whose owner would have a: itself, and without its detail.
func (s *Snapshot) askedFor(a envelope.Address) []envelope.Address {
	names := []envelope.Address{a}
	if base, _, ok := s.subaddress(a); ok {
		names = append(names, base)
	}
	return names
}

// ask returns the answer about a, which others may have asked for.
func (k *Asker) ask(ctx context.Context, s *Snapshot, client string, a envelope.Address) *asking {
	q, ask := k.question(s, client, a.Key())
	if ask {
		names := s.askedFor(a)
		go func() { // whoever asks may leave, and the answer serves others
			limit, cancel := context.WithTimeout(context.WithoutCancel(ctx), askLimit)
			defer cancel()
			q.found, q.err = k.seek(limit, names)
			close(q.done)
		}()
	}
	select {
	case <-q.done:
		return q
	case <-ctx.Done():
		return &asking{err: context.Cause(ctx)}
	}
}

// question returns what is known or asked of an address by now; ask says that it is up
// to the caller to ask.
func (k *Asker) question(s *Snapshot, client, address string) (q *asking, ask bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if of := (edition{s.fresh, s.version}); k.of != of || len(k.answers) >= askMaxKept {
		k.of = of
		clear(k.answers)
	}
	now := time.Now()
	if q = k.answers[address]; q != nil && now.Sub(q.at) < askRemember {
		return q, false
	}
	if len(k.clients) >= askMaxKept {
		clear(k.clients)
	}
	of := k.clients[client]
	if of == nil {
		of = rate.NewLimiter(askClient, askBurst)
		k.clients[client] = of
	}
	q = &asking{done: make(chan struct{}), at: now}
	if !of.AllowN(now, 1) || !k.total.AllowN(now, 1) {
		q.err = errAskLimit
		close(q.done)
		return q, false
	}
	k.answers[address] = q
	return q, true
}

// seek asks all directories.
func (k *Asker) seek(ctx context.Context, names []envelope.Address) (found []Change, err error) {
	defer func() { // what a directory says is hostile; it must not end the server
		if v := recover(); v != nil {
			k.log.ErrorContext(ctx, "panic", "err", fmt.Errorf("panic: %v", v), "to", names[0].String())
			found, err = nil, fmt.Errorf("panic: %v", v)
		}
	}()
	select {
	case k.places <- struct{}{}:
		defer func() { <-k.places }()
	case <-ctx.Done():
		return nil, fmt.Errorf("ask for %s: %w", names[0], errAskLimit)
	}
	for _, d := range k.seekers {
		if k.isAlone(d.Name()) {
			err = fmt.Errorf("directory %q did not answer lately", d.Name())
			continue
		}
		some, failed := d.Seek(ctx, names)
		if failed != nil {
			k.leave(d.Name())
			k.log.WarnContext(ctx, "directory cannot be asked for an address; it is left alone for a moment", "directory", d.Name(), "to", names[0].String(), "err", failed)
			err = failed
			continue
		}
		found = append(found, some...)
	}
	if len(found) > 0 {
		k.log.InfoContext(ctx, "directory was asked for an address that is not known yet", "to", names[0].String(), "entries", len(found))
	}
	return found, err
}

func (k *Asker) isAlone(directory string) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return time.Now().Before(k.alone[directory])
}

func (k *Asker) leave(directory string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.alone[directory] = time.Now().Add(askRest)
}
