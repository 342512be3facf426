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
