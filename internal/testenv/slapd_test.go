package testenv_test

import (
	"os/exec"
	"strings"
	"testing"

	"dirpost/internal/testenv"
)

// search asks the server with ldapsearch and returns the LDIF.
func search(t *testing.T, s *testenv.SlapdServer, url, dn, password string, args ...string) (string, error) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), testenv.Need(t, "ldapsearch"),
		append([]string{"-x", "-LLL", "-o", "ldif-wrap=no", "-H", url, "-D", dn, "-w", password, "-b", s.Base}, args...)...)
	cmd.Env = []string{"LDAPTLS_CACERT=" + s.CAFile}
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func TestSlapd(t *testing.T) {
	t.Parallel()
	s := testenv.Slapd(t)
	for name, url := range map[string]string{"ldap": s.URL, "ldaps": s.TLSURL, "ldapi": s.SocketURL} {
		out, err := search(t, s, url, s.ServiceDN, s.ServicePassword, "(dirpostAlias=a.example@corp.example)", "uid", "userPassword", "entryUUID")
		if err != nil || !strings.Contains(out, "uid: alice") || !strings.Contains(out, "entryUUID: ") {
			t.Errorf("%s: %v: %s", name, err, out)
		}
		if strings.Contains(out, "userPassword") {
			t.Errorf("%s: the mail server reads passwords: %s", name, out)
		}
	}
	if out, err := search(t, s, s.URL, "uid=wangwei,ou=people,"+s.Base, s.UserPassword, "(uid=wangwei)", "cn"); err != nil {
		t.Errorf("wangwei cannot bind: %s", out)
	}
	if out, err := search(t, s, s.URL, "uid=wangwei,ou=people,"+s.Base, "wrong", "(uid=wangwei)", "cn"); err == nil {
		t.Errorf("a wrong password binds: %s", out)
	}
	s.Stop()
	if out, err := search(t, s, s.URL, s.AdminDN, s.AdminPassword, "(uid=alice)"); err == nil {
		t.Errorf("stopped, and answers: %s", out)
	}
	s.Start(t)
	if out, err := search(t, s, s.URL, s.AdminDN, s.AdminPassword, "(uid=alice)", "userPassword"); err != nil || !strings.Contains(out, "userPassword:: ") {
		t.Errorf("after the restart: %v: %s", err, out)
	}
}
