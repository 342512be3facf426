package policy

import (
	"context"
	"net/netip"

	"dirpost/auth"
	"dirpost/internal/envelope"
)

// Stage is a moment of an SMTP session at which it is judged.
type Stage uint8

// The stages, in the order in which a session passes them.
const (
	Connect Stage = iota
	Helo          // HELO or EHLO
	Mail          // MAIL
	Rcpt          // each RCPT
	Data          // DATA or the first BDAT
	Content       // the whole message has come
	stages
)

// Action is what a Verdict asks for.
type Action uint8

// The actions, mildest first.
const (
	Accept Action = iota
	Junk          // take it, and put it into Junk
	Defer         // 4xx
	Reject        // 5xx
)

// Verdict is the judgement of a check. The zero value is Accept.
type Verdict struct {
	Action Action
	Status envelope.Status // the answer, with Defer and Reject
	Check  string          // name of the check that spoke
	Reason string          // for log and operator, not for the client
}

// Facts are what is known of a session. Checks read them and change nothing.
type Facts struct {
	Client      *envelope.Client
	Addr        netip.Addr           // of the client; invalid if it has none
	Identity    *auth.Identity       // nil for a stranger
	ReversePath envelope.ReversePath // from Mail on
	Recipient   envelope.Address     // at Rcpt: the one in question
	Recipients  int                  // accepted so far
	Params      *envelope.Envelope   // from Mail on: what MAIL said
	Size        int64                // at Content: octets of the message
	Received    int                  // at Content: Received fields of its header
}

// Check is one judgement.
type Check interface {
	// Name is a constant word for log and metrics.
	Name() string
	// Stages lists when the check has something to say.
	Stages() []Stage
	// Check judges f at stage s. Trouble of its own is Accept or Defer, never
	// Reject; it keeps to the deadline of ctx.
	Check(ctx context.Context, s Stage, f *Facts) Verdict
}

// leaver is a Check that counts open connections. Leave is called once for each
// connection that it was asked about at Connect and did not refuse.
type leaver interface {
	Leave(f *Facts)
}

// Policy is a list of checks in order.
type Policy struct {
	at      [stages][]Check
	leavers []leaver
}

// New returns the policy that asks checks in the order given.
func New(checks ...Check) *Policy {
	p := &Policy{}
	for _, c := range checks {
		for _, s := range c.Stages() {
			p.at[s] = append(p.at[s], c)
		}
		if l, ok := c.(leaver); ok {
			p.leavers = append(p.leavers, l)
		}
	}
	return p
}

// At asks the checks of stage s. The first that rejects or defers decides; the
// first that says Junk is returned when nobody does.
//
// A connection for which At(Connect) returned neither Reject nor Defer must be
// reported to Leave.
func (p *Policy) At(ctx context.Context, s Stage, f *Facts) Verdict {
	var junk Verdict
	for i, c := range p.at[s] {
		v := c.Check(ctx, s, f)
		if v.Action == Accept {
			continue
		}
		v.Check = c.Name()
		if v.Action == Junk {
			if junk.Action == Accept {
				junk = v
			}
			continue
		}
		if s == Connect {
			leave(p.at[s][:i], f)
		}
		return v
	}
	return junk
}

// Leave tells the checks that the connection of f has ended.
func (p *Policy) Leave(f *Facts) {
	for _, l := range p.leavers {
		l.Leave(f)
	}
}

// leave undoes what checks counted before another one refused the connection.
func leave(checks []Check, f *Facts) {
	for _, c := range checks {
		if l, ok := c.(leaver); ok {
			l.Leave(f)
		}
	}
}

// judge is the verdict on a finding: what the operator wants done about it.
func (m Mode) judge(reject envelope.Status, reason string) Verdict {
	switch m {
	case ModeReject:
		return Verdict{Action: Reject, Status: reject, Reason: reason}
	case ModeJunk:
		return Verdict{Action: Junk, Reason: reason}
	}
	return Verdict{}
}

// Mode says what to do about a finding.
type Mode uint8

// The modes.
const (
	ModeOff Mode = iota
	ModeJunk
	ModeReject
)

// UnmarshalText implements encoding.TextUnmarshaler: "off", "junk", "reject".
func (m *Mode) UnmarshalText(text []byte) error {
	for i, name := range modeNames {
		if string(text) == name {
			*m = Mode(i)
			return nil
		}
	}
	return errMode
}

// MarshalText implements encoding.TextMarshaler.
func (m Mode) MarshalText() ([]byte, error) { return []byte(m.String()), nil }

// String returns the mode's word.
func (m Mode) String() string { return modeNames[min(int(m), len(modeNames)-1)] }

var modeNames = [...]string{"off", "junk", "reject"}
