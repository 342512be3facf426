package intake

import (
	"time"

	"dirpost/internal/event"
)

// times are when a message came to each stage, by this machine's clock: what a trace
// shows of it. A stage that was not come to has none.
type times struct {
	began      time.Time // MAIL; what we write ourselves begins with its first octet
	planning   time.Time
	planned    time.Time // what follows is the content: signature, blob
	committing time.Time
}

// accepted is the span of a message that is durable now.
func (t times) accepted(fromQueue bool) event.Span {
	now := time.Now()
	s := event.Span{Name: "message", Root: true, Took: since(now, t.began, t.committing), Steps: [3]event.Step{
		{Name: "plan", Took: t.planned.Sub(t.planning)},
		{Name: "content", Took: t.committing.Sub(t.planned)},
		{Name: "commit", Took: now.Sub(t.committing)},
	}}
	if fromQueue { // it was accepted before
		s.Name, s.Root = "message from the queue", false
	}
	if t.planned.IsZero() {
		s.Steps[0], s.Steps[1] = event.Step{}, event.Step{}
	}
	return s
}

// delivered is the span of one mailbox: all are in the same transaction.
func (t times) delivered() event.Span {
	return event.Span{Name: "delivery", Took: time.Since(t.committing)}
}

// refused is the span of a message that is not taken.
func (t times) refused() event.Span {
	now := time.Now()
	return event.Span{Name: "message", Root: true, Took: since(now, t.began, now)}
}

// since is the time from began to now, or from instead if that is not known.
func since(now, began, instead time.Time) time.Duration {
	if began.IsZero() {
		began = instead
	}
	return now.Sub(began)
}
