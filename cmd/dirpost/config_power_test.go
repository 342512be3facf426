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
	const writable = "people can write dirpostQuotaBytes in their own entry"
	for _, want := range []string{writable, "access rules", `trusted = ["quota"]`} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in %s", want, out)
		}
	}
	s.slapd.AllowInFront(t, "access to attrs=dirpostQuotaBytes by self write by users read\n")
	if out := s.command(1, "config", "check"); !strings.Contains(out, writable) {
		t.Errorf("by the front end: %s", out)
	}
	s.slapd.HideFront(t)
	const hidden = "may not read the access rules of the front end"
	if out := s.command(0, "config", "check"); !strings.Contains(out, hidden) {
		t.Errorf("by a hidden front end: %s", out)
	}
	s.confirm()
	stop := s.start()
	if out := s.command(0, "directory", "check"); !strings.Contains(out, "rights not known") || !strings.Contains(out, hidden) {
		t.Errorf("directory check: %s", out)
	}
	stop()
	s.slapd.ShowConfig(t, "access to dn.subtree=\"ou=people,"+s.slapd.Base+"\" attrs=dirpostQuotaBytes by self write by users read\naccess to * by anonymous auth by users read\n")
	s.change("[directory.corp]\n", "[directory.corp]\ntrusted = [\"quota\"]\n")
	if out := s.command(0, "config", "check"); strings.Contains(out, "people can write") || strings.Contains(out, "does not say") {
		t.Errorf("trusted: %s", out)
	}
}
