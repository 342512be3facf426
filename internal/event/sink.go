package event

import "context"

// Tee is a sink that hands each event to all of sinks, in their order.
func Tee(sinks ...Sink) Sink { return tee(sinks) }

type tee []Sink

func (t tee) Emit(ctx context.Context, e Event) {
	for _, s := range t {
		s.Emit(ctx, e)
	}
}

// Discard is a sink that forgets.
var Discard Sink = tee(nil)
