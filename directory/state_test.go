package directory

import (
	"testing"
	"time"

	"dirpost/internal/envelope"
)

// Each state of an account: who may log in, and whose mail is taken, when.
func TestStates(t *testing.T) {
	t.Parallel()
	leave := func(e *Entry) { *e = *(life{now: day0, s: at(day0)}).merge(e, nil) }
	tests := []struct {
		name  string
		set   func(*Entry)
		after time.Duration
		login State
		code  int
	}{
		{"active", func(*Entry) {}, 0, StateActive, 250},
		{"disabled", func(e *Entry) { e.Login = StateDisabled }, 0, StateDisabled, 250},
		{"disabled for years", func(e *Entry) { e.Login = StateDisabled }, 1000 * day, StateDisabled, 250},
		{"rejected", func(e *Entry) { e.Login, e.Delivery = StateDisabled, StateDisabled }, 0, StateDisabled, 550},
		{"locked", func(e *Entry) { e.Login = StateLocked }, 0, StateLocked, 250},
		{"must change", func(e *Entry) { e.Login = StateMustChange }, 0, StateMustChange, 250},
		{"held", func(e *Entry) { e.Delivery = StateHeld }, 0, StateActive, 250},
		{"before its end", func(e *Entry) { e.Expires = day0.Add(time.Minute) }, 0, StateActive, 250},
		{"at its end", func(e *Entry) { e.Expires = day0 }, 0, StateExpired, 250},
		{"expired, before ten days", func(e *Entry) { e.Expires = day0 }, 10*day - 1, StateExpired, 250},
		{"expired, after ten days", func(e *Entry) { e.Expires = day0 }, 10 * day, StateExpired, 550},
		{"left", leave, 0, StateGrace, 250},
		{"left, before thirty days", leave, 30*day - 1, StateGrace, 250},
		{"left, after thirty days", leave, 30 * day, StateGrace, 550},
		{"rejected, then left", func(e *Entry) { e.Delivery = StateDisabled; leave(e) }, 0, StateGrace, 550},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			now := day0.Add(tt.after)
			s := at(now, personBut("alice", tt.set))
			r := s.Resolve(addr("alice@corp.example"))
			code := r.Status.Code
			if r.OK() {
				code = 250
			}
			if e := s.ByKey("test:alice"); e.LoginState(now) != tt.login || code != tt.code {
				t.Errorf("login %d, mail %d, want %d and %d", e.LoginState(now), code, tt.login, tt.code)
			}
		})
	}
}

// Who leaves is no member, no owner and no login any more; only mail knows them.
func TestLeft(t *testing.T) {
	t.Parallel()
	alice := personBut("alice", func(e *Entry) { e.SID, e.X500 = "S-1-5-21-1", []string{"/o=x/cn=alice"} })
	shared := entry(KindShared, "office", func(e *Entry) { e.Access = dns("bob") })
	s := at(day0, alice, person("bob"), shared, list("team", ListOpen, "alice", "bob"))
	l := life{now: day0, s: s}
	var changes []Change
	for _, key := range []Key{"test:alice", "test:office", "test:team"} {
		changes = append(changes, Change{key, l.merge(s.ByKey(key), nil)})
	}
	list := s.with(2, changes[:2])
	if x := list.Expand([]envelope.Recipient{{Address: addr("team@corp.example")}}, Terms{}); len(x.Local) != 1 || x.Local[0].Entry.Key != "test:bob" {
		t.Errorf("team: %+v", x.Local)
	}
	if list.ByLogin("alice") != nil || list.ByDN(dn("alice")) != nil || list.BySID("S-1-5-21-1") != nil || list.ByX500("/o=x/cn=alice") != nil {
		t.Error("found by another name than the key")
	}
	if len(list.MailboxesOf(list.ByKey("test:bob"))) != 0 {
		t.Error("a shared mailbox that is gone can be opened")
	}
	for e := range list.All() {
		if e.IsGone() {
			t.Errorf("%s is among all", e.Key)
		}
	}
	tally := list.Tallies()["test"]
	if tally.Gone != 2 || tally.Of(KindPerson) != 1 || tally.Of(KindList) != 1 || tally.Of(KindShared) != 0 {
		t.Errorf("%+v", tally)
	}
	gone := list.with(3, changes[2:])
	if r := gone.Resolve(addr("team@corp.example")); r.Home != HomeNobody {
		t.Errorf("a list that is gone: %+v", r)
	}
}
