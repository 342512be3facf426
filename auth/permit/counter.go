package permit

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"sync"
	"time"

	"dirpost/directory"
	"dirpost/internal/envelope"
	"dirpost/internal/postgres"
)

// Reader says what a directory has of locking people out. ldap.Client is one.
type Reader interface {
	// Lockout reads the rule for the person of e, and how far the directory has
	// counted. An error means that the directory did not answer.
	Lockout(ctx context.Context, e *directory.Entry) (directory.Lockout, error)
}

// Hints tells the nodes that somebody was unblocked. bus.Bus is one.
type Hints interface {
	Subscribe(topic string, f func(payload string)) (cancel func())
}

// Topic is the topic of the hints: the key of a person or a network that was
// unblocked.
const Topic = "permits"

// errBusy reports more requests than are kept.
var errBusy = errors.New("too many logins wait for the database")

// Login is a password that somebody offers.
type Login struct {
	Entry    *directory.Entry // who that would be; nil: nobody has that name
	Name     string           // what was typed; it is kept as a hash
	Password string
	Client   netip.Addr
	// Certificate is that of the client, DER, nil for none.
	Certificate []byte
	Device      Device
}

// person is the key of whom it is about, "" for nobody.
func (l *Login) person() directory.Key {
	if l.Entry == nil {
		return ""
	}
	return l.Entry.Key
}

// Refusal says why a password is not to be judged. The client is told what
// everybody is told.
type Refusal struct{ Reason string }

// The reasons of a refusal.
const (
	ReasonRepeated = "repeated"  // it was wrong before
	ReasonSprayed  = "sprayed"   // it has failed for many accounts
	ReasonNetwork  = "throttled" // the client has tried too much
	ReasonNone     = "no-permit" // one more wrong one might lock the account
	ReasonLocked   = "locked"    // the directory judges no password of that person now
	ReasonUnknown  = "unknown"   // there is no such person
)

// Error implements error.
func (r *Refusal) Error() string { return "password not judged: " + r.Reason }

// Counter gives permits. It is safe for concurrent use.
type Counter struct {
	cfg     Config
	db      *postgres.DB
	readers map[string]Reader
	log     *slog.Logger
	now     func() time.Time
	keys    []*keyed // the first makes, all find; [0] for what stays in the process too
	shared  bool     // what the keys make may go to the database

	exchange  *exchange
	refused   *bounded[sum]           // passwords that were wrong
	familiar  *bounded[sum]           // where people have come in from
	devices   *devices                // by which they have
	exhausted *bounded[directory.Key] // people without a permit for strangers
	sources   *sources
	spray     *spray
	tally     *tally
	gates     gates
	metrics   metrics

	mu      sync.Mutex // guards waiting
	waiting map[directory.Key]int
}

// The bounds of a node's memory.
const (
	maxRefused   = 1 << 17
	maxFamiliar  = 1 << 18
	maxExhausted = 1 << 16
	// setGrain is how fine directories tell when a password was set, and some clock skew.
	setGrain = 5 * time.Second
	// exhaustedFor is how long a node does not ask again whether there are permits.
	exhaustedFor = 5 * time.Second
	// familiarFor is how long it does not ask again whether somebody is at home, nor
	// write down that they are.
	familiarFor = 6 * time.Hour
	// maxLine is how many logins of one person wait for a permit to come back, and
	// maxPause the longest of their pauses, each twice the one before.
	maxLine    = 8
	firstPause = 20 * time.Millisecond
	maxPause   = 640 * time.Millisecond
)

// New returns a Counter. keys are made of the sealing keys, the current one first;
// without any, what would be made with them stays in this process. readers are the
// directories, by their names in the configuration. The hints of hints are heard
// until Run ends.
func New(db *postgres.DB, cfg Config, keys [][]byte, readers map[string]Reader, log *slog.Logger) *Counter {
	c := &Counter{
		cfg: cfg, db: db, readers: readers, log: log, now: time.Now, shared: len(keys) > 0,
		refused: newBounded[sum](maxRefused), familiar: newBounded[sum](maxFamiliar), exhausted: newBounded[directory.Key](maxExhausted),
		spray: newSpray(cfg), tally: newTally(), metrics: newMetrics(), gates: gates{open: map[sum]*gate{}}, waiting: map[directory.Key]int{},
	}
	c.devices = newDevices()
	c.sources = newSources(cfg.NetworkBurst, cfg.NetworkEvery, func() time.Time { return c.now() })
	if len(keys) == 0 {
		keys = [][]byte{randomKey()}
	}
	for _, k := range keys {
		c.keys = append(c.keys, newKeyed(k))
	}
	c.exchange = &exchange{db: db, log: log, seconds: c.metrics.seconds, requests: c.metrics.requests}
	return c
}

// Permit allows one password to be judged. It must be settled.
type Permit struct {
	c       *Counter
	l       *Login
	sums    sums
	limits  limits
	lockout *directory.Lockout // nil: not read
	asked   bool               // for the device
	// Familiar says that the login comes from where the person has been before.
	Familiar bool
	leave    func() // the gate; nil: there was none
	seen     int64  // wrong passwords that were counted when it was taken
	settled  sync.Once
}

// sums are what is made of the secrets of a login.
type sums struct {
	refusal, password sum
	quick             sum // refusal as far as it is known without asking the directory
	account           int64
}

// Take returns a permit for l. The error is a *Refusal if l must be answered as a
// wrong password, without asking the directory; anything else is temporary: the
// directory or the database did not answer.
//
// While strangers are slowed, Take holds them up.
func (c *Counter) Take(ctx context.Context, l Login) (*Permit, error) {
	p := &Permit{c: c, l: &l, sums: c.sums(&l)}
	marks := c.marks(l.person(), l.Client, l.Certificate)
	p.Familiar = l.Entry != nil && c.isHome(marks)
	reason := c.reason(p)
	attacked := c.tally.attacked()
	// Whether somebody is at home is worth a question where it would change something.
	if !p.Familiar && l.Entry != nil && reason != ReasonRepeated && (reason != "" || attacked) {
		var err error
		if p.Familiar, err = c.askHome(ctx, l.Entry.Key, marks); err != nil {
			return nil, temporary(err)
		}
		if err := c.askDevice(ctx, p); err != nil {
			return nil, err
		}
	}
	if !p.Familiar && attacked {
		c.metrics.slowed.Inc()
		pause(ctx, c.cfg.Slow)
	}
	if reason != "" && (!p.Familiar || reason == ReasonRepeated) {
		return nil, c.refuse(p, reason)
	}
	if err := c.take(ctx, p, marks); err != nil {
		return nil, err
	}
	c.metrics.permits.WithLabelValues("granted").Inc()
	if p.Familiar {
		c.metrics.home.Inc()
	}
	return p, nil
}

func (c *Counter) sums(l *Login) sums {
	k := c.keys[0]
	s := sums{password: k.password(l.Password), account: k.account(string(l.person()))}
	if l.Entry == nil {
		s.account = k.account(directory.FoldLogin(l.Name))
	} else {
		s.refusal = k.refusal(l.Entry, l.Password)
		s.quick = s.refusal
	}
	return s
}

// marks are where a person comes from, under all keys.
func (c *Counter) marks(person directory.Key, client netip.Addr, certificate []byte) []sum {
	var all []sum
	if person == "" {
		return nil
	}
	for _, k := range c.keys {
		all = append(all, k.marks(person, client, certificate)...)
	}
	return all
}

// isHome reports whether this node knows one of marks.
func (c *Counter) isHome(marks []sum) bool {
	now := c.now()
	for _, m := range marks {
		if c.familiar.has(m, now) {
			return true
		}
	}
	return false
}

// reason is why a stranger gets no permit, as far as that can be said without
// asking anybody; ReasonRepeated holds for everybody.
func (c *Counter) reason(p *Permit) string {
	now := c.now()
	switch {
	case p.l.Entry == nil:
		return ReasonUnknown
	case c.refused.has(p.sums.refusal, now):
		return ReasonRepeated
	case c.spray.isRefused(p.sums.password, now):
		return ReasonSprayed
	case !c.sources.allow(network(p.l.Client)):
		return ReasonNetwork
	case c.exhausted.has(p.l.Entry.Key, now):
		return ReasonNone
	}
	return ""
}

// refuse counts a login that is refused without asking the directory.
func (c *Counter) refuse(p *Permit, reason string) error {
	c.metrics.permits.WithLabelValues(reason).Inc()
	c.failed(p, reason)
	return &Refusal{reason}
}

// failed counts a login that did not let in: everywhere but with the permits. The
// same password again is no guess, and who was not heard has learnt nothing.
func (c *Counter) failed(p *Permit, reason string) {
	n := network(p.l.Client)
	c.tally.failed(p.l.person(), n, reason)
	switch reason {
	case ReasonRepeated:
		return
	case "", ReasonUnknown, ReasonSprayed:
		c.sources.failed(n)
	}
	c.spray.failed(p.sums.password, p.sums.account, c.now())
}

// take takes the permit, once it is known what the directory makes of one more
// wrong password.
func (c *Counter) take(ctx context.Context, p *Permit, marks []sum) error {
	lockout, err := c.lockout(ctx, p)
	if err != nil {
		return err
	}
	if lockout.Locked {
		return c.refuse(p, ReasonLocked)
	}
	if set := lockout.PasswordSet; !set.IsZero() && c.now().Sub(set) > setGrain {
		p.sums.refusal = c.keys[0].refusalSince(p.l.Entry, set, p.l.Password)
		if c.refused.has(p.sums.refusal, c.now()) {
			return c.refuse(p, ReasonRepeated)
		}
	}
	p.limits = c.cfg.limitsFor(*lockout)
	if !p.limits.counted {
		return nil
	}
	if err := c.askDevice(ctx, p); err != nil {
		return err
	}
	if p.leave = c.gates.enter(ctx, p.sums.refusal); p.leave == nil {
		return temporary(errBusy)
	}
	if err := c.count(ctx, p, marks); err != nil {
		p.leave()
		return err
	}
	return nil
}

// lockout is what the directory has of locking out the person of p, read once.
func (c *Counter) lockout(ctx context.Context, p *Permit) (*directory.Lockout, error) {
	if p.lockout != nil {
		return p.lockout, nil
	}
	r := c.readers[p.l.Entry.Directory]
	if r == nil {
		return nil, temporary(fmt.Errorf("there is no directory %q", p.l.Entry.Directory))
	}
	l, err := r.Lockout(ctx, p.l.Entry)
	if err != nil {
		return nil, temporary(fmt.Errorf("read when %s would be locked: %w", p.l.Entry.Key, err))
	}
	p.lockout = &l
	return p.lockout, nil
}

// count takes the permit from the counter. Nobody else has one for the same
// password.
func (c *Counter) count(ctx context.Context, p *Permit, marks []sum) error {
	if c.refused.has(p.sums.refusal, c.now()) { // since it stood in line
		return c.refuse(p, ReasonRepeated)
	}
	if !c.queue(p.l.Entry.Key) {
		return c.refuse(p, ReasonNone)
	}
	defer c.leave(p.l.Entry.Key)
	for wait := firstPause; ; wait *= 2 {
		outcome, inUse, err := c.ask(ctx, p, marks)
		switch {
		case err != nil:
			return temporary(err)
		case outcome == taken:
			return nil
		case outcome == repeated:
			c.refused.add(p.sums.refusal, c.now().Add(c.cfg.Refused))
			return c.refuse(p, ReasonRepeated)
		case inUse == 0 || wait > maxPause:
			if inUse == 0 && !p.Familiar {
				c.exhausted.add(p.l.Entry.Key, c.now().Add(exhaustedFor))
			}
			return c.refuse(p, ReasonNone)
		}
		// Somebody else's password is being judged, perhaps by the same program: if it
		// is right there is a permit again.
		if !pause(ctx, wait) {
			return temporary(context.Cause(ctx))
		}
	}
}

// queue puts a login into the line of those of a person that want a permit, if it
// is not too long.
func (c *Counter) queue(person directory.Key) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.waiting[person] >= maxLine {
		return false
	}
	c.waiting[person]++
	return true
}

func (c *Counter) leave(person directory.Key) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.waiting[person]--; c.waiting[person] == 0 {
		delete(c.waiting, person)
	}
}

// What auth_permit_take says.
const (
	taken    = 1
	repeated = 2
)

const takeSQL = `
select outcome, familiar, in_use, seen
  from auth_permit_take($1, $2, $3, $4, $5, $6, $7, $8, $9)`

// ask asks the database for the permit of p.
func (c *Counter) ask(ctx context.Context, p *Permit, marks []sum) (outcome, inUse int, err error) {
	var familiar bool
	r := &request{
		person: p.l.Entry.Key, sql: takeSQL, durable: true,
		args: []any{string(p.l.Entry.Key), p.Familiar, c.octets(marks), c.hash(p.sums.refusal), p.limits.strangers, p.limits.everybody, p.limits.span,
			p.limits.wrong, c.cfg.Familiar},
		dest: []any{&outcome, &familiar, &inUse, &p.seen},
	}
	if err := c.exchange.do(ctx, r); err != nil {
		if ctx.Err() != nil { // the permit may come all the same
			go func() {
				if err := <-r.done; err == nil && outcome == taken {
					p.Settle(Unjudged)
				}
			}()
		}
		return 0, 0, err
	}
	p.Familiar = p.Familiar || familiar
	return outcome, inUse, nil
}

// octets are sums for the database, none if they may not go there.
func (c *Counter) octets(sums []sum) [][]byte {
	out := make([][]byte, 0, len(sums))
	for _, s := range sums {
		if b := c.hash(s); b != nil {
			out = append(out, b)
		}
	}
	return out
}

// hash is a sum for the database, nil if it may not go there.
func (c *Counter) hash(s sum) []byte {
	if !c.shared {
		return nil
	}
	return s[:]
}

const homeSQL = `
select exists (select from auth_familiar
                where person = $1
                  and mark = any ($2)
                  and last_at > now() - $3::interval)`

// askHome asks the database whether the person was at one of marks before, if this
// node does not know.
func (c *Counter) askHome(ctx context.Context, person directory.Key, marks []sum) (known bool, err error) {
	if c.isHome(marks) {
		return true, nil
	}
	if !c.shared || len(marks) == 0 {
		return false, nil
	}
	var exists bool
	r := &request{person: person, sql: homeSQL, args: []any{string(person), c.octets(marks), c.cfg.Familiar}, dest: []any{&exists}}
	if err := c.exchange.do(ctx, r); err != nil {
		return false, err
	}
	return exists, nil
}

// temporary is an error of ours: the password was not judged.
func temporary(err error) error { return envelope.Because(envelope.StatusAuthAway, err) }

// pause waits for d, and reports whether ctx has lasted.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
