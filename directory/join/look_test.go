package join

import (
	"strings"
	"testing"

	"dirpost/internal/seal"
	"dirpost/internal/testenv"
)

// TestLook: what a join would find is said before it, and nothing is made; who looked
// may read the domain meanwhile.
func TestLook(t *testing.T) {
	t.Parallel()
	s := testenv.AD(t)
	m := member(t, s, testenv.Database(t), seal.GenerateKey())
	r := request(s, "LOOK")
	p, err := Look(t.Context(), m.Controller, r)
	if err != nil || p.Exists() || p.Principal != "LOOK$" || p.NetBIOS != s.Domain || p.Base != s.Base {
		t.Fatalf("%+v, %v", p, err)
	}
	if e, err := admin(t, s).Read(t.Context(), "CN=LOOK,CN=Computers,"+s.Base, attributes...); err == nil && e != nil {
		t.Error("the account was made")
	}
	r.OU = "OU=Nowhere," + s.Base
	if _, err := Look(t.Context(), m.Controller, r); err == nil || !strings.Contains(err.Error(), "OU=Nowhere,"+s.Base+" does not exist") {
		t.Errorf("an OU that there is not: %v", err)
	}
	r.OU, r.Password = "", "wrong"
	if _, err := Look(t.Context(), m.Controller, r); err == nil || !strings.Contains(err.Error(), "is wrong") {
		t.Errorf("a wrong password: %v", err)
	}
	r.Password = s.AdminPassword
	if _, err := m.Join(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	if p, err = Look(t.Context(), m.Controller, r); err != nil || !p.Exists() || p.OtherHost != r.Host {
		t.Errorf("%+v, %v", p, err)
	}
}
