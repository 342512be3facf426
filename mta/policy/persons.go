package policy

import (
	"context"
	"fmt"
	"net/netip"
	"sync"
	"time"

	"dirpost/directory"
	"dirpost/internal/envelope"
)

var (
	statusPersonMail = envelope.Status{Code: 450, Enhanced: "4.7.1", Text: "You have sent too many messages, please try again later"}
	statusPersonRcpt = envelope.Status{Code: 450, Enhanced: "4.7.1", Text: "You have written to too many recipients, please try again later"}
)

// PersonConfig limits what one person may send: a password that was stolen must
// not make us a source of spam before somebody notices.
type PersonConfig struct {
	// MaxMessages and MaxRecipients bound the MAIL and RCPT commands of one
	// person in a Window; a list counts as one recipient. 0 means any number.
	MaxMessages, MaxRecipients int
	Window                     time.Duration // default one hour
	// ExemptPeople are primary addresses of people who are not counted, such as
	// the account of a newsletter; Exempt are networks of clients likewise.
	ExemptPeople []envelope.Address
	Exempt       []netip.Prefix
}

// DefaultPersonConfig allows what a person does not do by hand, and less than
// pays for a spammer.
func DefaultPersonConfig() PersonConfig {
	return PersonConfig{MaxMessages: 1000, MaxRecipients: 5000, Window: time.Hour}
}

// Validate reports a setting that cannot be meant.
func (c PersonConfig) Validate() error {
	switch {
	case c.MaxMessages < 0:
		return fmt.Errorf("max_messages is negative: %d", c.MaxMessages)
	case c.MaxRecipients < 0:
		return fmt.Errorf("max_recipients is negative: %d", c.MaxRecipients)
	case c.Window < 0:
		return fmt.Errorf("window is negative: %v", c.Window)
	}
	return nil
}

// Check returns the check that c asks for. It counts in this process: with
// several nodes, each allows as much.
func (c PersonConfig) Check() Check {
	if c.Window == 0 {
		c.Window = time.Hour
	}
	p := &persons{cfg: c, exempt: make(map[string]struct{}), table: make(map[directory.Key]*usage)}
	for _, a := range c.ExemptPeople {
		p.exempt[a.Key()] = struct{}{}
	}
	return p
}

// persons counts what each person who has logged in does, in fixed windows of
// time. Its table is bounded by the directory.
type persons struct {
	cfg    PersonConfig
	exempt map[string]struct{} // by envelope.Address.Key

	mu    sync.Mutex // guards table and what it holds
	table map[directory.Key]*usage
	swept time.Time
}

// usage is what a person did in the window that began at since.
type usage struct {
	since                time.Time
	messages, recipients int
}

func (*persons) Name() string { return "person" }

func (*persons) Stages() []Stage { return []Stage{Mail, Rcpt} }

// Check counts the event and compares it with its limit.
func (p *persons) Check(_ context.Context, s Stage, f *Facts) Verdict {
	if f.Identity == nil || f.Addr.IsValid() && exempt(p.cfg.Exempt, f.Addr) {
		return Verdict{}
	}
	if _, ok := p.exempt[f.Identity.Address.Key()]; ok {
		return Verdict{}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	u := p.usageLocked(f.Identity.Person, time.Now())
	switch s {
	case Mail:
		u.messages++
		if over(u.messages, p.cfg.MaxMessages) {
			return Verdict{Action: Defer, Status: statusPersonMail, Reason: fmt.Sprintf("more than %d messages of one person in %v", p.cfg.MaxMessages, p.cfg.Window)}
		}
	case Rcpt:
		u.recipients++
		if over(u.recipients, p.cfg.MaxRecipients) {
			return Verdict{Action: Defer, Status: statusPersonRcpt, Reason: fmt.Sprintf("more than %d recipients of one person in %v", p.cfg.MaxRecipients, p.cfg.Window)}
		}
	}
	return Verdict{}
}

// usageLocked returns the counts of a person, begun anew when their window is
// over.
func (p *persons) usageLocked(k directory.Key, now time.Time) *usage {
	if now.Sub(p.swept) >= p.cfg.Window {
		p.swept = now
		for k, u := range p.table {
			if now.Sub(u.since) >= p.cfg.Window {
				delete(p.table, k)
			}
		}
	}
	u := p.table[k]
	if u == nil || now.Sub(u.since) >= p.cfg.Window {
		u = &usage{since: now}
		p.table[k] = u
	}
	return u
}
