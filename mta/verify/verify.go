package verify

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	"dirpost/internal/envelope"
	"dirpost/internal/postgres"
	"dirpost/mta/queue"
	"dirpost/mta/route"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/time/rate"
)

// Prober asks the hosts of a route whether they take mail for an address;
// *remote.Transport does. said is false where none of them has said anything about
// the recipient.
type Prober interface {
	Probe(ctx context.Context, rt *route.Route, to envelope.Address) (r queue.Reply, said bool)
}

// Router finds the way to a given next hop; *route.Router does.
type Router interface {
	Route(ctx context.Context, domain, nextHop string) (*route.Route, error)
}

// How long an answer counts, and after which time it is asked for again while it
// still does. A mailbox that is new over there has to wait for the second of
// negativeRefresh and the next attempt of a sender; one that ended there may still
// get mail for positiveRefresh, which is reported to its sender.
const (
	positiveTime    = 7 * 24 * time.Hour
	positiveRefresh = 12 * time.Hour
	negativeTime    = time.Hour
	negativeRefresh = 5 * time.Minute
)

const (
	maxProbes   = 16 // at once
	maxRate     = 50 // a second
	patience    = 10 * time.Second
	probeTime   = time.Minute
	leaveAlone  = 5 * time.Second
	purgeEvery  = 15 * time.Minute
	purgeAtMost = 10000 // rows in one statement
)

// statusUnverified is the answer while the other system cannot be asked.
var statusUnverified = envelope.Status{Code: 451, Enhanced: "4.4.1", Text: "Mailbox cannot be verified now, please try again later", IMAP: "UNAVAILABLE", POP3: "SYS/TEMP"}

// Verifier knows what another system says of recipients. Make one with New; it
// works while Run does.
type Verifier struct {
	db     *postgres.DB
	router Router
	prober Prober
	log    *slog.Logger
	rate   *rate.Limiter
	places chan struct{}
	probes *prometheus.CounterVec

	mu      sync.Mutex // guards the fields below
	flights map[key]*flight
	alone   map[string]time.Time // next hop -> until when it is left alone
	run     context.Context      // of Run, nil before and after it
	working sync.WaitGroup
}

type key struct{ hop, address string }

// flight is a question that is being asked; done is closed when err is there.
type flight struct {
	done chan struct{}
	err  error
}

// New returns a Verifier that keeps answers in db. It does no I/O.
func New(db *postgres.DB, router Router, prober Prober, log *slog.Logger) *Verifier {
	return &Verifier{
		db: db, router: router, prober: prober, log: log,
		rate: rate.NewLimiter(maxRate, maxRate), places: make(chan struct{}, maxProbes),
		probes: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "dirpost_verify_probes_total",
			Help: "Questions to the other mail system whether it knows a recipient, by its answer: known, unknown, untold."}, []string{"answer"}),
		flights: map[key]*flight{}, alone: map[string]time.Time{},
	}
}

// Collectors are the metrics, to be registered by the caller.
func (v *Verifier) Collectors() []prometheus.Collector { return []prometheus.Collector{v.probes} }

const lookupSQL = `
select known, now() - probed_at
  from recipient_probe
 where next_hop = $1
   and address = $2
   and expires_at > now()`

// Verify says whether the system at hop takes mail for a: nil, or the answer to
// whoever sends there, 550 5.1.1 where it knows nobody of that name and 451 4.4.1
// while that cannot be told. It waits for at most 10 s.
func (v *Verifier) Verify(ctx context.Context, a envelope.Address, hop string) error {
	k := key{hop, a.Key()}
	var known bool
	var age time.Duration
	err := v.db.QueryRow(ctx, postgres.Delivery, lookupSQL, k.hop, k.address).Scan(&known, &age)
	switch {
	case errors.Is(err, postgres.ErrNoRows):
	case err != nil:
		return postgres.Classify(fmt.Errorf("look up recipient probe: %w", err))
	case known:
		if age > positiveRefresh {
			v.ask(k, a)
		}
		return nil
	default:
		if age > negativeRefresh {
			v.ask(k, a)
		}
		return envelope.Because(envelope.StatusNotFound, fmt.Errorf("%s does not know %s", hop, a))
	}
	f := v.ask(k, a)
	if f == nil {
		return envelope.Because(statusUnverified, fmt.Errorf("%s cannot be asked now", hop))
	}
	wait := time.NewTimer(patience)
	defer wait.Stop()
	select {
	case <-f.done:
		return f.err
	case <-wait.C:
		return envelope.Because(statusUnverified, fmt.Errorf("%s has not answered about %s yet", hop, a))
	case <-ctx.Done():
		return envelope.Because(statusUnverified, context.Cause(ctx))
	}
}

// ask has the question asked, unless it is on its way already; nil says that it
// cannot be now. The answer is awaited by flight.done, or by nobody: whoever asks
// may leave, and the answer serves the next attempt.
func (v *Verifier) ask(k key, a envelope.Address) *flight {
	v.mu.Lock()
	defer v.mu.Unlock()
	if f := v.flights[k]; f != nil {
		return f
	}
	if until, ok := v.alone[k.hop]; ok {
		if time.Now().Before(until) {
			return nil
		}
		delete(v.alone, k.hop)
	}
	if v.run == nil || v.run.Err() != nil || !v.rate.Allow() {
		return nil
	}
	select {
	case v.places <- struct{}{}:
	default:
		return nil
	}
	f := &flight{done: make(chan struct{})}
	v.flights[k] = f
	run := v.run
	v.working.Go(func() {
		defer func() { <-v.places }()
		ctx, cancel := context.WithTimeout(run, probeTime)
		defer cancel()
		f.err = v.probe(ctx, k, a)
		v.mu.Lock()
		delete(v.flights, k)
		v.mu.Unlock()
		close(f.done)
	})
	return f
}

const storeSQL = `
insert into recipient_probe (next_hop, address, known, reply, expires_at)
values ($1, $2, $3, $4, now() + $5)
    on conflict (next_hop, address) do update
   set known = excluded.known, reply = excluded.reply, probed_at = excluded.probed_at, expires_at = excluded.expires_at`

// probe asks, and keeps the answer.
func (v *Verifier) probe(ctx context.Context, k key, a envelope.Address) (err error) {
	defer func() {
		// What another system says is hostile; it must not end the server.
		if r := recover(); r != nil {
			v.log.ErrorContext(ctx, "panic", "err", fmt.Errorf("panic: %v", r), "to", a.String(), "relay", k.hop)
			err = envelope.Because(statusUnverified, fmt.Errorf("panic: %v", r))
		}
	}()
	rt, err := v.router.Route(ctx, a.Domain, k.hop)
	if err != nil {
		v.leave(k.hop)
		return envelope.Because(statusUnverified, err)
	}
	r, said := v.prober.Probe(ctx, rt, a)
	answer, keep := "untold", time.Duration(0)
	switch {
	case said && r.IsDelivered():
		answer, keep, err = "known", positiveTime, nil
	case said && isNobody(r):
		answer, keep, err = "unknown", negativeTime, envelope.Because(envelope.StatusNotFound, fmt.Errorf("%s: %d %s %s", r.Relay, r.Code, r.Enhanced, r.Text))
	default:
		err = envelope.Because(statusUnverified, fmt.Errorf("%s: %d %s %s", r.Relay, r.Code, r.Enhanced, r.Text))
		if !said {
			v.leave(k.hop)
		}
	}
	v.probes.WithLabelValues(answer).Inc()
	level := slog.LevelInfo
	if said && r.IsPermanent() && keep == 0 {
		level = slog.LevelWarn // it refuses us, and not the recipient
	}
	v.log.Log(ctx, level, "recipient probed", "to", a.String(), "relay", r.Relay, "status", answer, "code", r.Code, "dsn", r.Enhanced, "reply", r.Text)
	if keep == 0 {
		return err
	}
	if _, failed := v.db.Exec(ctx, postgres.Delivery, storeSQL, k.hop, k.address, answer == "known", strings.ToValidUTF8(r.Text, "?"), keep); failed != nil {
		v.log.WarnContext(ctx, "answer about a recipient not kept, it is asked for again", "to", a.String(), "err", failed)
	}
	return err
}

// isNobody reports whether a reply to RCPT says that there is no such mailbox, and
// not that we may not send there (5.7.x), or something about the system (5.3.x,
// 5.5.x). Servers without enhanced codes say it by the basic one (RFC 5321 §4.2.3).
func isNobody(r queue.Reply) bool {
	switch {
	case !r.IsPermanent():
		return false
	case strings.HasPrefix(r.Enhanced, "5.1."), r.Enhanced == "5.2.1", r.Enhanced == "5.6.7":
		return true
	case strings.HasSuffix(r.Enhanced, ".0.0"):
		return r.Code == 550 || r.Code == 551 || r.Code == 553
	}
	return false
}

// leave has a hop left alone for a moment.
func (v *Verifier) leave(hop string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.alone[hop] = time.Now().Add(leaveAlone)
}

const purgeSQL = `
delete from recipient_probe
 where (next_hop, address) in (
   select p.next_hop, p.address
     from recipient_probe p
    where p.expires_at <= now()
    limit $1)`

// Run lets questions be asked, and takes away answers past their time, until ctx
// ends. Then it waits for those who are asking.
func (v *Verifier) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	v.mu.Lock()
	v.run = ctx
	v.mu.Unlock()
	defer func() {
		cancel()
		v.mu.Lock()
		v.run = nil
		v.mu.Unlock()
		v.working.Wait()
	}()
	for {
		wait := time.NewTimer(purgeEvery/2 + rand.N(purgeEvery))
		select {
		case <-ctx.Done():
			wait.Stop()
			return nil
		case <-wait.C:
		}
		for {
			tag, err := v.db.Exec(ctx, postgres.Background, purgeSQL, purgeAtMost)
			if err != nil && ctx.Err() == nil {
				v.log.WarnContext(ctx, "answers about recipients not purged, it is tried again", "err", err)
			}
			if err != nil || tag.RowsAffected() < purgeAtMost {
				break
			}
		}
	}
}
