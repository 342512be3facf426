package roster

import (
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"dirpost/auth"
	"dirpost/directory"
	"dirpost/internal/bus"
	"dirpost/internal/testenv"
)

var quiet = slog.New(slog.DiscardHandler)

// held are the sessions of one node.
type held struct{ all map[string]auth.Session }

func (h *held) Sessions(person directory.Key) []auth.Session {
	var all []auth.Session
	for _, s := range h.all {
		if s.Person == person || s.Actor == person {
			all = append(all, s)
		}
	}
	return all
}

func (h *held) EndSession(person directory.Key, ref, _ string) bool {
	s, ok := h.all[ref]
	if ok = ok && s.Person == person; ok {
		delete(h.all, ref)
	}
	return ok
}

func session(ref string, since int) auth.Session {
	return auth.Session{
		Ref: ref, Person: "corp:alice", Actor: "corp:alice", Authcid: `CORP\alice`, Protocol: "imap", Mechanism: "PLAIN", AppPassword: 1 << 62,
		Client: netip.MustParseAddr("2001:db8::1"), Since: time.Unix(int64(since), 0), Active: time.Unix(int64(since)+60, 0),
	}
}

// TestRoster: one node learns of the sessions of two, and ends one of the other; a node
// where nobody logs in is not waited for.
func TestRoster(t *testing.T) {
	t.Parallel()
	db := testenv.Database(t)
	nodes := []*held{{map[string]auth.Session{}}, {map[string]auth.Session{}}}
	for i := range 7 {
		nodes[1].all[fmt.Sprint("two-", i)] = session(fmt.Sprint("two-", i), 100+i)
	}
	nodes[0].all["one"] = session("one", 50)
	other := session("other", 60)
	other.Actor, other.Authcid = "corp:bob", strings.Repeat("\x01<&é\"", 100)
	nodes[1].all["other"] = other
	var rosters []*Roster
	for _, here := range []Sessions{nodes[0], nodes[1], nil} {
		b := bus.New(db, quiet)
		go func() { _ = b.Run(t.Context(), nil) }()
		r, stop := New(here, b, quiet)
		t.Cleanup(stop)
		rosters = append(rosters, r)
	}
	var got []auth.Session
	for { // until the nodes have met
		var complete bool
		if got, complete = rosters[0].Of(t.Context(), "corp:alice"); complete && len(got) == 9 {
			break
		}
		if t.Context().Err() != nil {
			t.Fatalf("%d sessions", len(got))
		}
	}
	if !slices.Equal([]string{got[0].Ref, got[1].Ref, got[2].Ref, got[8].Ref}, []string{"one", "other", "two-0", "two-6"}) || got[2] != session("two-0", 100) {
		t.Errorf("%+v", got)
	}
	if got[1].Actor != "corp:bob" || len(got[1].Authcid) > maxName {
		t.Errorf("%+v", got[1])
	}
	rosters[0].End("corp:alice", "two-3")
	rosters[0].End("corp:bob", "two-4") // not hers
	for {
		if got, _ = rosters[0].Of(t.Context(), "corp:alice"); len(got) == 8 {
			break
		}
		if t.Context().Err() != nil {
			t.Fatal("it does not end")
		}
	}
	if slices.ContainsFunc(got, func(s auth.Session) bool { return s.Ref == "two-3" }) {
		t.Errorf("another one has ended: %+v", got)
	}
}

// alone is the bus of a node that does not hear one of two others.
type alone struct{ f map[string]func(string) }

func (a *alone) Publish(topic, payload string) {
	if f := a.f[topic]; f != nil {
		f(payload)
	}
}

func (a *alone) Subscribe(topic string, f func(string)) (cancel func()) {
	a.f[topic] = f
	return func() { delete(a.f, topic) }
}

func (a *alone) Nodes() int { return 1 }

// TestMissing: a node that does not answer is said to be missing, and what cannot be
// read is nothing.
func TestMissing(t *testing.T) {
	t.Parallel()
	hints := &alone{map[string]func(string){}}
	r, stop := New(&held{map[string]auth.Session{"one": session("one", 1)}}, hints, quiet)
	all, complete := r.Of(t.Context(), "corp:alice")
	if len(all) != 1 || complete {
		t.Errorf("%v, complete %v", all, complete)
	}
	for topic := range hints.f {
		for _, payload := range []string{"", "{", "[]", `{"q":1}`, `{"q":"x","n":"y","of":-1}`} {
			hints.Publish(topic, payload)
		}
	}
	stop()
	if len(hints.f) != 0 {
		t.Error("it still listens")
	}
}

// FuzzHints: whatever comes as a hint does no harm.
func FuzzHints(f *testing.F) {
	f.Add(`{"q":"x","n":"y","of":2,"i":0,"s":[{"r":"a","p":"corp:alice","u":"alice","o":"imap","m":"PLAIN","c":"192.0.2.1","b":1}]}`)
	f.Add(`{"q":"x","p":"corp:alice"}`)
	f.Add(`{"p":"corp:alice","r":"one"}`)
	hints := &alone{map[string]func(string){}}
	r, _ := New(&held{map[string]auth.Session{"one": session("one", 1)}}, hints, quiet)
	f.Fuzz(func(_ *testing.T, payload string) {
		i := &inquiry{answered: map[string]int{}, sessions: map[string]auth.Session{}, more: make(chan struct{}, 1)}
		r.begin("x", i)
		r.asked(payload)
		r.answered(payload)
		r.ended(payload)
		r.isComplete(i)
	})
}
