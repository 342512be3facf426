package web

import (
	"context"
	"encoding/json"
	"maps"
	"net/http"
	"sync"
	"time"
)

// State is how a component does.
type State string

// The states. A component that is degraded serves: a directory that is away
// while the snapshot answers, a standby that lags.
const (
	OK       State = "ok"
	Degraded State = "degraded"
	Down     State = "down"
)

// Check says how a component does, and in a few words why, without any secret.
// It gives up when ctx ends.
type Check func(ctx context.Context) (State, string)

const (
	checkTimeout = 2 * time.Second
	checkShare   = time.Second // for how long an answer is shared
)

// component is what /healthz says of one.
type component struct {
	State  State  `json:"state"`
	Detail string `json:"detail,omitempty"`
}

// report is what /healthz says. The state is the worst of all components.
type report struct {
	State      State                `json:"state"`
	Components map[string]component `json:"components,omitempty"`
}

// health answers /healthz.
type health struct {
	checks map[string]Check

	mu   sync.Mutex // guards what follows, and is held while checks run
	at   time.Time
	last report
}

// report asks every component, unless that was done just now.
func (h *health) report(ctx context.Context) report {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.at.IsZero() && time.Since(h.at) < checkShare {
		return h.last
	}
	// The answer is for others too, so it does not depend on this client.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), checkTimeout)
	defer cancel()
	type answer struct {
		name string
		component
	}
	answers := make(chan answer, len(h.checks))
	for name, check := range h.checks {
		go func() {
			s, detail := check(ctx)
			answers <- answer{name, component{s, detail}}
		}()
	}
	r := report{State: OK, Components: make(map[string]component)}
	for name := range h.checks {
		r.Components[name] = component{Down, "no answer in time"}
	}
	for n := 0; n < len(h.checks); n++ {
		select {
		case a := <-answers:
			r.Components[a.name] = a.component
		case <-ctx.Done():
			n = len(h.checks)
		}
	}
	for c := range maps.Values(r.Components) {
		if c.State == Down || c.State == Degraded && r.State == OK {
			r.State = c.State
		}
	}
	h.at, h.last = time.Now(), r
	return r
}

// serve answers with 200, or 503 when a component is down; details says whether
// the client may know which.
func (h *health) serve(w http.ResponseWriter, r *http.Request, details bool) {
	rep := h.report(r.Context())
	if !details {
		rep.Components = nil
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	if rep.State == Down {
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	_ = e.Encode(rep) // the client has left
}
