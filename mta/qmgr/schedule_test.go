package qmgr

import (
	"testing"
	"testing/synctest"
	"time"

	"dirpost/internal/envelope"
	"dirpost/mta/queue"
)

// RFC 5321 §4.5.4.1: the pause grows with the age, within bounds, and ends when
// the message does.
func TestPause(t *testing.T) {
	t.Parallel()
	m := &Manager{config: Config{}.withDefaults()}
	accepted := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	msg := &queue.Message{Accepted: accepted, Expires: accepted.Add(5 * 24 * time.Hour)}
	tests := []struct{ age, min, max time.Duration }{
		{0, 5 * time.Minute, 330 * time.Second},
		{time.Minute, 5 * time.Minute, 330 * time.Second},
		{20 * time.Minute, 20 * time.Minute, 22 * time.Minute},
		{24 * time.Hour, 4 * time.Hour, 264 * time.Minute},
		{5*24*time.Hour - time.Hour, time.Hour, time.Hour},
		{5*24*time.Hour - time.Millisecond, time.Second, time.Second},
	}
	for _, tt := range tests {
		for range 50 {
			if p := m.pause(accepted.Add(tt.age), msg); p < tt.min || p > tt.max {
				t.Errorf("at %v: %v, want %v to %v", tt.age, p, tt.min, tt.max)
			}
		}
	}
	attempts, age := 0, time.Duration(0)
	for age < 5*24*time.Hour {
		age += m.pause(accepted.Add(age), msg)
		attempts++
	}
	if attempts < 30 || attempts > 45 {
		t.Errorf("%d attempts in five days", attempts)
	}
}

func TestDestinations(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := newDestinations(20, 5*time.Minute)
		well, down := queue.Outcome{}, queue.Outcome{Down: true, Reply: queue.Reply{Text: "timed out"}}
		window := func() float64 { return d.byName["a.example"].window }
		for range 500 {
			d.heard("a.example", well)
		}
		if window() != 20 {
			t.Errorf("after success: %v", window())
		}
		for range 15 {
			d.heard("a.example", down)
		}
		if _, dead := d.isDead("a.example"); dead {
			t.Error("dead after fewer failures than places")
		}
		for range 10 {
			d.heard("a.example", down)
		}
		if reason, dead := d.isDead("a.example"); !dead || reason.Text != "timed out" {
			t.Errorf("alive after 25 failures in a row: %v", window())
		}
		time.Sleep(5*time.Minute + time.Second)
		if _, dead := d.isDead("a.example"); dead {
			t.Error("dead for ever")
		}
		for i := range 2 {
			if got := len(d.full()); got != 0 {
				t.Errorf("full with %d workers at b.example", i)
			}
			d.enter("b.example")
		}
		if got := d.full(); len(got) != 1 || got[0] != "b.example" {
			t.Errorf("full: %v", got)
		}
		d.leave("b.example")
		d.leave("b.example")
		time.Sleep(time.Hour)
		d.full()
		if len(d.byName) != 0 {
			t.Errorf("remembered for ever: %v", d.byName)
		}
	})
}

func TestWants(t *testing.T) {
	t.Parallel()
	alice := &queue.Message{ReversePath: envelope.ReversePathOf(envelope.Address{Local: "alice", Domain: "corp.example"})}
	tests := []struct {
		name            string
		msg             *queue.Message
		notify, outcome envelope.Notify
		want            bool
	}{
		{"failure by default", alice, 0, envelope.NotifyFailure, true},
		{"delay by default", alice, 0, envelope.NotifyDelay, true},
		{"success is asked for", alice, 0, envelope.NotifySuccess, false},
		{"asked for", alice, envelope.NotifySuccess, envelope.NotifySuccess, true},
		{"something else asked for", alice, envelope.NotifySuccess, envelope.NotifyFailure, false},
		{"never", alice, envelope.NotifyNever, envelope.NotifyFailure, false},
		{"nobody to tell", &queue.Message{}, envelope.NotifyFailure, envelope.NotifyFailure, false},
	}
	for _, tt := range tests {
		if got := wants(tt.msg, tt.notify, tt.outcome); got != tt.want {
			t.Errorf("%s: %v", tt.name, got)
		}
	}
}

func TestConfig(t *testing.T) {
	t.Parallel()
	good := Config{Node: "a", Hostname: "mail.corp.example", Postmaster: envelope.Address{Local: "postmaster", Domain: "corp.example"}}
	if err := good.Validate(); err != nil {
		t.Error(err)
	}
	for name, change := range map[string]func(*Config){
		"node": func(c *Config) { c.Node = "" }, "host name": func(c *Config) { c.Hostname = "" }, "postmaster": func(c *Config) { c.Postmaster = envelope.Address{} },
		"number": func(c *Config) { c.Workers = -1 }, "time": func(c *Config) { c.Lease = -1 }, "bounds": func(c *Config) { c.MinBackoff = 5 * time.Hour },
	} {
		bad := good
		if change(&bad); bad.Validate() == nil {
			t.Errorf("bad %s is taken as valid", name)
		}
	}
}
