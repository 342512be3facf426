package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestCheckSelf: with a person's own login, what that person could write of what
// mail goes by is named, and nothing is changed.
func TestCheckSelf(t *testing.T) {
	t.Parallel()
	s := newSystem(t, "")
	s.start()()
	password := filepath.Join(s.dir, "alice")
	if err := os.WriteFile(password, []byte(s.slapd.UserPassword+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	check := func(code int, who string) string {
		t.Helper()
		return s.command(code, "directory", "check", who, "--password-file", password)
	}
	if out := check(0, "alice"); strings.Contains(out, "power") || strings.Contains(out, "harmless") {
		t.Error(out)
	}
	if out := check(1, "nobody"); !strings.Contains(out, "nobody in the directory") {
		t.Error(out)
	}
	s.slapd.Stop()
	s.slapd.Allow(t, "access to attrs=mail,displayName by self write by users read\n")
	out := check(0, "alice@corp.example")
	for _, want := range []string{"displayName", "harmless", "alias", "power"} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
	if strings.Contains(out, s.slapd.UserPassword+"\n") {
		t.Error("the password is shown")
	}
}
