package auth

import (
	"errors"
	"fmt"
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

// A running session ends when its protocol is denied, or the group is left that the
// mailbox depends on; those of other protocols and of other people go on.
func TestGroupPolicyEndsSessions(t *testing.T) {
	t.Parallel()
	live := directory.Open(directory.Rules{
		Domains:   []string{"corp.example"},
		Policies:  []directory.Policy{{Group: "cn=desk,dc=x", Deny: []string{"imap"}}, {Group: "cn=outer,dc=x", Deny: []string{"submission"}}},
		Mailboxes: []directory.MailboxRule{{Directory: "corp", Groups: []string{"cn=mail,dc=x"}}},
	})
	who := func(uid string) directory.Change {
		e := person(uid, func(e *directory.Entry) { e.DN = "uid=" + uid + ",dc=x" })
		return directory.Change{Key: e.Key, Entry: e}
	}
	group := func(name string, members ...string) directory.Change {
		return directory.Change{Key: directory.Key("corp:" + name), Entry: &directory.Entry{Key: directory.Key("corp:" + name), Directory: "corp", DN: "cn=" + name + ",dc=x", Kind: directory.KindList, Members: members}}
	}
	const alice, bob = "uid=alice,dc=x", "uid=bob,dc=x"
	live.Apply(1, []directory.Change{who("alice"), who("bob"), group("desk"), group("outer"), group("inner"), group("mail", alice, bob)})
	live.Confirm(time.Now())
	b := New(Config{FailureTime: time.Nanosecond, GuessBurst: 100}, live, Parts{Verifiers: map[string]Verifier{"corp": &verifier{}}}, &events{})
	told := map[string]string{}
	enter := func(uid, protocol string) {
		t.Helper()
		conn := client
		conn.Protocol = protocol
		id, err := b.Login(t.Context(), conn, uid, "right")
		if err != nil {
			t.Fatalf("%s by %s: %v", uid, protocol, err)
		}
		b.Watch(id, func(reason string) { told[uid+" "+protocol] += reason })
	}
	for _, uid := range []string{"alice", "bob"} {
		enter(uid, "imap")
		enter(uid, "smtp")
		enter(uid, "http")
	}
	check := func(what string, want map[string]string) {
		t.Helper()
		if fmt.Sprint(told) != fmt.Sprint(want) {
			t.Errorf("%s: told %v, want %v", what, told, want)
		}
		clear(told)
	}
	live.Apply(2, []directory.Change{group("desk", alice)})
	check("a denied protocol", map[string]string{"alice imap": "protocol not allowed"})
	live.Apply(3, []directory.Change{group("outer", "cn=inner,dc=x"), group("inner", bob)})
	check("denied by a group in a group", map[string]string{"bob smtp": "protocol not allowed"})
	live.Apply(4, []directory.Change{group("mail", alice)})
	check("a group that was left", map[string]string{"bob imap": "mailbox not here", "bob http": "mailbox not here"})
	live.Apply(5, []directory.Change{group("mail")})
	check("a group that was emptied", map[string]string{"alice smtp": "mailbox not here", "alice http": "mailbox not here"})

	// The services of the entry itself.
	live.Apply(6, []directory.Change{group("desk"), group("mail", alice)})
	enter("alice", "imap")
	enter("alice", "pop3")
	only := who("alice")
	only.Entry.Services = []string{"pop3"}
	live.Apply(7, []directory.Change{only})
	check("a service that was taken away", map[string]string{"alice imap": "protocol not allowed"})
}

func TestDeparted(t *testing.T) {
	t.Parallel()
	_, _, live, _ := newBridge(Config{})
	for uid, want := range map[string]string{"alice": "", "dave": "account disabled", "eve": "account expired", "gone": "account deleted", "nobody": "account deleted"} {
		if got := Departed(live.Snapshot(), directory.Key("corp:"+uid), time.Now()); got != want {
			t.Errorf("%s: %q, want %q", uid, got, want)
		}
	}
	if got := Departed(directory.Open(directory.Rules{}).Snapshot(), "corp:nobody", time.Now()); got != "" {
		t.Errorf("before the directory was read: %q", got)
	}
}
