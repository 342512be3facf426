package auth

import (
	"errors"
	"testing"
	"time"

	"dirpost/directory"
)

// TestGroupPolicy: what a group denies is denied at the login, and whoever comes
// into a group that may not log in is out at once.
func TestGroupPolicy(t *testing.T) {
	t.Parallel()
	live := directory.Open(directory.Rules{Domains: []string{"corp.example"}, Policies: []directory.Policy{
		{Group: "cn=desk,dc=x", Deny: []string{"imap"}}, {Group: "cn=barred,dc=x", NoLogin: true},
	}})
	alice := person("alice", func(e *directory.Entry) { e.DN = "uid=alice,dc=x" })
	group := func(name string, members ...string) directory.Change {
		return directory.Change{Key: directory.Key("test:" + name), Entry: &directory.Entry{Key: directory.Key("test:" + name), Directory: "test", DN: "cn=" + name + ",dc=x", Kind: directory.KindList, Members: members}}
	}
	live.Apply(1, []directory.Change{{Key: alice.Key, Entry: alice}, group("desk"), group("barred")})
	live.Confirm(time.Now())
	b := New(Config{FailureTime: time.Nanosecond, GuessBurst: 100}, live, Parts{Verifiers: map[string]Verifier{"corp": &verifier{}}}, &events{})
	conn := client
	conn.Protocol = "imap"
	id, err := b.Login(t.Context(), conn, "alice", "right")
	if err != nil {
		t.Fatal(err)
	}
	live.Apply(2, []directory.Change{group("desk", "uid=alice,dc=x")})
	if _, err := b.Login(t.Context(), conn, "alice", "right"); !errors.Is(err, ErrAuthorization) {
		t.Errorf("imap denied by a group: %v", err)
	}
	live.Apply(3, []directory.Change{group("desk")})
	told := ""
	defer b.Watch(id, func(reason string) { told = reason })()
	live.Apply(4, []directory.Change{group("barred", "uid=alice,dc=x")})
	if told != "account disabled" {
		t.Errorf("told %q", told)
	}
	if _, err := b.Login(t.Context(), conn, "alice", "right"); !errors.Is(err, ErrDisabled) {
		t.Errorf("login barred by a group: %v", err)
	}
}
