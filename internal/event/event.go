package event

import (
	"context"
	"log/slog"
	"time"
)

// Event is one outcome. Msg is a constant string of the stage that emits it,
// data stands in Attrs under the log keys of the house (queue_id, session,
// client, user, from, to, orig_to, relay, delay, dsn, status, …).
type Event struct {
	Time  time.Time // zero: now
	Level slog.Level
	Room  string // "mta/smtpd", "mra/imapd", …: who says it
	Msg   string // "message accepted", "delivered", "login", …
	Trace string // queue id, else session id: one id through all lines
	Attrs []slog.Attr
	Span  Span
}

// Span is what an event says to a trace: that something is over which took a time.
// It is made of values alone, so that it costs nothing where nobody traces.
type Span struct {
	Name string        // of what is over, a constant; "": nothing that a trace shows
	Root bool          // all else under Event.Trace is part of it
	Took time.Duration // until Event.Time
	// Steps are its last parts, one after the other, the last one ending with it. What
	// has no name is none.
	Steps [3]Step
}

// Step is a part of a Span.
type Step struct {
	Name string
	Took time.Duration
}

// Sink takes events. Emit never blocks for long and never fails.
type Sink interface {
	Emit(ctx context.Context, e Event)
}
