package ldap

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf16"

	"github.com/go-ldap/ldap/v3"

	"dirpost/directory"
	"dirpost/internal/gssapi"
	"dirpost/internal/testenv"
)

// machines are the computer accounts of this binary, by name.
var machines sync.Map

// machine makes a computer account, as a join does, and returns its keys.
func machine(t testing.TB, s *testenv.ADServer, name string) Machine {
	t.Helper()
	once, _ := machines.LoadOrStore(name, sync.OnceValues(func() (Machine, error) { return addMachine(s, name) }))
	m, err := once.(func() (Machine, error))()
	must(t, err)
	return m
}

func addMachine(s *testenv.ADServer, name string) (Machine, error) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	c, err := New(Config{Name: "corp", Bind: BindJoined, URLs: []string{s.URL}, Base: s.Base, ConnectTimeout: time.Minute, Timeout: time.Minute})
	if err != nil {
		return Machine{}, err
	}
	defer c.Close()
	session, err := c.Open(ctx, gssapi.Account{Principal: "Administrator", Realm: s.Realm, Password: s.AdminPassword})
	if err != nil {
		return Machine{}, err
	}
	defer session.Close()
	const password = "Passw0rd.Machine.of.a.test"
	var quoted []byte
	for _, u := range utf16.Encode([]rune(`"` + password + `"`)) {
		quoted = binary.LittleEndian.AppendUint16(quoted, u)
	}
	add := ldap.NewAddRequest("CN="+name+",CN=Computers,"+s.Base, nil)
	add.Attribute("objectClass", []string{"computer"})
	add.Attribute("sAMAccountName", []string{name + "$"})
	add.Attribute("userAccountControl", []string{"4096"})
	add.Attribute("unicodePwd", []string{string(quoted)})
	add.Attribute("servicePrincipalName", []string{"imap/" + strings.ToLower(name) + ".corp.example"})
	add.Attribute("msDS-SupportedEncryptionTypes", []string{"24"})
	if err := session.Add(ctx, add); err != nil {
		return Machine{}, err
	}
	account := gssapi.Account{Principal: name + "$", Realm: s.Realm, KDCs: []string{session.KDC}}
	salt, err := gssapi.Salt(ctx, account)
	if err != nil {
		return Machine{}, err
	}
	keytab, err := gssapi.MakeKeytab(s.Realm, []string{name + "$"}, password, salt, 1, time.Now())
	return Machine{Principal: account.Principal, Realm: s.Realm, Keytab: keytab}, err
}

// joined is a client that knows nothing of the domain but an address and its DN,
// and has the account m in it.
func joined(t testing.TB, s *testenv.ADServer, m Machine, change func(*Config)) *Client {
	t.Helper()
	cfg := Config{Name: "corp", Bind: BindJoined, Passwords: PasswordsKerberos, URLs: []string{s.URL}, Base: s.Base, ConnectTimeout: time.Minute, Timeout: time.Minute}
	if change != nil {
		change(&cfg)
	}
	c := client(t, cfg)
	must(t, c.SetMachine(m))
	return c
}

// TestKerberosVerify: without TLS, the KDC judges passwords, and its reasons are
// those of a bind.
func TestKerberosVerify(t *testing.T) {
	t.Parallel()
	s := testenv.AD(t)
	c := joined(t, s, machine(t, s, "JUDGE"), nil)
	must(t, c.Check(t.Context()))
	must(t, c.CheckLogin(t.Context()))
	tests := []struct {
		name, who, password string
		want                directory.Reason // 0: let in
		right               bool
	}{
		{"right", "Alice Archer", "", 0, false},
		{"wrong", "Alice Archer", "wrong", directory.ReasonPassword, false},
		{"right after wrong", "Alice Archer", "", 0, false},
		{"Chinese name", "王伟", "", 0, false},
		{"gone", "Nobody", "", directory.ReasonPassword, false},
		{"disabled", "Dave Disabled", "", directory.ReasonDisabled, true},
		{"disabled and wrong", "Dave Disabled", "wrong", directory.ReasonPassword, false},
		{"account expired", "Eve Expired", "", directory.ReasonExpired, true},
		{"account expired and wrong", "Eve Expired", "wrong", directory.ReasonPassword, false},
		{"must change", "Mia Mustchange", "", directory.ReasonMustChange, true},
		{"must change and wrong", "Mia Mustchange", "wrong", directory.ReasonPassword, false},
		{"password expired", "Pia Passwordold", "", directory.ReasonPasswordExpired, true},
		{"password expired and wrong", "Pia Passwordold", "wrong", directory.ReasonPassword, false},
		{"locked out", "Lola Lockedout", "", directory.ReasonLocked, false},
		{"locked out and wrong", "Lola Lockedout", "wrong", directory.ReasonLocked, false},
	}
	lock(t, c, s, "Lola Lockedout")
	for _, tt := range tests { // one after the other: wrong ones are counted
		password := tt.password
		if password == "" {
			password = s.UserPassword
		}
		err := c.Verify(t.Context(), person(s, tt.who), password)
		var r *directory.Refusal
		switch {
		case tt.want == 0 && err != nil:
			t.Errorf("%s: %v", tt.name, err)
		case tt.want != 0 && (!errors.As(err, &r) || r.Reason != tt.want || r.Right != tt.right):
			t.Errorf("%s: %v, want %v (right %v)", tt.name, err, tt.want, tt.right)
		default:
			t.Logf("%s: %v", tt.name, err)
		}
	}
	var r *directory.Refusal
	if err := c.Verify(t.Context(), person(s, "Alice Archer"), ""); !errors.As(err, &r) {
		t.Errorf("an empty password: %v", err)
	}
}

// TestKerberosForgedKDC: a KDC that knows the person's password but not our key
// lets nobody in, and neither does our having forgotten the key.
func TestKerberosForgedKDC(t *testing.T) {
	t.Parallel()
	s := testenv.AD(t)
	m := machine(t, s, "FORGED")
	right := joined(t, s, m, nil)
	must(t, right.Verify(t.Context(), person(s, "Alice Archer"), s.UserPassword))

	other, err := gssapi.MakeKeytab(s.Realm, []string{"FORGED$"}, "another", "salt", 1, time.Now())
	must(t, err)
	older, err := gssapi.MakeKeytab(s.Realm, []string{"FORGED$"}, "another", "salt", 7, time.Now())
	must(t, err)
	for name, tt := range map[string]struct {
		tickets []byte
		want    string
	}{
		"another key":    {other, "was not made with its key"},
		"another number": {older, "key number 1 of encryption type 18, which the keytab does not have"},
	} {
		m := m
		m.Tickets = tt.tickets
		err := joined(t, s, m, nil).Verify(t.Context(), person(s, "Alice Archer"), s.UserPassword)
		var r *directory.Refusal
		if err == nil || errors.As(err, &r) || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want an error with %q", name, err, tt.want)
		}
	}
}

// TestKerberosAuto: a domain controller whose administrator has switched TLS off
// is recognised, and no password goes to it in clear; with TLS, it judges by a
// bind. A certificate that is wrong is not taken for none.
func TestKerberosAuto(t *testing.T) {
	t.Parallel()
	s := testenv.AD(t)
	m := machine(t, s, "AUTO")
	auto := func(c *Config) { c.Passwords = "" }
	without := func(c *Config) {
		c.Passwords, c.URLs = "", []string{"ldap://" + withoutTLS(t, s)}
		c.KDCs = []string{s.Address}
	}
	m.CA = s.CA
	var r *directory.Refusal
	for name, c := range map[string]*Client{
		"TLS":    joined(t, s, m, func(c *Config) { auto(c); c.ServerName = s.Host }),
		"no TLS": joined(t, s, m, without),
	} {
		must(t, c.Verify(t.Context(), person(s, "Alice Archer"), s.UserPassword))
		must(t, c.CheckLogin(t.Context()))
		err := c.Verify(t.Context(), person(s, "Dave Disabled"), s.UserPassword)
		if !errors.As(err, &r) || r.Reason != directory.ReasonDisabled || !r.Right {
			t.Errorf("%s: %v", name, err)
		}
	}
	m.CA = ""
	err := joined(t, s, m, auto).Verify(t.Context(), person(s, "Alice Archer"), s.UserPassword)
	if err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("a certificate of nobody: %v", err)
	}
	err = joined(t, s, m, func(c *Config) { without(c); c.Passwords = PasswordsLDAP }).Verify(t.Context(), person(s, "Alice Archer"), s.UserPassword)
	if err == nil || !strings.Contains(err.Error(), "refuses StartTLS") {
		t.Errorf("LDAP without TLS: %v", err)
	}
}

// withoutTLS is the address of s by LDAP, where StartTLS is declined with the
// words of a Windows that has no certificate (error 52). Samba cannot be run
// without while others use it.
func withoutTLS(t testing.TB, s *testenv.ADServer) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	t.Cleanup(func() { _ = l.Close() })
	serve := func(down net.Conn) {
		defer down.Close()
		up, err := net.Dial("tcp", net.JoinHostPort(s.Address, "389"))
		if err != nil {
			return
		}
		defer up.Close()
		go func() { copyUntilClosed(down, up); _ = down.Close() }()
		b := make([]byte, 64<<10)
		for {
			n, err := down.Read(b)
			if err != nil {
				return
			}
			if strings.Contains(string(b[:n]), "1.3.6.1.4.1.1466.20037") {
				// messageID 1, extendedResp: unavailable
				_, _ = down.Write([]byte{0x30, 0x0c, 0x02, 0x01, b[4], 0x78, 0x07, 0x0a, 0x01, 52, 0x04, 0x00, 0x04, 0x00})
				continue
			}
			if _, err := up.Write(b[:n]); err != nil {
				return
			}
		}
	}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go serve(c)
		}
	}()
	return l.Addr().String()
}

func copyUntilClosed(to, from net.Conn) {
	b := make([]byte, 64<<10)
	for {
		n, err := from.Read(b)
		if n > 0 {
			if _, err := to.Write(b[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// TestKerberosContext: who waits for a KDC that is silent waits as long as his
// context.
func TestKerberosContext(t *testing.T) {
	t.Parallel()
	s := testenv.AD(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	t.Cleanup(func() { _ = l.Close() })
	c := joined(t, s, machine(t, s, "SILENT"), nil)
	must(t, c.Check(t.Context())) // the connection that reads is there
	id := *c.dialer.machine.Load()
	id.own.KDCs = []string{l.Addr().String()}
	c.dialer.machine.Store(&id)
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	var r *directory.Refusal
	if err := c.Verify(ctx, person(s, "Alice Archer"), s.UserPassword); err == nil || errors.As(err, &r) {
		t.Errorf("a KDC that is silent judges: %v", err)
	}
}

// TestJoinedLater: a client is made before the system is in the domain, says what
// is missing, and works from then on. A key that is not in use any more is
// replaced by the one that waits.
func TestJoinedLater(t *testing.T) {
	t.Parallel()
	s := testenv.AD(t)
	c := client(t, Config{Name: "corp", Bind: BindJoined, Passwords: PasswordsKerberos, URLs: []string{s.URL}, Base: s.Base, ConnectTimeout: time.Minute, Timeout: time.Minute})
	if err := c.Check(t.Context()); !errors.Is(err, ErrNotJoined) {
		t.Errorf("%v", err)
	}
	if err := c.Verify(t.Context(), person(s, "Alice Archer"), s.UserPassword); !errors.Is(err, ErrNotJoined) {
		t.Errorf("%v", err)
	}
	m := machine(t, s, "LATER")
	m.Pending, m.Tickets = [][]byte{m.Keytab}, m.Keytab
	var err error
	m.Keytab, err = gssapi.MakeKeytab(s.Realm, []string{"LATER$"}, "was it", "salt", 1, time.Now())
	must(t, err)
	must(t, c.SetMachine(m))
	must(t, c.Check(t.Context()))
	must(t, c.Verify(t.Context(), person(s, "Alice Archer"), s.UserPassword))
}

func TestSID(t *testing.T) {
	t.Parallel()
	b := []byte{1, 2, 0, 0, 0, 0, 0, 5, 32, 0, 0, 0, 0x20, 2, 0, 0}
	if got := SID(b); got != "S-1-5-32-544" {
		t.Errorf("SID = %q", got)
	}
	for i := range b {
		if got := SID(b[:i]); got != "" {
			t.Errorf("SID of %d octets = %q", i, got)
		}
	}
	if got := fmt.Sprint(SID(append(b, 0))); got != "" {
		t.Errorf("SID of too many octets = %q", got)
	}
}

func TestDNSDomain(t *testing.T) {
	t.Parallel()
	for dn, want := range map[string]string{
		"DC=corp,DC=example":           "corp.example",
		"OU=Staff,dc=Corp,dc=Example":  "corp.example",
		"DC=a,OU=b,DC=corp,DC=example": "corp.example",
		"o=corp":                       "",
		"":                             "",
		"nonsense":                     "",
	} {
		if got := DNSDomain(dn); got != want {
			t.Errorf("DNSDomain(%q) = %q, want %q", dn, got, want)
		}
	}
}
