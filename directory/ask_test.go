package directory

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"dirpost/internal/envelope"
)

// seeker is a directory that is asked for addresses.
type seeker func(names []envelope.Address) ([]Change, error)

func (seeker) Name() string { return "test" }

func (s seeker) Seek(_ context.Context, names []envelope.Address) ([]Change, error) { return s(names) }

// askedSnapshot is one that was confirmed so long ago.
func askedSnapshot(t *testing.T, age time.Duration, entries ...*Entry) *Snapshot {
	t.Helper()
	l := Open(Rules{Domains: []string{"corp.example"}, Delimiter: "+"})
	changes := make([]Change, len(entries))
	for i, e := range entries {
		changes[i] = Change{e.Key, e}
	}
	l.Apply(1, changes)
	l.Confirm(time.Now().Add(-age))
	return l.Snapshot()
}

// Those who ask at once wait for one answer, and it is remembered for the snapshot.
func TestAskOnce(t *testing.T) {
	t.Parallel()
	var asked atomic.Int32
	open := make(chan struct{})
	k := NewAsker([]Seeker{seeker(func([]envelope.Address) ([]Change, error) {
		asked.Add(1)
		<-open
		return named("test", "new"), nil
	})}, slog.New(slog.DiscardHandler))
	s := askedSnapshot(t, 7*time.Second, person("old"))
	var wg sync.WaitGroup
	for range 10 {
		wg.Go(func() {
			next, r := k.Resolve(t.Context(), s, "192.0.2.1", addr("new@corp.example"))
			if r.Home != HomeHere || next.ByKey("test:new") == nil || s.ByKey("test:new") != nil {
				t.Errorf("%+v", r)
			}
		})
	}
	for asked.Load() == 0 {
		time.Sleep(time.Millisecond)
	}
	close(open)
	wg.Wait()
	if _, r := k.Resolve(t.Context(), s, "192.0.2.2", addr("NEW@corp.example")); r.Home != HomeHere || asked.Load() != 1 {
		t.Errorf("%+v, asked %d times", r, asked.Load())
	}
	next, _ := k.Resolve(t.Context(), s, "192.0.2.1", addr("new@corp.example"))
	k.Resolve(t.Context(), next, "192.0.2.1", addr("other@corp.example"))
	if k.Resolve(t.Context(), s, "192.0.2.1", addr("new@corp.example")); asked.Load() != 2 {
		t.Errorf("an answer is forgotten for another of the same snapshot: asked %d times, want 2", asked.Load())
	}
	if k.Resolve(t.Context(), askedSnapshot(t, 7*time.Second), "192.0.2.1", addr("new@corp.example")); asked.Load() != 3 {
		t.Errorf("another snapshot: asked %d times, want 3", asked.Load())
	}
}

// Who tries addresses out is not asked for beyond a limit, and hears that it cannot be
// told. Known people, other domains, and a snapshot that is new enough ask nothing.
func TestAskLimits(t *testing.T) {
	t.Parallel()
	var asked atomic.Int32
	k := NewAsker([]Seeker{seeker(func([]envelope.Address) ([]Change, error) {
		asked.Add(1)
		return nil, nil
	})}, slog.New(slog.DiscardHandler))
	s := askedSnapshot(t, 7*time.Second, person("old"))
	try := func(s *Snapshot, client, a string) Resolution {
		_, r := k.Resolve(t.Context(), s, client, addr(a))
		return r
	}
	for _, a := range []string{"old@corp.example", "old+detail@corp.example", "x@elsewhere.example", "postmaster@corp.example"} {
		try(s, "192.0.2.1", a)
	}
	try(askedSnapshot(t, time.Second), "192.0.2.1", "a@corp.example")
	if asked.Load() != 0 {
		t.Errorf("asked %d times for nothing", asked.Load())
	}
	var told, not int
	for i := range 200 {
		switch r := try(s, "192.0.2.1", string(rune('a'+i/26))+string(rune('a'+i%26))+"@corp.example"); r.Status.Code {
		case 550:
			told++
		case 451:
			not++
		default:
			t.Fatalf("%+v", r)
		}
	}
	if told < askBurst || not == 0 || int(asked.Load()) != told {
		t.Errorf("told %d, not told %d, asked %d times", told, not, asked.Load())
	}
	if r := try(s, "192.0.2.2", "other@corp.example"); r.Status.Code != 550 {
		t.Errorf("another client: %+v", r)
	}
	if k.total.SetLimit(0); k.total.Burst() > 0 {
		k.total.SetBurst(0)
	}
	if r := try(s, "192.0.2.3", "third@corp.example"); r.Status.Code != 451 {
		t.Errorf("beyond what all may ask: %+v", r)
	}
}

// A directory that fails is left alone; what it says is not trusted to end the server.
func TestAskFailure(t *testing.T) {
	t.Parallel()
	var asked atomic.Int32
	k := NewAsker([]Seeker{seeker(func([]envelope.Address) ([]Change, error) {
		asked.Add(1)
		return nil, context.DeadlineExceeded
	})}, slog.New(slog.DiscardHandler))
	s := askedSnapshot(t, 7*time.Second)
	for _, a := range []string{"a@corp.example", "b@corp.example"} {
		if _, r := k.Resolve(t.Context(), s, "192.0.2.1", addr(a)); r.Status != envelope.StatusDirectory {
			t.Errorf("%s: %+v", a, r)
		}
	}
	if asked.Load() != 1 {
		t.Errorf("asked %d times, want 1", asked.Load())
	}
	k = NewAsker([]Seeker{seeker(func([]envelope.Address) ([]Change, error) { panic("bug") })}, slog.New(slog.DiscardHandler))
	if _, r := k.Resolve(t.Context(), s, "192.0.2.1", addr("a@corp.example")); r.Status != envelope.StatusDirectory {
		t.Errorf("after a panic: %+v", r)
	}
}
