package main

import (
	"strings"
	"testing"
)

// TestConfigCheckPower: whoever can write in the own entry what gives power is found by
// what the server says, and not only by the list of what people usually can.
func TestConfigCheckPower(t *testing.T) {
	t.Parallel()
	s := newSystem(t, "")
	if out := s.command(0, "config", "check"); !strings.Contains(out, "does not say what people can write") || !strings.Contains(out, "directory check USER") {
		t.Errorf("closed: %s", out)
	}
	s.slapd.ShowConfig(t, "access to dn.subtree=\"ou=people,"+s.slapd.Base+"\" attrs=dirpostQuotaBytes by self write by users read\n")
	out := s.command(1, "config", "check")
	for _, want := range []string{"people can write dirpostQuotaBytes in their own entry", "access rules", `trusted = ["quota"]`} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in %s", want, out)
		}
	}
	s.change("[directory.corp]\n", "[directory.corp]\ntrusted = [\"quota\"]\n")
	if out := s.command(0, "config", "check"); strings.Contains(out, "people can write") || strings.Contains(out, "does not say") {
		t.Errorf("trusted: %s", out)
	}
}
