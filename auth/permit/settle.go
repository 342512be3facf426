package permit

import (
	"context"
	"errors"
	"fmt"
	"net/netip"

	"dirpost/directory"
)

// Verdict is what the directory has said to a password.
type Verdict int

// The verdicts.
const (
	// Unjudged: it did not answer, or said something else that it does not count.
	Unjudged Verdict = iota
	Right
	Wrong
	// Unsure: it may have counted one more wrong password, of which it is not known
	// that it is wrong: the account is locked, or the answer got lost.
	Unsure
)

// VerdictOf is what the error of a directory's judgement means.
func VerdictOf(err error) Verdict {
	var refusal *directory.Refusal
	switch {
	case err == nil:
		return Right
	case errors.Is(err, directory.ErrUnanswered):
		return Unsure
	case !errors.As(err, &refusal), refusal.Right:
		// A right password that does not help is no wrong one. Whether it makes the
		// directory forget those is another question: it may not.
		return Unjudged
	case refusal.Reason == directory.ReasonPassword:
		return Wrong
	}
	return Unsure
}

const settleSQL = `select auth_permit_settle($1, $2, $3, $4, $5, $6, $7)`

// Settle gives the permit back, or keeps it if the password was wrong. It does not
// wait. Only the first call counts.
func (p *Permit) Settle(v Verdict) {
	p.settled.Do(func() { p.settle(v) })
}

func (p *Permit) settle(v Verdict) {
	c := p.c
	if p.leave != nil {
		defer p.leave() // who comes next is behind us in the exchange, too
	}
	c.metrics.settled.WithLabelValues(v.String()).Inc()
	if v == Wrong || v == Unsure {
		c.failed(p, "")
	}
	if v == Wrong {
		c.refused.add(p.sums.refusal, c.now().Add(c.cfg.Refused))
		c.refused.add(p.sums.quick, c.now().Add(c.cfg.Refused))
	}
	if v == Right && p.Familiar {
		c.tally.home()
	}
	if !p.limits.counted && v != Wrong {
		return
	}
	verdict := int(v)
	var hash []byte
	if v == Wrong && p.limits.counted {
		hash = c.hash(p.sums.refusal)
	}
	if v == Unsure {
		verdict = int(Wrong)
	}
	if v == Right {
		c.exhausted.drop(p.l.Entry.Key)
	}
	r := &request{
		person: p.l.Entry.Key, sql: settleSQL,
		args: []any{string(p.l.Entry.Key), verdict, p.limits.counted, p.seen, hash, c.cfg.Refused, p.limits.span},
	}
	if p.limits.counted {
		var n int
		r.dest = []any{&n}
		c.exchange.later(r)
		return
	}
	// Nothing was asked before, so this is where the end is seen.
	person, most := p.l.Entry.Key, p.limits.strangers
	r.dest = []any{scanned(func(n int64) {
		if n >= int64(most) {
			c.exhausted.add(person, c.now().Add(exhaustedFor))
		}
	})}
	c.exchange.later(r)
}

// String is the word for v in metrics.
func (v Verdict) String() string {
	return [...]string{"unjudged", "right", "wrong", "unsure"}[v]
}

const welcomeSQL = `select auth_familiar_add($1, $2, $3)`

// Welcome remembers that the person of l.Entry has come in, by whatever proof: the
// network, the certificate and the device. It does not wait, and costs nothing where
// that is known.
func (c *Counter) Welcome(l Login) {
	now, person := c.now(), l.Entry.Key
	c.welcomeDevice(person, l.Device)
	var news []sum
	marks := c.keys[0].marks(person, l.Client, l.Certificate)
	for _, m := range marks {
		if !c.familiar.has(m, now) {
			news = append(news, m)
		}
	}
	if len(news) == 0 {
		c.tally.entered(0)
		return
	}
	c.tally.entered(1)
	keep := familiarFor
	if !c.shared {
		keep = c.cfg.Familiar
	}
	for _, m := range news {
		c.familiar.add(m, now.Add(keep))
	}
	if c.shared {
		c.exchange.later(&request{
			person: person, sql: welcomeSQL, args: []any{string(person), c.octets(news), c.cfg.FamiliarMax},
			dest: []any{nil},
		})
	}
}

// Unknown counts a login with a name that nobody has, and holds it up like any
// stranger's.
func (c *Counter) Unknown(ctx context.Context, l Login) {
	l.Entry = nil
	_, _ = c.Take(ctx, l) // a Refusal: of nobody there is nothing to ask
}

// Allow implements auth.Guesses, for proofs that no directory judges: those of
// strangers whose network has tried too much are not looked at.
func (c *Counter) Allow(ctx context.Context, client netip.Addr, person directory.Key) bool {
	if c.sources.allow(network(client)) {
		return true
	}
	home, err := c.askHome(ctx, person, c.marks(person, client, nil))
	return home && err == nil
}

// TurnedAway shows to administrators that a password of person was offered where none
// is taken. It is no sign of an attack, and takes no permit: a program that was set up
// before the door was closed goes on offering a right one.
func (c *Counter) TurnedAway(client netip.Addr, person directory.Key) {
	c.metrics.permits.WithLabelValues("door").Inc()
	c.tally.turnedAway(person, network(client))
}

// Failed implements auth.Guesses.
func (c *Counter) Failed(_ context.Context, client netip.Addr, person directory.Key) {
	n := network(client)
	c.tally.failed(person, n, "")
	c.sources.failed(n)
}

// scanned takes a number that comes from the database.
type scanned func(n int64)

// Scan implements sql.Scanner.
func (f scanned) Scan(src any) error {
	n, ok := src.(int64)
	if !ok {
		return fmt.Errorf("%T is no number", src)
	}
	f(n)
	return nil
}
