package intake

import (
	"context"
	"fmt"
	"log/slog"
	"runtime/debug"

	"dirpost/internal/envelope"
	"dirpost/internal/event"

	"github.com/prometheus/client_golang/prometheus"
)

func newPanics() prometheus.Counter {
	return prometheus.NewCounter(prometheus.CounterOpts{Name: "dirpost_intake_panics_total", Help: "Messages that a bug of ours kept from being taken or planned. Alert on any."})
}

// Collectors are the metrics, to be registered by the caller.
func (d *Door) Collectors() []prometheus.Collector { return []prometheus.Collector{d.panics} }

// guard runs what is done for one message, and turns a panic into trouble of
// ours (451): the client keeps the message and the session goes on, for others
// are right to use it. The transaction of the database has been rolled back on
// the way here.
func (d *Door) guard(ctx context.Context, trace envelope.QueueID, f func() error) (err error) {
	defer func() {
		v := recover()
		if v == nil {
			return
		}
		d.panics.Inc()
		err = envelope.Because(envelope.LocalError, fmt.Errorf("panic: %v", v))
		d.Events.Emit(ctx, event.Event{Level: slog.LevelError, Room: "mta/intake", Msg: "panic", Trace: trace.String(), Attrs: []slog.Attr{
			slog.String("queue_id", trace.String()), slog.Any("err", err), slog.String("stack", string(debug.Stack())),
		}})
	}()
	return f()
}
