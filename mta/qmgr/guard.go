package qmgr

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"

	"dirpost/internal/envelope"
	"dirpost/mta/queue"

	"github.com/prometheus/client_golang/prometheus"
)

// errPanic reports a bug of ours. It has no status of its own, so it is
// temporary: mail waits until we are mended, or for the queue's lifetime.
var errPanic = errors.New("panic")

func newPanics() prometheus.Counter {
	return prometheus.NewCounter(prometheus.CounterOpts{Name: "dirpost_qmgr_panics_total", Help: "Messages that a bug of ours kept from being delivered or reported. Alert on any."})
}

// newAttempts counts what became of attempts.
func newAttempts() *prometheus.CounterVec {
	return prometheus.NewCounterVec(prometheus.CounterOpts{Name: "dirpost_qmgr_attempts_total", Help: "Attempts to deliver to a recipient, by what came of them: delivered, deferred, failed."}, []string{"outcome"})
}

// newAttemptTime measures attempts.
func newAttemptTime() *prometheus.HistogramVec {
	return prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "dirpost_qmgr_attempt_seconds", Help: "Time from the claim of a recipient until what came of the attempt is durable, by outcome.",
		Buckets: []float64{.01, .05, .2, 1, 5, 20, 60, 300},
	}, []string{"outcome"})
}

// Collectors are the metrics, to be registered by the caller.
func (m *Manager) Collectors() []prometheus.Collector {
	return []prometheus.Collector{m.panics, m.attempts, m.attemptTime}
}

// guard runs what is done for one message, and turns a panic into errPanic. So a
// message that we cannot handle is deferred like any other, with pauses that
// grow, and is reported when its time is over; it neither comes back at the end
// of each lease nor takes others with it.
func (m *Manager) guard(ctx context.Context, msg *queue.Message, f func() error) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = m.panicked(ctx, msg.QueueID, v)
		}
	}()
	return f()
}

// panicked counts and logs a panic. id is 0 if no message is known to be at
// fault.
func (m *Manager) panicked(ctx context.Context, id envelope.QueueID, v any) error {
	m.panics.Inc()
	err := fmt.Errorf("%w: %v", errPanic, v)
	m.Log.ErrorContext(ctx, "queue worker failed", "queue_id", id.String(), "err", err, "stack", string(debug.Stack()))
	return err
}
