package ldap

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"dirpost/internal/testenv"
)

// TestBases: a server says where people are, to its account, before anybody knows.
func TestBases(t *testing.T) {
	t.Parallel()
	s := testenv.Slapd(t)
	cfg := config(t, s)
	cfg.Base = ""
	bases, err := Bases(t.Context(), cfg)
	if err != nil || !slices.ContainsFunc(bases, func(dn string) bool { return strings.EqualFold(dn, s.Base) }) {
		t.Errorf("%q, %v, want %s", bases, err, s.Base)
	}
	cfg.BindPassword = "wrong"
	var setup *SetupError
	if _, err := Bases(t.Context(), cfg); !errors.As(err, &setup) || !strings.Contains(err.Error(), "refuses the password") {
		t.Errorf("with a wrong password: %v", err)
	}
}
