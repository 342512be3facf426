package auth

import (
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"dirpost/directory"
)

// group is a group of people in the directory.
func group(name string, members ...string) directory.Change {
	e := &directory.Entry{Key: directory.Key("corp:" + name), Directory: "corp", DN: "cn=" + name + ",dc=x", Kind: directory.KindList}
	for _, m := range members {
		e.Members = append(e.Members, "uid="+m+",dc=x")
	}
	return directory.Change{Key: e.Key, Entry: e}
}

// From outside the bare password of the domain is taken from those only whom the
// configuration names; the directory is not asked about anybody else, so that
// nothing that arrives there counts against an account.
func TestOutside(t *testing.T) {
	t.Parallel()
	b, v, live, log := newBridge(Config{
		FailureTime: time.Nanosecond, Remember: time.Hour, GuessBurst: 5,
		Inside: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}, OutsidePasswordGroups: []string{"cn=travel,dc=x"},
	})
	live.Apply(2, []directory.Change{group("travel", "bob")})
	inside, outside := client, client
	inside.Client = netip.MustParseAddr("10.1.2.3")
	try := func(c Conn, user, pass string, want error, binds int) {
		t.Helper()
		before := v.binds
		_, err := b.Login(t.Context(), c, user, pass)
		if !errors.Is(err, want) || v.binds-before != binds {
			t.Errorf("%s from %s: %v with %d binds, want %v with %d", user, c.Client, err, v.binds-before, want, binds)
		}
	}
	try(inside, "alice", "right", nil, 1)
	try(inside, "alice", "right", nil, 0)
	try(outside, "alice", "right", ErrCredentials, 0) // remembered, and not taken all the same
	for range 20 {
		try(outside, "alice", secret, ErrCredentials, 0)
	}
	if line := log.lines[len(log.lines)-1]; !strings.Contains(line, "reason=door") || !strings.Contains(line, "door=outside") {
		t.Errorf("audit: %s", line)
	}
	try(outside, "bob", secret, ErrCredentials, 1)
	try(outside, "bob", "right", nil, 1)
	live.Apply(3, []directory.Change{group("travel")})
	try(outside, "bob", "right", ErrCredentials, 0)
}

// What is offered at a door would work there.
func TestMechanismsByDoor(t *testing.T) {
	t.Parallel()
	inside := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}
	for _, tt := range []struct {
		cfg  Config
		from string
		want []string
	}{
		{Config{}, "192.0.2.7", []string{"PLAIN", "LOGIN"}},
		{Config{Inside: inside}, "10.1.1.1", []string{"PLAIN", "LOGIN"}},
		{Config{Inside: inside}, "192.0.2.7", nil},
		{Config{Inside: inside, OutsidePasswordGroups: []string{"*"}}, "192.0.2.7", []string{"PLAIN", "LOGIN"}},
	} {
		b, _, _, _ := newBridge(tt.cfg)
		c := Conn{Protocol: "imap", TLS: true, Client: netip.MustParseAddr(tt.from)}
		if got := b.Mechanisms(c); !slices.Equal(got, tt.want) {
			t.Errorf("%+v from %s: %v", tt.cfg, tt.from, got)
		}
		_, err := b.Start(t.Context(), c, "PLAIN")
		if (err == nil) != (tt.want != nil) {
			t.Errorf("Start: %v", err)
		}
	}
}
