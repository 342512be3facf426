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
}

// Sink takes events. Emit never blocks for long and never fails.
type Sink interface {
	Emit(ctx context.Context, e Event)
}
