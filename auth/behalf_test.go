package auth

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"dirpost/directory"
)

// Somebody acts as somebody else: by the directory's rights, or as a master; the
// audit names both.
func TestOnBehalf(t *testing.T) {
	t.Parallel()
	change := func(uid string, f func(*directory.Entry)) directory.Change {
		return directory.Change{Key: directory.Key("corp:" + uid), Entry: person(uid, f)}
	}
	shared := func(name string, access, sendAs []string) directory.Change {
		c := change(name, func(e *directory.Entry) {
			e.Kind, e.Logins, e.Access, e.SendAs = directory.KindShared, nil, access, sendAs
		})
		return c
	}
	setup := func() (*Bridge, *directory.Live, *events) {
		b, _, live, log := newBridge(Config{FailureTime: time.Nanosecond, Masters: []string{"cn=masters,dc=x"}})
		live.Apply(2, []directory.Change{
			group("masters", "root", "dave"), group("team", "alice"),
			change("root", func(e *directory.Entry) { e.Primary.Domain = "other.example" }), // no mailbox here
			shared("sales", []string{"cn=team,dc=x"}, nil),
			shared("press", nil, []string{"uid=alice,dc=x"}),
			change("carol", func(e *directory.Entry) { e.Access, e.Services = []string{"uid=alice,dc=x"}, []string{"imap"} }),
		})
		return b, live, log
	}
	login := func(b *Bridge, protocol, authzid, user, pass string) (*Identity, error) {
		c := client
		c.Protocol = protocol
		x, err := b.Start(t.Context(), c, "PLAIN")
		if err != nil {
			t.Fatal(err)
		}
		_, _, err = x.Next(t.Context(), fmt.Appendf(nil, "%s\x00%s\x00%s", authzid, user, pass))
		return x.Identity(), err
	}
	for _, tt := range []struct {
		protocol, authzid, user string
		want                    error
	}{
		{"imap", "sales@corp.example", "alice", nil},
		{"pop3", "sales@corp.example", "alice", nil},
		{"smtp", "sales@corp.example", "alice", ErrAuthorization}, // may read, not send
		{"smtp", "press@corp.example", "alice", nil},
		{"imap", "press@corp.example", "alice", ErrAuthorization},
		{"imap", "sales@corp.example", "bob", ErrAuthorization},
		{"imap", "CAROL", "alice", nil},
		{"pop3", "carol", "alice", ErrAuthorization}, // her mailbox has no POP3
		{"imap", "bob", "alice", ErrAuthorization},
		{"imap", "nobody", "alice", ErrAuthorization},
		{"imap", "bob", "root", nil},
		{"pop3", "carol", "root", nil},
		{"smtp", "bob", "root", nil},
		{"imap", "sales@corp.example", "root", nil},
		{"imap", "nobody", "root", ErrAuthorization},
		{"imap", "root", "root", ErrAuthorization},
		{"imap", "", "root", ErrCredentials}, // no mailbox of its own
		{"imap", "bob", "dave", ErrDisabled}, // a master who is disabled is none
		{"imap", "bob", "guest", ErrAuthorization},
	} {
		b, _, log := setup()
		id, err := login(b, tt.protocol, tt.authzid, tt.user, "right")
		if !errors.Is(err, tt.want) {
			t.Errorf("%+v: %v", tt, err)
			continue
		}
		if _, err := login(b, tt.protocol, tt.authzid, tt.user, secret); !errors.Is(err, ErrCredentials) {
			t.Errorf("%+v, wrong password: %v", tt, err)
		}
		if tt.want != nil {
			continue
		}
		if id.Actor != directory.Key("corp:"+tt.user) || id.Person == id.Actor || id.Authcid != tt.user {
			t.Errorf("%+v: %+v", tt, id)
		}
		if line := log.lines[0]; !strings.Contains(line, "actor=corp:"+tt.user) || !strings.Contains(line, "person="+string(id.Person)) || !strings.Contains(line, "authzid=") {
			t.Errorf("%+v: audit %s", tt, line)
		}
	}

	// A session on behalf of somebody ends with the right to it, or with either.
	for name, end := range map[string]directory.Change{
		"the right to act as the person was taken away": group("team"),
		"account disabled": change("alice", func(e *directory.Entry) { e.Login = directory.StateDisabled }),
		"account deleted":  {Key: "corp:sales"},
	} {
		b, live, _ := setup()
		id, err := login(b, "imap", "sales@corp.example", "alice", "right")
		if err != nil {
			t.Fatal(err)
		}
		var told []string
		cancel := b.Watch(id, func(reason string) { told = append(told, reason) })
		live.Apply(3, []directory.Change{change("bob", func(e *directory.Entry) { e.DisplayName = "x" }), group("other")})
		if len(told) > 0 {
			t.Fatalf("told %q", told)
		}
		live.Apply(4, []directory.Change{end})
		if !slices.Equal(told, []string{name}) {
			t.Errorf("told %q, want %q", told, name)
		}
		cancel()
		if len(b.watches) != 0 || b.behalf != 0 {
			t.Errorf("%d watches, %d on behalf", len(b.watches), b.behalf)
		}
	}
}
