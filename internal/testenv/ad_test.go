package testenv

import (
	"net"
	"testing"
)

// TestAD: the domain controller is there and has what the tests count on. What
// is in it is shown where it is used, in directory/ldap.
func TestAD(t *testing.T) {
	t.Parallel()
	s := AD(t)
	if len(s.Keytab) == 0 || s.CA == "" {
		t.Error("no keytab, or no authority")
	}
	for _, port := range []string{"88", "389", "636"} {
		c, err := net.Dial("tcp", net.JoinHostPort(s.Address, port))
		if err != nil {
			t.Fatal(err)
		}
		_ = c.Close()
	}
}
