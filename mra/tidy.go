package mra

import (
	"context"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

const (
	tidyEvery = 10 * time.Second
	// tidyParked is how many sessions must have fallen silent to make it worth a
	// collection, which costs some milliseconds.
	tidyParked = 64
)

// tidy gives memory back when sessions have fallen silent and nothing else
// happens. What their logins and first commands left behind would stay until the
// next collection, and a node whose clients all idle allocates nothing that
// would cause one.
func (s *Server) tidy(ctx context.Context) {
	tick := time.NewTicker(tidyEvery)
	defer tick.Stop()
	last := collections()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		n := collections()
		if n == last && s.parked.Load() >= tidyParked {
			s.parked.Store(0)
			runtime.GC() // a pool lets go of its buffers in the second cycle
			debug.FreeOSMemory()
			n = collections()
		}
		last = n
	}
}

// collections is how often the collector has run.
func collections() uint64 {
	sample := []metrics.Sample{{Name: "/gc/cycles/total:gc-cycles"}}
	metrics.Read(sample)
	return sample[0].Value.Uint64()
}
