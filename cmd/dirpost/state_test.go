package main

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode/utf16"

	"dirpost/internal/testenv"

	"github.com/emersion/go-imap/v2/imapclient"
	"github.com/go-ldap/ldap/v3"
)

// domain is a unit of the shared Active Directory in a system.
type domain struct {
	*ldap.Conn
	t    *testing.T
	s    *testenv.ADServer
	base string
	name string // part of every name, which are unique in the domain
}

// joinAD adds a unit of a real Active Directory as a second directory, before a node
// is started.
func (s *system) joinAD() *domain {
	s.t.Helper()
	ad := testenv.AD(s.t)
	d := s.unitOf(ad)
	write := func(name, text string) string {
		path := filepath.Join(s.dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			s.t.Fatal(err)
		}
		return path
	}
	s.change("\n[auth]\n", fmt.Sprintf("\n[directory.ad]\npreset = \"ad\"\nurls = [%q]\nserver_name = %q\nca = %q\nbase = %q\nbind_dn = %q\nbind_password = \"file:%s\"\n[auth]\n",
		ad.TLSURL, ad.Host, write("ad-ca.pem", ad.CA), d.base, ad.ServiceDN, write("ad", ad.ServicePass)))
	return d
}

// unitOf makes a unit of a domain.
func (s *system) unitOf(ad *testenv.ADServer) *domain {
	s.t.Helper()
	conn, err := ldap.DialURL(ad.TLSURL, ldap.DialWithTLSConfig(s.trust(ad.CA, ad.Host)))
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { _ = conn.Close() })
	if err := conn.Bind(ad.AdminDN, ad.AdminPassword); err != nil {
		s.t.Fatal(err)
	}
	d := &domain{Conn: conn, t: s.t, s: ad, name: fmt.Sprintf("u%x", time.Now().UnixNano()&0xffffffffff)}
	d.base = "OU=" + d.name + "," + ad.Base
	d.add(d.base, map[string][]string{"objectClass": {"organizationalUnit"}})
	return d
}

// trust trusts one authority for the name of a host.
func (s *system) trust(ca, host string) *tls.Config {
	s.t.Helper()
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM([]byte(ca)) {
		s.t.Fatal("no certificate")
	}
	return &tls.Config{RootCAs: pool, ServerName: host}
}

func (d *domain) add(dn string, attributes map[string][]string) {
	d.t.Helper()
	req := ldap.NewAddRequest(dn, nil)
	for a, v := range attributes {
		req.Attribute(a, v)
	}
	if err := d.Add(req); err != nil {
		d.t.Fatal(err)
	}
}

// person adds somebody, and returns DN and address.
func (d *domain) person(name string) (dn, address string) {
	d.t.Helper()
	dn, address = "CN="+name+","+d.base, name+"."+d.name+"@corp.example"
	var password []byte // [MS-ADTS] §3.1.1.3.1.5
	for _, c := range utf16.Encode([]rune(`"` + d.s.UserPassword + `"`)) {
		password = append(password, byte(c), byte(c>>8))
	}
	d.add(dn, map[string][]string{"objectClass": {"user"}, "sAMAccountName": {name + d.name[len(d.name)-8:]}, "mail": {address},
		"userAccountControl": {"512"}, "unicodePwd": {string(password)}})
	return dn, address
}

// stateCase is what one state of an account does, as the table of states says.
type stateCase struct {
	name     string
	login    string // in the refusal of a login, "" for one that goes on
	closed   bool   // open sessions end
	code     int    // of the answer to mail
	password string
	who      string // login name, which is the address
	set      func(on bool)
}

// TestStates: disabled, expired, locked, must change: who logs in, whose session ends,
// and whose mail is taken, in a real OpenLDAP and a real Active Directory; and that it
// all ends with the state.
func TestStates(t *testing.T) {
	t.Parallel()
	s := newSystem(t, "")
	s.change("\n[auth]\n", "\nmapping = { login_state = [\"employeeType\"], expires = [\"employeeNumber:time\"] }\n[auth]\n")
	ad := s.joinAD()
	people := map[string]string{}
	for _, name := range []string{"off", "ended", "past", "change", "locked", "left"} {
		people[name], _ = ad.person(name)
	}
	s.confirm()
	s.start()
	openLDAP, date := s.admin(), func(ago time.Duration) string { return time.Now().Add(-ago).UTC().Format("20060102150405Z") }
	attribute := func(who, name, value string) func(bool) {
		return func(on bool) {
			m := ldap.NewModifyRequest(s.person(who), nil)
			if m.Delete(name, nil); on {
				m = ldap.NewModifyRequest(s.person(who), nil)
				m.Replace(name, []string{value})
			}
			if err := openLDAP.Modify(m); err != nil {
				t.Error(err)
			}
		}
	}
	inAD := func(who, name, value, before string) func(bool) {
		return func(on bool) {
			m := ldap.NewModifyRequest(people[who], nil)
			if m.Replace(name, []string{before}); on {
				m = ldap.NewModifyRequest(people[who], nil)
				m.Replace(name, []string{value})
			}
			if err := ad.Modify(m); err != nil {
				t.Error(err)
			}
		}
	}
	filetime := func(ago time.Duration) string {
		return fmt.Sprint((time.Now().Add(-ago).Unix() + 11644473600) * 1e7)
	}
	const day = 24 * time.Hour
	disabled, expired := "disabled", "disabled"
	cases := []stateCase{
		{name: "OpenLDAP, disabled", who: "bob@corp.example", set: attribute("bob", "employeeType", "disabled"), closed: true, login: disabled, code: 250},
		{name: "OpenLDAP, expired", who: "carol@corp.example", set: attribute("carol", "employeeType", "expired"), closed: true, login: expired, code: 250},
		{name: "OpenLDAP, ended yesterday", who: "erik@corp.example", set: attribute("erik", "employeeNumber", date(day)), closed: true, login: expired, code: 250},
		{name: "OpenLDAP, ended long ago", who: "olga@corp.example", set: attribute("olga", "employeeNumber", date(40*day)), closed: true, login: expired, code: 550},
		{name: "OpenLDAP, must change", who: "grace@corp.example", set: attribute("grace", "employeeType", "must-change"), login: "expired", code: 250},
		{name: "Active Directory, disabled", who: "off", set: inAD("off", "userAccountControl", "514", "512"), closed: true, login: disabled, code: 250},
		{name: "Active Directory, ended yesterday", who: "ended", set: inAD("ended", "accountExpires", filetime(day), "0"), closed: true, login: expired, code: 250},
		{name: "Active Directory, ended long ago", who: "past", set: inAD("past", "accountExpires", filetime(40*day), "0"), closed: true, login: expired, code: 550},
		{name: "Active Directory, must change", who: "change", set: inAD("change", "pwdLastSet", "0", "-1"), login: "expired", code: 250},
		{name: "Active Directory, locked", who: "locked", set: func(on bool) { ad.lock(people["locked"], on) }, login: "invalid", code: 250},
	}
	for i := range cases {
		c := &cases[i]
		if c.password = s.slapd.UserPassword; !strings.Contains(c.who, "@") {
			c.who, c.password = c.who+"."+ad.name+"@corp.example", ad.s.UserPassword
		}
		t.Run(c.name, func(t *testing.T) { s.checkState(t, c) })
	}
}

// lock locks an account out by wrong passwords, or ends that.
func (d *domain) lock(dn string, on bool) {
	if !on {
		m := ldap.NewModifyRequest(dn, nil)
		m.Replace("lockoutTime", []string{"0"})
		if err := d.Modify(m); err != nil {
			d.t.Error(err)
		}
		return
	}
	conn, err := ldap.DialURL(d.s.TLSURL, ldap.DialWithTLSConfig((&system{t: d.t}).trust(d.s.CA, d.s.Host)))
	if err != nil {
		d.t.Fatal(err)
	}
	defer conn.Close()
	for range 10 {
		if err := conn.Bind(dn, "wrong"); err != nil && strings.Contains(err.Error(), "775") {
			return
		}
	}
	d.t.Fatal("not locked out after ten wrong passwords")
}

// tryState logs in with the password that is right.
func (s *system) tryState(c *stateCase) (*imapclient.Client, error) {
	session, err := imapclient.DialTLS(s.addr["imaps"], &imapclient.Options{TLSConfig: s.tls()})
	if err != nil {
		s.t.Fatal(err)
	}
	if err := session.Login(c.who, c.password).Wait(); err != nil {
		_ = session.Close()
		return nil, err
	}
	return session, nil
}

func (s *system) checkState(t *testing.T, c *stateCase) {
	var session *imapclient.Client
	s.eventually(c.name+": logged in", func() (ok bool) {
		var err error
		session, err = s.tryState(c)
		return err == nil
	})
	defer session.Close()
	c.set(true)
	// The password is remembered, and that must not count.
	var refusal error
	s.eventually(c.name+": refused", func() bool {
		again, err := s.tryState(c)
		if err == nil {
			_ = again.Close()
		}
		refusal = err
		return err != nil
	})
	if !strings.Contains(strings.ToLower(refusal.Error()), c.login) {
		t.Errorf("refused with %v, want %q", refusal, c.login)
	}
	if c.closed {
		select {
		case <-session.Closed():
		case <-time.After(10 * time.Second):
			t.Error("the session goes on")
		}
	} else if err := session.Noop().Wait(); err != nil {
		t.Errorf("the session has ended: %v", err)
	}
	if code := s.sendTo(c.who, "to "+c.who); code != c.code {
		t.Errorf("mail: %d, want %d", code, c.code)
	}
	c.set(false)
	s.eventually(c.name+": logged in again", func() bool {
		again, err := s.tryState(c)
		if err == nil {
			_ = again.Close()
		}
		return err == nil
	})
	if code := s.sendTo(c.who, "after to "+c.who); code != 250 {
		t.Errorf("mail afterwards: %d", code)
	}
}
