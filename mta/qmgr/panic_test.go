package qmgr

import (
	"context"
	"testing"
	"time"

	"dirpost/internal/envelope"
	"dirpost/mta/queue"
	"dirpost/mta/route"

	dto "github.com/prometheus/client_model/go"
)

// TestPanic: a message that we cannot handle is deferred as any other, others are
// not concerned, and in the end its sender hears of it.
func TestPanic(t *testing.T) {
	t.Parallel()
	remote := func(to string) queue.Recipient { return queue.Recipient{Address: address(t, to)} }
	tests := []struct {
		name    string
		change  func(*world)
		rcpts   []queue.Recipient
		want    string // events
		expired string // report, when it is past its time
	}{
		{"transport", func(w *world) {
			w.router, w.to = straight{}, scripted(func(context.Context, *route.Route, *queue.Message, []queue.Attempt) []queue.Outcome { panic("a bug") })
		}, []queue.Recipient{remote("bob@a.example")}, "bob@a.example deferred 4.3.0 none",
			"bob@a.example failed 5.4.7 X-Dirpost; delivery time expired; last: Temporary local"},
		{"router", func(w *world) { w.router = faulty{} }, []queue.Recipient{remote("bob@a.example")}, "bob@a.example deferred 4.3.0 none",
			"bob@a.example failed 5.4.7 X-Dirpost; delivery time expired; last: Temporary local"},
		{"one mailbox of three", func(w *world) {
			w.door.fail = func(rcpts []queue.Recipient) error {
				for _, r := range rcpts {
					if r.Address.Local == "bob" {
						panic("a bug")
					}
				}
				return nil
			}
		}, []queue.Recipient{ours(t, "alice@corp.example"), ours(t, "bob@corp.example"), ours(t, "carol@corp.example")},
			"alice@corp.example delivered 2.0.0 local\nbob@corp.example deferred 4.3.0 local\ncarol@corp.example delivered 2.0.0 local",
			"bob@corp.example failed 5.4.7 X-Dirpost; delivery time expired; last: Temporary local"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			tt.change(w)
			w.put(nil, tt.rcpts...)
			stop := w.start()
			if got := w.events.wait(t, len(tt.rcpts)); got != tt.want {
				t.Errorf("events:\n%s\nwant\n%s", got, tt.want)
			}
			stop()
			if n := w.panics(); n < 1 {
				t.Errorf("%v panics counted", n)
			}
			for _, e := range w.entries() {
				if pause := e.Next.Sub(w.db.Now()); e.State != queue.StateWaiting || pause < 4*time.Minute || pause > 6*time.Minute || e.Attempts != 1 {
					t.Errorf("left: %+v, in %v", e, pause)
				}
			}

			w = newWorld(t)
			tt.change(w)
			w.put(func(m *queue.Message) { m.Expires = time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC) }, tt.rcpts...)
			w.start()
			w.empty()
			if got := w.door.brief(); got != tt.expired {
				t.Errorf("report:\n%s\nwant\n%s", got, tt.expired)
			}
		})
	}
}

type faulty struct{}

func (faulty) Route(context.Context, string, string) (*route.Route, error) { panic("a bug") }

// TestPanicInReport: a report that cannot be written is tried now and then, and
// not for ever.
func TestPanicInReport(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		age  time.Duration // since it expired, after a day
		left int
	}{{"tried again later", time.Minute, 1}, {"given up", 25 * time.Hour, 0}}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.door.deny = func() error { panic("a bug") }
			now := w.db.Now()
			id := w.put(func(m *queue.Message) { m.Accepted, m.Expires = now.Add(-tt.age-24*time.Hour), now.Add(-tt.age) }, queue.Recipient{Address: address(t, "bob@gone.example")})
			w.router = broken{envelope.ErrNotFound}
			stop := w.start()
			w.events.wait(t, 1)
			for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(5 * time.Millisecond) {
				e := w.entries()
				if len(e) == tt.left && (tt.left == 0 || e[0].State == queue.StateReporting && e[0].Next.Sub(w.db.Now()) > 3*time.Hour) {
					break
				}
				if time.Now().After(deadline) {
					t.Fatalf("%s: left %+v", id, e)
				}
			}
			stop()
			if n := w.panics(); n != 1 {
				t.Errorf("%v panics counted", n)
			}
		})
	}
}

// panics is how many the manager has counted.
func (w *world) panics() float64 {
	w.t.Helper()
	var m dto.Metric
	if err := w.manager.panics.Write(&m); err != nil {
		w.t.Fatal(err)
	}
	return m.GetCounter().GetValue()
}
