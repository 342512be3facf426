package imapd

import (
	"bufio"
	"fmt"
	"strings"
	"testing"
	"time"

	"dirpost/directory"
	"dirpost/internal/dialog"
	"dirpost/internal/postgres"
)

// RFC 9051 §6.2.3, §11.2: without TLS nobody can log in, and the capabilities say
// so.
func TestLoginDisabled(t *testing.T) {
	t.Parallel()
	f := newFixture(t, func(_ *Config, b *bridge) { b.clearOK = false })
	conn, err := f.dial("")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	dialog.Expect(t, conn, "* OK [CAPABILITY IMAP4rev1 LITERAL+ ID ENABLE SASL-IR STARTTLS LOGINDISABLED] *")
	say(t, conn, "a LOGIN p1 "+password)
	dialog.Expect(t, conn, "a NO [PRIVACYREQUIRED] *")
	say(t, conn, "b AUTHENTICATE PLAIN AHAxAHNlY3JldA==")
	dialog.Expect(t, conn, "b NO [PRIVACYREQUIRED] *")
}

// A person who loses the right to a shared mailbox does not keep it open.
func TestAccessWithdrawn(t *testing.T) {
	t.Parallel()
	f := newFixture(t, nil)
	conn, err := f.dial("p1")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	r := bufio.NewReader(conn)
	do := func(command string) string {
		t.Helper()
		if err := conn.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(conn, "x %s\r\n", command)
		for {
			line, err := r.ReadString('\n')
			if err != nil {
				t.Fatal(err)
			}
			if strings.HasPrefix(line, "x ") {
				return line
			}
		}
	}
	if got := do("SELECT Shared/team1@corp.example"); !strings.HasPrefix(got, "x OK") {
		t.Fatal(got)
	}
	was := f.bridge.live.Snapshot().ByAddress(address("team1"))
	f.bridge.live.Apply(2, []directory.Change{{Key: was.Key, Entry: &directory.Entry{
		Key: was.Key, Directory: was.Directory, DN: was.DN, Kind: was.Kind, Primary: was.Primary, Login: was.Login, Delivery: was.Delivery,
	}}})
	if got := do("FETCH 1 FLAGS"); !strings.HasPrefix(got, "x NO [NONEXISTENT]") {
		t.Error(got)
	}
	if line, err := r.ReadString('\n'); !strings.HasPrefix(line, "* BYE") {
		t.Errorf("%q, %v", line, err)
	}
}

// The database is away for a moment while a session looks what has changed: the
// client is told of it later, and of all of it (RFC 9051 §5.2).
func TestNothingLostInAnOutage(t *testing.T) {
	t.Parallel()
	f := newFixture(t, nil)
	if err := f.given(t, "p1", "INBOX: 1 messages"); err != nil {
		t.Fatal(err)
	}
	conn, err := f.dial("p1")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(time.Minute))
	r := bufio.NewReader(conn)
	do := func(command string) (all string) {
		t.Helper()
		fmt.Fprintf(conn, "a %s\r\n", command)
		for !strings.Contains(all, "\r\na ") && !strings.HasPrefix(all, "a ") {
			line, err := r.ReadString('\n')
			if err != nil {
				t.Fatalf("%s: %q %v", command, all, err)
			}
			all += line
		}
		return all
	}
	exec := func(sql string) {
		t.Helper()
		if _, err := f.db.Exec(t.Context(), postgres.Background, sql); err != nil {
			t.Fatal(err)
		}
	}
	do("SELECT INBOX")
	if err := f.put(t.Context(), "p1", "INBOX", "Subject: s\r\n\r\nx\r\n", time.Now()); err != nil {
		t.Fatal(err)
	}
	exec(`alter table mailbox rename column recent_uid to away`)
	if got := do("NOOP"); !strings.Contains(got, "a NO [UNAVAILABLE]") {
		t.Errorf("while the database is away: %q", got)
	}
	exec(`alter table mailbox rename column away to recent_uid`)
	if got := do("UID SEARCH ALL"); !strings.Contains(got, "* 2 EXISTS") {
		t.Errorf("when it is back: %q", got)
	}
}

// RFC 9208 §4.3.2: no way to store passes the limit, and a client is not asked to
// send what does not fit.
func TestOverQuota(t *testing.T) {
	t.Parallel()
	f := newFixture(t, nil)
	was := f.bridge.live.Snapshot().ByLogin("p1")
	f.bridge.live.Apply(2, []directory.Change{{Key: was.Key, Entry: &directory.Entry{
		Key: was.Key, Directory: was.Directory, DN: was.DN, Kind: was.Kind, Primary: was.Primary, Logins: was.Logins, Quota: 1000}}})
	if err := f.put(t.Context(), "p1", "INBOX", "Subject: s\r\n\r\n"+strings.Repeat("x", 400), time.Now()); err != nil {
		t.Fatal(err)
	}
	conn, err := f.dial("p1")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(time.Minute))
	r := bufio.NewReader(conn)
	for _, tt := range []struct{ say, want string }{
		{"a SELECT INBOX", "a OK"},
		{"b APPEND INBOX {600}", "b NO [OVERQUOTA]"},
		{"c APPEND INBOX {300}", "+ "},
		{strings.Repeat("y", 300), "c OK"},
		{"d COPY 1 Archive", "d NO [OVERQUOTA]"},
		{"e MOVE 1 Archive", "e OK"},
	} {
		fmt.Fprintf(conn, "%s\r\n", tt.say)
		for {
			line, err := r.ReadString('\n')
			if err != nil {
				t.Fatalf("%s: %v", tt.say, err)
			}
			if strings.HasPrefix(line, "* ") {
				continue
			}
			if !strings.HasPrefix(line, tt.want) {
				t.Errorf("%.30s: %q, want %q", tt.say, line, tt.want)
			}
			break
		}
	}
}
