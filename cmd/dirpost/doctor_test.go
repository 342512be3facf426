package main

import (
	"strings"
	"testing"
)

// TestDoctor: healthy, without its directory, and without its node.
func TestDoctor(t *testing.T) {
	t.Parallel()
	s := newSystem(t, "")
	examine := func() (int, string) {
		var out strings.Builder
		code := run(t.Context(), []string{"dirpost", "doctor", "--config", s.config}, streams{nil, &out, &out})
		return code, out.String()
	}
	stop := s.start()
	if code, out := examine(); code != 2 || strings.Count(out, "warning") != 2 || !strings.Contains(out, "nobody has said which networks are inside") {
		t.Errorf("nobody has said which networks are inside: exit %d\n%s", code, out)
	}
	s.change("[auth]\n", "[auth]\ninside = [\"127.0.0.1\", \"10.0.0.0/8\"]\nmasters = [\"cn=masters,dc=corp,dc=example\", \"cn=it,ou=groups,dc=corp,dc=example\"]\n")
	if code, out := examine(); code != 2 || !strings.Contains(out, "there is no group cn=masters") || strings.Contains(out, "cn=it") || !strings.Contains(out, "2 networks are inside; from outside the password of the domain is not taken, app passwords are") {
		t.Errorf("masters that are not there: exit %d\n%s", code, out)
	}
	s.change("\"cn=masters,dc=corp,dc=example\", ", "")
	if code, out := examine(); code != 2 || strings.Contains(out, "error") || strings.Count(out, "warning") != 1 || !strings.Contains(out, "is not for mail.corp.example") {
		t.Errorf("healthy but for the name in the certificate: exit %d\n%s", code, out)
	}
	s.slapd.Stop()
	if code, out := examine(); code != 1 || !strings.Contains(out, "error") || !strings.Contains(out, "nobody can log in") {
		t.Errorf("without its directory: exit %d\n%s", code, out)
	}
	s.slapd.Start(t)
	stop()
	if code, out := examine(); code != 2 || !strings.Contains(out, "is 'dirpost serve' running here") {
		t.Errorf("without its node: exit %d\n%s", code, out)
	}
}
