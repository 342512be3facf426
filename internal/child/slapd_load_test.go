package child_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	goldap "github.com/go-ldap/ldap/v3"

	"dirpost/internal/child"
)

const loadBase = "dc=corp,dc=example"

// loadedPeople is LDIF of people with these numbers.
func loadedPeople(from, to int) string {
	var b strings.Builder
	for i := from; i <= to; i++ {
		fmt.Fprintf(&b, "dn: uid=u%d,%s\nobjectClass: inetOrgPerson\nuid: u%d\ncn: u\nsn: u\n\n", i, loadBase, i)
	}
	return b.String()
}

// TestLoadMore: of a load that is killed or fails nothing stays, whatever it has made of
// the database until then.
func TestLoadMore(t *testing.T) {
	t.Parallel()
	cfg := child.SlapdConfig{Suffix: loadBase, RootDN: "cn=admin," + loadBase, RootPassword: "secret", NoSync: true}
	var err error
	if cfg.Programs, err = child.FindSlapd(); err != nil {
		t.Fatal(err)
	}
	if cfg.User, err = child.Unprivileged("openldap"); err != nil {
		t.Fatal(err)
	}
	top, err := os.MkdirTemp("", "dp")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(top) })
	if err := os.Chmod(top, 0o755); err != nil {
		t.Fatal(err)
	}
	cfg.Dir, cfg.Log = filepath.Join(top, "ldap"), filepath.Join(top, "log")
	count := filepath.Join(cfg.Database(), "users")
	write := func(n string) func() error { return func() error { return child.WriteFile(count, []byte(n), 0o600) } }
	want := func(when string, people int, counted string) {
		t.Helper()
		if got := search(t, cfg); got != people {
			t.Errorf("%s: %d people, want %d", when, got, people)
		}
		if b, err := os.ReadFile(count); err != nil || string(b) != counted {
			t.Errorf("%s: counted %q, %v, want %s", when, b, err, counted)
		}
		if left, err := filepath.Glob(cfg.Database() + ".*"); err != nil || left != nil {
			t.Errorf("%s: left behind %q, %v", when, left, err)
		}
	}
	err = errors.Join(child.MakeDir(cfg.Dir, cfg.User), cfg.Configure(),
		cfg.Load(t.Context(), "dn: "+loadBase+"\nobjectClass: dcObject\nobjectClass: organization\ndc: corp\no: corp\n\n"+loadedPeople(1, 3)), write("3")())
	if err != nil {
		t.Fatal(err)
	}
	if err := cfg.LoadMore(t.Context(), loadedPeople(4, 5), write("5")); err != nil {
		t.Fatal(err)
	}
	want("loaded", 5, "5")

	// One that is there already, behind others that are not.
	if err := cfg.LoadMore(t.Context(), loadedPeople(6, 7)+loadedPeople(5, 5), write("7")); err == nil {
		t.Error("somebody was loaded twice")
	}
	want("failed", 5, "5")
	ctx, cancel := context.WithCancel(t.Context())
	if err := cfg.LoadMore(ctx, loadedPeople(6, 7), func() error { cancel(); return ctx.Err() }); !errors.Is(err, context.Canceled) {
		t.Errorf("ended at the last moment: %v", err)
	}
	want("ended at the last moment", 5, "5")

	// Killed in the middle: the copy is there, and the database is of no use.
	copied := errors.New("copied")
	err = cfg.LoadMore(t.Context(), loadedPeople(6, 7), func() error {
		for _, f := range []string{"data.mdb", "users"} {
			if err := os.WriteFile(filepath.Join(cfg.Database(), f), []byte("broken"), 0o600); err != nil {
				return err
			}
		}
		return copied
	})
	if !errors.Is(err, copied) {
		t.Fatal(err)
	}
	want("killed", 5, "5")
	if err := cfg.Recover(); err != nil { // nothing to do
		t.Error(err)
	}
	want("recovered", 5, "5")
}

// search is how many people the directory has.
func search(t *testing.T, cfg child.SlapdConfig) int {
	t.Helper()
	s, err := child.StartSlapd(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Stop(10 * time.Second)
	conn, err := goldap.DialURL(cfg.LDAPI())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.Bind(cfg.RootDN, cfg.RootPassword); err != nil {
		t.Fatal(err)
	}
	found, err := conn.Search(goldap.NewSearchRequest(loadBase, goldap.ScopeSingleLevel, goldap.NeverDerefAliases, 0, 0, false, "(objectClass=inetOrgPerson)", []string{"1.1"}, nil))
	if err != nil {
		t.Fatal(err)
	}
	return len(found.Entries)
}
