package main

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"dirpost/directory"

	"github.com/go-ldap/ldap/v3"
)

// TestExplain: from the directory's attributes to the decision, now and as it was.
func TestExplain(t *testing.T) {
	t.Parallel()
	s := newSystem(t, "")
	s.start()
	wantAll := func(out string, parts ...string) {
		t.Helper()
		for _, p := range parts {
			if !strings.Contains(out, p) {
				t.Errorf("it does not say %q:\n%s", p, out)
			}
		}
	}
	wantAll(s.command(0, "explain", "sales@corp.example"), "list: primary address", "carol@corp.example mailbox, through sales@corp.example → emea-sales@corp.example", "cn=sales,ou=groups", "member=member")
	wantAll(s.command(0, "explain", "everybody@corp.example", "--from", "bob"), "sending to it  refused")
	wantAll(s.command(0, "explain", "everybody@corp.example", "--from", "alice"), "sending to it  allowed")
	wantAll(s.command(0, "explain", "dave"), "the account is disabled", "login_state=dirpostEnabled")
	wantAll(s.command(0, "explain", "noor"), "1.0 GiB", "quota=dirpostQuotaBytes")
	wantAll(s.command(0, "explain", "alice"), "open, send as", "office@corp.example", "cn=sales,ou=groups")
	wantAll(s.command(0, "explain", "friend@far.example"), "not ours")
	wantAll(s.command(0, "explain", "uid=bob,ou=people,"+s.slapd.Base), "bob@corp.example")
	wantAll(s.command(1, "explain", "alice", "--at", "tomorrow"), "is no moment")

	before := time.Now()
	change := ldap.NewModifyRequest("uid=bob,ou=people,"+s.slapd.Base, nil)
	change.Replace("mail", []string{"robert@corp.example"})
	if err := s.admin().Modify(change); err != nil {
		t.Fatal(err)
	}
	s.eventually("bob has another address", func() bool {
		return strings.Contains(s.command(0, "explain", "robert@corp.example"), "here: primary address")
	})
	var x directory.Explanation
	then := before.UTC().Format(time.RFC3339Nano)
	if err := json.Unmarshal([]byte(s.command(0, "explain", "bob@corp.example", "--json", "--at", then)), &x); err != nil || x.Address == nil || x.Address.How != "primary address" {
		t.Errorf("bob@ before the change: %v: %+v", err, x.Address)
	}
	if out := s.command(0, "explain", "robert@corp.example", "--at", then); !strings.Contains(out, "nobody: no entry has it") {
		t.Errorf("robert@ before the change: %s", out)
	}
}

func TestParseMoment(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 29, 12, 0, 0, 0, time.UTC)
	for text, want := range map[string]string{
		"3h": "2026-11-29T09:00:00Z", "2d": "2026-11-27T12:00:00Z", "2026-11-24": "2026-11-24T00:00:00Z", "2026-11-24T09:30": "2026-11-24T09:30:00Z",
		"2026-11-24 09:30:10": "2026-11-24T09:30:10Z", "09:30": "2026-11-29T09:30:00Z", "13:00": "2026-11-28T13:00:00Z", "2026-11-24T09:30:00+02:00": "2026-11-24T07:30:00Z",
		"2027-01-01": "", "yesterday": "", "": "",
	} {
		got, err := parseMoment(text, now)
		if (err != nil) != (want == "") || err == nil && got.UTC().Format(time.RFC3339) != want {
			t.Errorf("%q: %v, %v; want %s", text, got, err, want)
		}
	}
}
