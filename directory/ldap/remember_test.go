package ldap

import (
	"os"
	"strings"
	"testing"
	"time"

	"github.com/go-ldap/ldap/v3"

	"dirpost/directory"
	"dirpost/internal/testenv"
)

// TestProfileStays: the profile that was chosen for a directory stays for all
// processes, also when the entries are gone that it went by, until somebody asks for
// another choice; then the one that feeds reads everything anew.
func TestProfileStays(t *testing.T) {
	t.Parallel()
	schema, err := os.ReadFile("testdata/schema/qmail.schema")
	must(t, err)
	s := testenv.SlapdWith(t, string(schema), `
dn: uid=pia,ou=people,dc=corp,dc=example
objectClass: inetOrgPerson
objectClass: qmailUser
uid: pia
cn: Pia
sn: Pia
mail: pia@corp.example
mailAlternateAddress: p@corp.example
`)
	db, h := testenv.Database(t), &hints{}
	memory := directory.Profiles{DB: db}
	cfg := config(t, s)
	cfg.Preset = PresetAuto
	fresh := func() *Client {
		c := client(t, cfg)
		c.Remember(memory)
		return c
	}
	is := func(what string, c *Client, profile string, notes int) Choice {
		t.Helper()
		choice, err := c.Choice(t.Context())
		must(t, err)
		if choice.Profile != profile || len(choice.Notes) != notes || choice.At.IsZero() {
			t.Errorf("%s: %+v, want %s", what, choice, profile)
		}
		return choice
	}
	feeds := fresh()
	n := start(t, db, h, feeds)
	n.until(t, "pia is known by what qmail calls an alias", func(s *directory.Snapshot) bool { return home(s, "p@corp.example") == "here" })
	first := is("first", feeds, PresetQmail, 0)

	must(t, admin(t, s).Del(ldap.NewDelRequest("uid=pia,ou=people,"+s.Base, nil)))
	second := is("when she is gone", fresh(), PresetQmail, 1)
	if second.Why != first.Why || !second.At.Equal(first.At) || !strings.Contains(second.Notes[0], "read as openldap if") {
		t.Errorf("when she is gone: %+v", second)
	}
	if choice, err := client(t, cfg).Choice(t.Context()); err != nil || choice.Profile != PresetOpenLDAP {
		t.Errorf("without memory: %v %+v", err, choice)
	}

	must(t, directory.ForgetProfile(t.Context(), db, "corp"))
	must(t, directory.AskSync(t.Context(), db, "corp"))
	h.Publish(directory.Topic, "")
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(50 * time.Millisecond) { // of what is said of it nobody is told
		reports, err := directory.Reports(t.Context(), db)
		must(t, err)
		if reports[0].SyncAsked == nil && reports[0].Status != nil && reports[0].Status.Profile == PresetOpenLDAP {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("it is not read anew: %+v", reports[0])
		}
	}
	is("chosen again", feeds, PresetOpenLDAP, 0)
	if home(n.live.Snapshot(), "alice@corp.example") != "here" {
		t.Error("alice is not here")
	}
	is("by another process", fresh(), PresetOpenLDAP, 0)
}

// TestProfileOfAnotherServer: a server of another kind cannot be read as the one of
// before; what another node has chosen meanwhile counts.
func TestProfileOfAnotherServer(t *testing.T) {
	t.Parallel()
	s := testenv.Slapd(t)
	memory := directory.Profiles{DB: testenv.Database(t)}
	kept, err := memory.Keep(t.Context(), "corp", PresetAD, "it was one", "")
	must(t, err)
	if kept.Name != PresetAD || kept.At.IsZero() {
		t.Errorf("kept: %+v", kept)
	}
	if later, err := memory.Keep(t.Context(), "corp", PresetQmail, "too late", ""); err != nil || later != kept {
		t.Errorf("the second to choose: %+v, %v", later, err)
	}
	cfg := config(t, s)
	cfg.Preset = PresetAuto
	c := client(t, cfg)
	c.Remember(memory)
	if choice, err := c.Choice(t.Context()); err != nil || choice.Profile != PresetOpenLDAP {
		t.Errorf("OpenLDAP in place of Active Directory: %v %+v", err, choice)
	}
	if now, err := memory.Profile(t.Context(), "corp"); err != nil || now.Name != PresetOpenLDAP {
		t.Errorf("remembered: %+v, %v", now, err)
	}
	if err := directory.ForgetProfile(t.Context(), memory.DB, "other"); err != directory.ErrNoDirectory {
		t.Errorf("a directory that nobody feeds: %v", err)
	}
}
