package main

import (
	"crypto/tls"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"dirpost/internal/child"
	"dirpost/internal/testenv"

	"github.com/emersion/go-imap/v2/imapclient"
)

// lockingLDIF is a policy that locks at the third wrong password.
const lockingLDIF = `
dn: cn=locking,dc=corp,dc=example
objectClass: organizationalRole
objectClass: pwdPolicy
cn: locking
pwdAttribute: userPassword
pwdLockout: TRUE
pwdMaxFailure: 3
pwdFailureCountInterval: 1800
`

// TestDeviceClients: a mail program that resumes its TLS session is let in from a
// network where nobody was before, while the permits of strangers are used up; and so
// is a browser that has logged in to the page.
func TestDeviceClients(t *testing.T) {
	t.Parallel()
	s := newSystemIn(t, databaseURL(t), "", testenv.SlapdPolicy(t, "cn=locking,dc=corp,dc=example", lockingLDIF))
	s.change("[auth]\n", "[auth]\nremember = \"0s\"\n")
	s.confirm()
	s.start()
	open := func(address, password string, config *tls.Config) (*imapclient.Client, error) {
		d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(address)}, Timeout: 30 * time.Second}
		conn, err := tls.DialWithDialer(&d, "tcp", s.addr["imaps"], config)
		if err != nil {
			t.Fatal(err)
		}
		c := imapclient.New(conn, nil)
		t.Cleanup(func() { _ = c.Close() })
		return c, c.Login("alice", password).Wait()
	}
	from := func(address, password string, config *tls.Config) error {
		c, err := open(address, password, config)
		_ = c.Close()
		return err
	}
	laptop := s.tls()
	laptop.ClientSessionCache = tls.NewLRUClientSessionCache(1)
	if err := from("127.41.1.1", s.slapd.UserPassword, laptop); err != nil {
		t.Fatal(err)
	}
	browser := s.visitor()
	browser.get("/")
	browser.post("login", "user", "alice", "password", s.slapd.UserPassword)
	browser.want("Logged in as alice@corp.example")

	if err := from("127.42.1.1", "a guess", s.tls()); err == nil {
		t.Fatal("a guess lets in")
	}
	if err := from("127.43.1.1", s.slapd.UserPassword, s.tls()); err == nil {
		t.Error("a stranger is asked for the last but one")
	}
	session, err := open("127.44.1.1", s.slapd.UserPassword, laptop)
	if err != nil {
		t.Errorf("the laptop in another network: %v", err)
	}
	for _, want := range []string{"device=new", "device=returned"} {
		if !strings.Contains(s.logs.String(), want) {
			t.Errorf("no %q in the log", want)
		}
	}

	// What is revoked is a stranger's.
	if err := from("127.42.1.1", "another guess", s.tls()); err == nil {
		t.Fatal("a guess lets in")
	}
	s.command(0, "mailbox", "logout", "alice")
	<-session.Closed()
	if err := from("127.45.1.1", s.slapd.UserPassword, laptop); err == nil {
		t.Error("the laptop is known after all sessions were ended")
	}
}

// TestRepeatedPassword: a program with an old password takes one permit, though OpenLDAP
// writes into the entry that it was wrong.
func TestRepeatedPassword(t *testing.T) {
	t.Parallel()
	hash, err := child.SSHA("the new one")
	if err != nil {
		t.Fatal(err)
	}
	s := newSystemIn(t, databaseURL(t), "", testenv.SlapdPolicy(t, "cn=locking,dc=corp,dc=example", strings.Replace(lockingLDIF, "pwdMaxFailure: 3", "pwdMaxFailure: 5", 1)+
		"\ndn: uid=phone,ou=people,dc=corp,dc=example\nobjectClass: inetOrgPerson\nuid: phone\ncn: phone\nsn: phone\nmail: phone@corp.example\nuserPassword: "+hash+"\npwdChangedTime: 20200101000000Z\n"))
	s.confirm()
	s.start()
	before := s.node.live.Snapshot().ByLogin("phone").Modified
	s.slapd.UserPassword = "last year's"
	s.eventually("it is refused after the entry has changed", func() bool {
		changed := s.node.live.Snapshot().ByLogin("phone").Modified.After(before)
		if _, err := s.tryLogin("phone"); err == nil {
			t.Fatal("it lets in")
		}
		return changed
	})
	if log := s.logs.String(); strings.Contains(log, "reason=no-permit") || strings.Count(log, "reason=password ") != 1 || !strings.Contains(log, "reason=repeated") {
		t.Error("the old password was judged more than once")
	}
	s.slapd.UserPassword = "the new one"
	if _, err := s.tryLogin("phone"); err != nil {
		t.Errorf("the new one: %v", err)
	}
}

// TestDevicePrograms: which programs resume a session of TLS is known by what the log
// says of them.
func TestDevicePrograms(t *testing.T) {
	t.Parallel()
	s := newSystem(t, "")
	s.start()
	url := fmt.Sprintf("imaps://localhost:%s/INBOX", s.port("imaps"))
	common := []string{"-sS", "--max-time", "30", "--cacert", s.cert.CAFile, "-X", "NOOP"}
	args := append([]string{"-u", "alice:" + s.slapd.UserPassword}, common...)
	args = append(append(args, url, "--next", "-u", "bob:"+s.slapd.UserPassword), append(common, url)...)
	if out, err := s.client("curl", args...); err != nil {
		t.Fatalf("curl: %v: %s", err, out)
	}
	for who, want := range map[string]string{"alice": "device=new", "bob": "device=returned"} {
		found := false
		for line := range strings.Lines(s.logs.String()) {
			found = found || strings.Contains(line, "msg=login ") && strings.Contains(line, "authcid="+who) && strings.Contains(line, want)
		}
		if !found {
			t.Errorf("curl as %s: no %s in the log:\n%s", who, want, s.logs.String())
		}
	}
}
