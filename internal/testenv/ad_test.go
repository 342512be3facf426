package testenv

import (
	"net"
	"strings"
	"testing"

	"dirpost/internal/child"
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

// TestADPair: what one controller has, the other has soon, and each is found and
// answers while the other is away.
func TestADPair(t *testing.T) {
	t.Parallel()
	p := ADPair(t)
	if len(p.First.Keytab) == 0 || p.First.Host != "dc1.corp.example" || p.Second.Host != "dc2.corp.example" || p.First.Address == p.Second.Address {
		t.Errorf("%+v %+v", p.First, p.Second)
	}
	p.Replicate(t)
	DNS(t, p.Records...)
	p.Stop(0)
	if c, err := net.Dial("tcp", p.First.Address+":389"); err == nil {
		_ = c.Close()
		t.Error("a stopped controller answers")
	}
	p.Start(t, 0)
	p.Replicate(t)
}

// TestADForest: two domains, each its own.
func TestADForest(t *testing.T) {
	t.Parallel()
	corp, other := ADForest(t)
	if corp.Base == other.Base || corp.Address == other.Address || other.Base != "DC=other,DC=example" || other.Host != "dc9.other.example" || len(other.Keytab) == 0 {
		t.Errorf("%+v %+v", corp, other)
	}
}

// TestADTrust: people of one domain get tickets for services of the other, by both
// controllers; not the other way round.
func TestADTrust(t *testing.T) {
	t.Parallel()
	corp, other := ADForest(t)
	corp.Trust(t, other)
	corp.Trust(t, other) // again is as good as once
	kdcs := map[string]string{corp.Realm: corp.Address + ":88", other.Realm: other.Address + ":88"}
	for _, tt := range []struct {
		who, service string
		ok           bool
	}{
		{"alice@" + other.Realm, "ldap/" + corp.Host + "@" + corp.Realm, true},
		{"alice@" + corp.Realm, "ldap/" + other.Host + "@" + other.Realm, false},
	} {
		env := KerberosLogin(t, kdcs, tt.who, other.UserPassword)
		out, err := child.Command{Path: "/usr/bin/kvno", Args: []string{tt.service}, Env: env}.Output(t.Context())
		if (err == nil) != tt.ok || tt.ok && !strings.Contains(string(out), tt.service) {
			t.Errorf("%s: %v %s", tt.who, err, out)
		}
	}
}
