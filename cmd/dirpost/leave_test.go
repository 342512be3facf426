package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"dirpost/directory"
	"dirpost/internal/blob"
	"dirpost/internal/postgres"
	"dirpost/internal/store"

	"github.com/emersion/go-smtp"
	"github.com/go-ldap/ldap/v3"
)

// sendTo brings a message with a subject to an address, and returns the code of the
// answer.
func (s *system) sendTo(address, subject string) int {
	s.t.Helper()
	err := s.deliver("friend@partner.example", []string{address}, fmt.Sprintf("From: friend@partner.example\r\nSubject: %s\r\nMessage-ID: <%s@partner.example>\r\n\r\n%s\r\n", subject, strings.ReplaceAll(subject, " ", "-"), subject))
	if err == nil {
		return 250
	}
	var refused *smtp.SMTPError
	if !errors.As(err, &refused) {
		s.t.Fatalf("%s to %s: %v", subject, address, err)
	}
	return refused.Code
}

// metric is the value of a metric as an operator sees it, "" for none.
func (s *system) metric(name string) string {
	s.t.Helper()
	client := http.Client{Transport: &http.Transport{TLSClientConfig: s.tls()}}
	res, err := client.Get("https://" + s.addr["https"] + "/metrics")
	if err != nil {
		s.t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	for line := range strings.Lines(string(body)) {
		if value, ok := strings.CutPrefix(line, name+" "); ok {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

// person is the DN of somebody of Example Corp.
func (s *system) person(uid string) string { return "uid=" + uid + ",ou=people," + s.slapd.Base }

// relax lets an administrator write what the server alone writes otherwise
// (draft-zeilenga-ldap-relax), so that a backup comes back as the entry that it was.
var relax = ldap.NewControlString("1.3.6.1.4.1.4203.666.5.12", true, "")

// takeAway deletes an entry, and returns what brings it back.
func (s *system) takeAway(conn *ldap.Conn, dn string) (restore func()) {
	s.t.Helper()
	found, err := conn.Search(ldap.NewSearchRequest(dn, ldap.ScopeBaseObject, 0, 0, 0, false, "(objectClass=*)", []string{"*", "entryUUID"}, nil))
	if err != nil {
		s.t.Fatal(err)
	}
	if err := conn.Del(ldap.NewDelRequest(dn, nil)); err != nil {
		s.t.Fatal(err)
	}
	return func() {
		s.t.Helper()
		add := ldap.NewAddRequest(dn, []ldap.Control{relax})
		for _, a := range found.Entries[0].Attributes {
			add.Attribute(a.Name, a.Values)
		}
		if err := conn.Add(add); err != nil {
			s.t.Fatal(err)
		}
	}
}

// TestLeave: somebody is deleted from the directory. The session ends, nobody logs in,
// mail is still taken and kept; the entry comes back, and everything is there.
func TestLeave(t *testing.T) {
	t.Parallel()
	s := newSystem(t, "")
	s.start()
	conn := s.admin()
	if code := s.sendTo("carol@corp.example", "before"); code != 250 {
		t.Fatalf("before: %d", code)
	}
	session := s.login("carol")
	restore := s.takeAway(conn, s.person("carol"))
	select {
	case <-session.Closed():
	case <-time.After(30 * time.Second):
		t.Error("the session of somebody who has left goes on")
	}
	if _, err := s.tryLogin("carol"); err == nil || strings.Contains(err.Error(), "UNAVAILABLE") {
		t.Errorf("login of somebody who has left: %v", err)
	}
	if code := s.sendTo("carol@corp.example", "meanwhile"); code != 250 {
		t.Errorf("mail for who has left: %d", code)
	}
	if out := s.command(0, "directory", "status"); !strings.Contains(out, "; 1 have left") {
		t.Errorf("status: %s", out)
	}
	if got := s.metric("dirpost_directory_gone_entries"); got != "1" {
		t.Errorf("dirpost_directory_gone_entries %q", got)
	}
	restore()
	s.eventually("carol is back", func() bool { _, err := s.tryLogin("carol"); return err == nil })
	if got := s.read(s.login("carol"), "INBOX"); len(got) != 2 || !strings.Contains(got[0], "before") || !strings.Contains(got[1], "meanwhile") {
		t.Errorf("INBOX of who is back: %q", got)
	}

	// A new surname: both addresses reach the same mailbox, and the old one is
	// still hers, but nobody logs in with it.
	if err := conn.ModifyDN(ldap.NewModifyDNRequest(s.person("carol"), "uid=ccurry", true, "")); err != nil {
		t.Fatal(err)
	}
	change := ldap.NewModifyRequest(s.person("ccurry"), nil)
	change.Replace("mail", []string{"carol.curry@corp.example"})
	if err := conn.Modify(change); err != nil {
		t.Fatal(err)
	}
	s.eventually("the new address", func() bool { return s.sendTo("carol.curry@corp.example", "new") == 250 })
	if code := s.sendTo("carol@corp.example", "old"); code != 250 {
		t.Errorf("mail for the old address: %d", code)
	}
	if _, err := s.tryLogin("carol@corp.example"); err == nil {
		t.Error("somebody logs in by an address that was replaced")
	}
	if err := s.submit("ccurry", "carol@corp.example", []string{"bob@corp.example"}, "From: carol@corp.example\r\nSubject: x\r\n\r\nx\r\n"); err != nil {
		t.Errorf("submit from the old address: %v", err)
	}
	if got := s.read(s.login("ccurry"), "INBOX"); len(got) != 4 {
		t.Errorf("%d messages, want 4", len(got))
	}

	// It is given to somebody else.
	change = ldap.NewModifyRequest(s.person("bob"), nil)
	change.Replace("dirpostAlias", []string{"carol@corp.example"})
	if err := conn.Modify(change); err != nil {
		t.Fatal(err)
	}
	s.eventually("the address is bob's", func() bool {
		s.sendTo("carol@corp.example", fmt.Sprintf("given %d", time.Now().UnixNano()))
		return strings.Contains(strings.Join(s.read(s.login("bob"), "INBOX"), ""), "given")
	})
}

// TestLeaveForGood: when the mail of who has left is past its time it is refused, and
// the mailboxes go; not before, and not of somebody who is back.
func TestLeaveForGood(t *testing.T) {
	t.Parallel()
	s := newSystem(t, "[mda]\nclosed = \"1h\"\n")
	s.start()
	n := s.node
	conn := s.admin()
	for _, who := range []string{"bob", "carol"} {
		if code := s.sendTo(who+"@corp.example", who); code != 250 {
			t.Fatalf("%s: %d", who, code)
		}
	}
	key := map[string]string{}
	for _, who := range []string{"bob", "carol"} {
		key[who] = "corp:" + s.uuid(who)
	}
	accounts := func() string {
		t.Helper()
		st := store.New(n.db, blob.New(n.db), noHints{}, testLog(t)) // knows nothing yet
		var out []string
		for _, who := range []string{"bob", "carol"} {
			if _, err := st.LookupAccount(t.Context(), key[who]); err == nil {
				out = append(out, who)
			} else if !errors.Is(err, store.ErrNotFound) {
				t.Fatal(err)
			}
		}
		return strings.Join(out, " ")
	}
	purge := func() {
		t.Helper()
		if err := n.closeAccounts(t.Context()); err != nil {
			t.Fatal(err)
		}
		if _, err := n.store.Purge(t.Context(), n.file.retention()); err != nil {
			t.Fatal(err)
		}
	}
	restore := s.takeAway(conn, s.person("bob"))
	s.takeAway(conn, s.person("carol"))
	left := func(n int) func() bool {
		return func() bool { return s.metric("dirpost_directory_gone_entries") == fmt.Sprint(n) }
	}
	s.eventually("both have left", left(2))
	purge()
	if got := accounts(); got != "bob carol" {
		t.Errorf("accounts of %q within the grace", got)
	}
	// An hour later, for the entries. Bob's account is closed already when he comes
	// back.
	if err := s.ageGone(n.db, 2*time.Hour); err != nil {
		t.Fatal(err)
	}
	s.eventually("mail is refused", func() bool { return s.sendTo("carol@corp.example", fmt.Sprint("late ", time.Now().UnixNano())) == 550 })
	if err := n.closeAccounts(t.Context()); err != nil {
		t.Fatal(err)
	}
	restore()
	s.eventually("bob is back", left(1))
	purge()
	if got := accounts(); got != "bob" {
		t.Errorf("accounts of %q after the grace, want bob's alone", got)
	}
	if got := s.read(s.login("bob"), "INBOX"); len(got) != 1 {
		t.Errorf("bob has %d messages", len(got))
	}
}

// ageGone makes those who have left have left earlier, as another node would say.
func (s *system) ageGone(db *postgres.DB, by time.Duration) error {
	snapshot, err := replicaOf(context.Background(), s.file, db)
	if err != nil {
		return err
	}
	for e := range snapshot.Gone() {
		var older directory.Entry
		text, err := json.Marshal(e)
		if err == nil {
			err = json.Unmarshal(text, &older)
		}
		if err != nil {
			return err
		}
		older.Gone = older.Gone.Add(-by)
		if err := db.InTx(context.Background(), postgres.Background, func(ctx context.Context, tx postgres.Tx) error {
			var version int64
			if err := tx.QueryRow(ctx, "update directory_lease set version = version + 1 returning version").Scan(&version); err != nil {
				return err
			}
			_, err := tx.Exec(ctx, "update directory_entry set packed = $2, version = $3 where key = $1", string(e.Key), older.Pack(), version)
			return err
		}); err != nil {
			return err
		}
	}
	return nil
}

// TestDirectoryCommands: too many leave at once; status says who is held back, release
// believes it, and a comparison finds nothing more.
func TestDirectoryCommands(t *testing.T) {
	t.Parallel()
	s := newSystem(t, "")
	s.command(1, "directory", "status") // nobody feeds
	s.command(1, "directory", "sync")
	s.start()
	s.eventually("the source has said how it goes", func() bool {
		return strings.Contains(s.command(0, "directory", "status"), "by syncrepl, woken by persist")
	})
	if out := s.command(0, "directory", "sync"); !strings.Contains(out, "corp: compared, 0 changes found") {
		t.Errorf("sync: %s", out)
	}
	s.command(1, "directory", "sync", "other")
	conn := s.admin()
	found, err := conn.Search(ldap.NewSearchRequest("ou=people,"+s.slapd.Base, ldap.ScopeSingleLevel, 0, 0, 0, false, "(&(mail=*)(!(uid=bob)))", []string{"mail"}, nil))
	if err != nil {
		t.Fatal(err)
	}
	restore := map[string]func(){}
	for _, e := range found.Entries {
		restore[e.GetAttributeValue("mail")] = s.takeAway(conn, e.DN)
	}
	all := len(restore)
	// How many are believed before it is too much depends on how they are told.
	held := 0
	s.eventually("entries are held back", func() bool {
		gone := 0
		_, err := fmt.Sscan(s.metric(`dirpost_directory_braked_entries{directory="corp"}`)+" "+s.metric("dirpost_directory_gone_entries"), &held, &gone)
		return err == nil && gone <= 10 && held+gone == all
	})
	out := s.command(2, "directory", "status")
	if !strings.Contains(out, "held back") || !strings.Contains(out, "vanish") || !strings.Contains(out, "ou=people") {
		t.Errorf("status: %s", out)
	}
	if out := s.command(2, "directory", "status", "--json"); !strings.Contains(out, fmt.Sprintf(`"braked":%d`, held)) || !strings.Contains(out, `"state":"held back"`) {
		t.Errorf("status: %s", out)
	}
	// Whoever is held back may log in still, as far as the directory lets them: it
	// does not. Their mail arrives, as that of the others does.
	for address := range restore {
		if code := s.sendTo(address, "to "+address); code != 250 {
			t.Errorf("mail for %s: %d", address, code)
		}
	}
	if out := s.command(0, "directory", "release", "corp"); !strings.Contains(out, fmt.Sprintf("corp: %d entries released", held)) {
		t.Errorf("release: %s", out)
	}
	s.eventually("all have left", func() bool { return s.metric("dirpost_directory_gone_entries") == fmt.Sprint(all) })
	if out := s.command(0, "directory", "sync"); !strings.Contains(out, "corp: compared, 0 changes found") {
		t.Errorf("sync: %s", out)
	}
	for _, back := range restore {
		back()
	}
	s.eventually("all are back", func() bool { return s.metric("dirpost_directory_gone_entries") == "0" })
	s.command(0, "directory", "status")
	if got := s.read(s.login("alice"), "INBOX"); len(got) != 1 {
		t.Errorf("alice has %d messages", len(got))
	}
}
