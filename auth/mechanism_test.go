package auth

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"dirpost/directory"
)

// token is a mechanism that names somebody, on the second round, with data for
// the client.
type token struct {
	b     *Bridge
	a     *attempt
	asked bool
}

func (s *token) Next(_ context.Context, response []byte) ([]byte, bool, error) {
	if !s.asked {
		s.asked = true
		return []byte("who?"), false, nil
	}
	e := s.b.live.Snapshot().ByKey(directory.Key(response))
	if e == nil {
		s.a.reason = "token"
		return nil, false, ErrCredentials
	}
	s.a.entry, s.a.proof, s.a.authcid = e, ProofToken, string(response)
	return []byte("welcome"), true, nil
}

// What a mechanism proves is judged like a password: state, policies and protocol
// are asked in one place, and what it has to say with success only who may enter
// hears.
func TestMechanism(t *testing.T) {
	t.Parallel()
	for who, want := range map[string]error{
		"corp:alice": nil, "corp:dave": ErrDisabled, "corp:eve": ErrDisabled, "corp:gone": ErrDisabled, "corp:web": ErrAuthorization,
		"corp:office": ErrCredentials, "corp:nomail": ErrCredentials, "corp:nobody": ErrCredentials,
		// A password that must be changed is none of a token's business.
		"corp:late": nil,
	} {
		b, _, live, log := newBridge(Config{FailureTime: time.Nanosecond})
		live.Apply(2, []directory.Change{{Key: "corp:late", Entry: person("late", func(e *directory.Entry) { e.Login = directory.StateMustChange })}})
		b.mechanisms = append([]mechanism{{"TOKEN", func(*Bridge, Conn) bool { return true }, func(b *Bridge, _ Conn, a *attempt) server { return &token{b: b, a: a} }}}, b.mechanisms...)
		if got := b.Mechanisms(client); !slices.Equal(got, []string{"TOKEN", "PLAIN", "LOGIN"}) {
			t.Errorf("offered: %v", got)
		}
		x, err := b.Start(t.Context(), client, "token")
		if err != nil {
			t.Fatal(err)
		}
		if challenge, done, err := x.Next(t.Context(), nil); string(challenge) != "who?" || done || err != nil {
			t.Fatal(string(challenge), done, err)
		}
		challenge, done, err := x.Next(t.Context(), []byte(who))
		if !errors.Is(err, want) || done != (want == nil) || (string(challenge) == "welcome") != (want == nil) {
			t.Errorf("%s: %q, %v, %v", who, challenge, done, err)
		}
		if id := x.Identity(); (id != nil) != (want == nil) || id != nil && (string(id.Person) != who || id.Proof != ProofToken || id.Mechanism != "TOKEN") {
			t.Errorf("%s: %+v", who, id)
		}
		if len(log.lines) != 1 {
			t.Errorf("%s: %d lines", who, len(log.lines))
		}
	}
}

// A mechanism that would not work is as good as unknown.
func TestMechanismNotOffered(t *testing.T) {
	t.Parallel()
	b, _, _, _ := newBridge(Config{})
	b.mechanisms = append(b.mechanisms, mechanism{"TOKEN", func(*Bridge, Conn) bool { return false }, nil})
	if _, err := b.Start(t.Context(), client, "TOKEN"); !errors.Is(err, ErrMechanism) {
		t.Error(err)
	}
	if slices.Contains(b.Mechanisms(client), "TOKEN") {
		t.Error("offered")
	}
}

func TestDoor(t *testing.T) {
	t.Parallel()
	inside := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("2001:db8::/32")}
	for _, tt := range []struct {
		inside []netip.Prefix
		client string
		want   Door
	}{
		{nil, "192.0.2.1", Inside},
		{[]netip.Prefix{}, "192.0.2.1", Outside},
		{inside, "192.0.2.1", Outside},
		{inside, "10.1.2.3", Inside},
		{inside, "::ffff:10.1.2.3", Inside},
		{inside, "2001:db8::1", Inside},
		{inside, "2001:db9::1", Outside},
		{inside, "127.0.0.1", Outside},
	} {
		b, _, _, _ := newBridge(Config{Inside: tt.inside})
		if got := b.Door(Conn{Client: netip.MustParseAddr(tt.client)}); got != tt.want {
			t.Errorf("%s: %v", tt.client, got)
		}
	}
}

// A trial goes the way of every login, says what was asked, and does not wait.
func TestTry(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		trial Trial
		want  error
		last  string // step
		binds int
	}{
		{Trial{Authcid: "alice"}, nil, "protocol", 0},
		{Trial{Authcid: "alice", Password: "right"}, nil, "protocol", 1},
		{Trial{Authcid: "alice", Password: secret}, ErrCredentials, "password", 1},
		{Trial{Authcid: "nobody"}, ErrCredentials, "name", 0},
		{Trial{Authcid: "office"}, ErrCredentials, "name", 0},
		{Trial{Authcid: "dave"}, ErrDisabled, "state", 0},
		{Trial{Authcid: "mia", Password: "right"}, ErrExpired, "password", 1},
		{Trial{Authcid: "web"}, ErrAuthorization, "protocol", 0},
		{Trial{Authcid: "alice", Authzid: "bob"}, ErrAuthorization, "on behalf", 0},
		{Trial{}, ErrCredentials, "name", 0},
	} {
		b, v, _, log := newBridge(Config{FailureTime: time.Hour})
		tt.trial.Conn = client
		steps, err := b.Try(t.Context(), tt.trial)
		last := steps[len(steps)-1]
		if !errors.Is(err, tt.want) || last.Name != tt.last || last.OK != (tt.want == nil) || v.binds != tt.binds {
			t.Errorf("%+v: %v, %d binds, %+v", tt.trial, err, v.binds, steps)
		}
		if len(log.lines) != 1 || strings.Contains(log.lines[0], secret) {
			t.Errorf("audit: %q", log.lines)
		}
	}
	b, _, _, _ := newBridge(Config{})
	clear := client
	clear.TLS = false
	if steps, err := b.Try(t.Context(), Trial{Conn: clear, Authcid: "alice"}); !errors.Is(err, ErrPolicy) || steps[len(steps)-1].OK {
		t.Errorf("in clear: %v, %+v", err, steps)
	}
}

// Exchanges that clients begin and leave by the thousand hold nothing and are no
// decisions.
func TestHalfFinished(t *testing.T) {
	t.Parallel()
	b, v, _, log := newBridge(Config{FailureTime: time.Hour})
	for range 5000 {
		for _, mech := range b.Mechanisms(client) {
			x, err := b.Start(t.Context(), client, mech)
			if err != nil {
				t.Fatal(err)
			}
			if _, done, err := x.Next(t.Context(), nil); done || err != nil {
				t.Fatal(done, err)
			}
		}
	}
	if v.binds != 0 || len(log.lines) != 0 || len(b.watches) != 0 {
		t.Errorf("%d binds, %d lines, %d watches", v.binds, len(log.lines), len(b.watches))
	}
	if _, err := b.Login(t.Context(), client, "alice", "right"); err != nil {
		t.Error(err)
	}
}
