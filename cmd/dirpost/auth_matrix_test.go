package main

import (
	"bytes"
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"text/tabwriter"
	"time"

	"dirpost/auth"
	"dirpost/internal/child"
	"dirpost/internal/envelope"
	"dirpost/internal/testenv"

	"github.com/go-ldap/ldap/v3"
)

// tenant is somebody who logs in, with all names of theirs.
type tenant struct {
	state    string
	login    string // uid or sAMAccountName
	mail     string
	upn      string // userPrincipalName, or what stands for it
	alias    string
	password string
	want     *envelope.Error // nil: in
	// What proves who it is beside the password.
	token string
	cert  *tls.Certificate
	// forGood says that it is an administrator who has locked the account, and so
	// disabled it: the directory judges no password, and nothing else counts.
	forGood bool
}

// forms are the ways in which a name is typed.
var forms = []struct {
	name  string
	write func(p tenant) string // "" if p has none
	none  bool                  // it is nobody's name
}{
	{"uid, sAMAccountName", func(p tenant) string { return p.login }, false},
	{"in capitals", func(p tenant) string { return strings.ToUpper(p.login) }, false},
	{"in full width", func(p tenant) string { return wide(p.login) }, false},
	{"mail address", func(p tenant) string { return p.mail }, false},
	{"MAIL ADDRESS", func(p tenant) string { return strings.ToUpper(p.mail) }, false},
	{"UPN", func(p tenant) string { return p.upn }, false},
	{"implicit UPN", func(p tenant) string { return p.login + "@corp.example" }, false},
	{`DOMAIN\user`, func(p tenant) string { return `CORP\` + p.login }, false},
	{"DOMAIN/user", func(p tenant) string { return "corp/" + p.login }, false},
	{"user@DOMAIN", func(p tenant) string { return p.login + "@CORP" }, false},
	{`dns.domain\user`, func(p tenant) string { return `corp.example\` + p.login }, false},
	{"dns.domain/user", func(p tenant) string { return "Corp.Example/" + p.login }, false},
	{"alias, off", func(p tenant) string { return p.alias }, true},
	{"DN", func(p tenant) string { return "uid=" + p.login + ",dc=corp,dc=example" }, true},
	{"other domain", func(p tenant) string { return `OTHER\` + p.login }, true},
}

// wide writes letters as a Japanese keyboard may.
func wide(s string) string {
	return strings.Map(func(r rune) rune {
		if 'a' <= r && r <= 'z' {
			return r - 'a' + 'ａ'
		}
		return r
	}, s)
}

// TestLoginMatrix: every way to write a name, every state of an account, every
// protocol and both directories, through real listeners: the outcome is that of the
// state, and the same on all ports, by password, by token, by certificate, on the page
// and by the socket for other programs.
func TestLoginMatrix(t *testing.T) {
	t.Parallel()
	t.Run("OpenLDAP", func(t *testing.T) {
		t.Parallel()
		s, people := matrixOpenLDAP(t)
		s.loginMatrix(t, people)
	})
	t.Run("Active Directory", func(t *testing.T) {
		t.Parallel()
		s, people := matrixAD(t)
		s.loginMatrix(t, people)
	})
}

// allWays are all the columns of the matrix.
func allWays() []way { return slices.Concat(ways, moreWays) }

// cell is one login of the matrix.
type cell struct {
	who      tenant
	form     string
	user     string
	password string
	way      way
	want     *envelope.Error
}

// loginMatrix tries all logins, each from an address of its own, so that no guess is
// put down to another.
func (s *system) loginMatrix(t *testing.T, people []tenant) {
	var cells []cell
	for _, p := range people {
		for _, f := range forms {
			user := f.write(p)
			if user == "" {
				continue
			}
			for _, w := range allWays() {
				if want, ok := w.expects(p, f.none); ok {
					cells = append(cells, cell{p, f.name, user, p.password, w, want})
				}
			}
		}
		// Who does not know the password learns nothing of the state.
		if p.want != nil && p.login != "pia" {
			for _, w := range allWays() {
				if !w.proves() {
					cells = append(cells, cell{p, "and a wrong password", p.login, "not the password", w, auth.ErrCredentials})
				}
			}
		}
	}
	var (
		tries  atomic.Int32
		mu     sync.Mutex
		right  = map[[2]string]int{}
		all    = map[[2]string]int{}
		queue  = make(chan cell)
		worker sync.WaitGroup
	)
	for range 24 { // they wait for refusals most of the time
		worker.Go(func() {
			for c := range queue {
				n := tries.Add(1)
				got, err := c.way.try(s, c, net.IPv4(127, 77, byte(n>>8), byte(n)))
				want := "in"
				if c.want != nil {
					want = c.way.want(c.want)
				}
				mu.Lock()
				key := [2]string{c.who.state, c.way.name}
				if all[key]++; err == nil && got == want {
					right[key]++
				} else {
					t.Errorf("%s, %s (%q), %s: %q, want %q (%v)", c.who.state, c.form, c.user, c.way.name, got, want, err)
				}
				mu.Unlock()
			}
		})
	}
	start := time.Now()
	for _, c := range cells {
		queue <- c
	}
	close(queue)
	worker.Wait()
	t.Logf("%d logins in %s, %d ways to write a name:\n%s", len(cells), time.Since(start).Round(time.Millisecond), len(forms), matrixSummary(people, right, all))
}

// matrixSummary is a table of the states and the ways.
func matrixSummary(people []tenant, right, all map[[2]string]int) string {
	var b bytes.Buffer
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprint(w, "state\tanswer")
	for _, way := range allWays() {
		fmt.Fprint(w, "\t"+way.name)
	}
	fmt.Fprintln(w)
	var states []string
	for _, p := range people {
		if slices.Contains(states, p.state) {
			continue
		}
		states = append(states, p.state)
		answer := "in"
		if p.want != nil {
			answer = smtpCode(p.want) + " " + p.want.Status.Text
		}
		fmt.Fprintf(w, "%s\t%s", p.state, answer)
		for _, way := range allWays() {
			if key := [2]string{p.state, way.name}; all[key] == 0 {
				fmt.Fprint(w, "\t–")
			} else {
				fmt.Fprintf(w, "\t%d/%d", right[key], all[key])
			}
		}
		fmt.Fprintln(w)
	}
	_ = w.Flush()
	return b.String()
}

// matrixLDIF is people in each state, in OpenLDAP with password policies.
const matrixLDIF = `
dn: cn=policies,dc=corp,dc=example
objectClass: organizationalRole
cn: policies

dn: cn=usual,cn=policies,dc=corp,dc=example
objectClass: organizationalRole
objectClass: pwdPolicy
cn: usual
pwdAttribute: userPassword
pwdMustChange: TRUE
pwdLockout: TRUE
pwdMaxFailure: 0

dn: cn=aging,cn=policies,dc=corp,dc=example
objectClass: organizationalRole
objectClass: pwdPolicy
cn: aging
pwdAttribute: userPassword
pwdMaxAge: 86400
`

// matrixStates are the states that both directories have, with what makes each in
// OpenLDAP.
var matrixStates = []struct {
	name, login, ldif string
	want              *envelope.Error
}{
	{"ok", "mxok", "", nil},
	{"disabled", "mxoff", "dirpostEnabled: nologin\n", auth.ErrDisabled},
	{"expired", "mxended", "employeeNumber: 20200101000000Z\n", auth.ErrDisabled},
	{"must change", "mxchange", "pwdReset: TRUE\n", auth.ErrExpired},
	{"password expired", "mxold", "pwdPolicySubentry: cn=aging,cn=policies,dc=corp,dc=example\npwdChangedTime: 20200101000000Z\n", auth.ErrExpired},
	{"locked", "mxlocked", "pwdAccountLockedTime: 000001010000Z\n", auth.ErrCredentials},
}

// others are those whose password is wrong, and those who do not exist.
func others(ok tenant) []tenant {
	wrong, unknown := ok, ok
	wrong.state, wrong.password, wrong.want = "wrong password", "not the password", auth.ErrCredentials
	wrong.token, wrong.cert = "", nil
	unknown.state, unknown.want = "unknown", auth.ErrCredentials
	for _, name := range []*string{&unknown.login, &unknown.mail, &unknown.upn, &unknown.alias} {
		*name = "no." + *name
	}
	return []tenant{wrong, unknown}
}

func matrixOpenLDAP(t *testing.T) (*system, []tenant) {
	ldif := matrixLDIF
	var people []tenant
	proofs := newProofs(t)
	hash, err := child.SSHA("demo")
	if err != nil {
		t.Fatal(err)
	}
	for _, st := range matrixStates {
		p := tenant{state: st.name, login: st.login, mail: "mail." + st.login + "@corp.example", upn: "upn." + st.login + "@corp.example", alias: "alias." + st.login + "@corp.example", password: "demo", want: st.want, forGood: st.name == "locked"}
		cert := proofs.add(&p, nil)
		ldif += fmt.Sprintf("\ndn: uid=%[1]s,ou=people,dc=corp,dc=example\nobjectClass: inetOrgPerson\nobjectClass: dirpostMailbox\nuid: %[1]s\ncn: %[1]s\nsn: %[1]s\nmail: %[2]s\ndirpostAlias: %[3]s\ncarLicense: %[4]s\nuserPassword: %[5]s\nuserCertificate;binary:: %[7]s\n%[6]s",
			p.login, p.mail, p.alias, p.upn, hash, st.ldif, base64.StdEncoding.EncodeToString(cert))
		people = append(people, p)
	}
	s := newSystemIn(t, databaseURL(t), proofs.config, testenv.SlapdPolicy(t, "cn=usual,cn=policies,dc=corp,dc=example", ldif))
	s.oneForAll()
	s.change("\n[auth]\n", "\ndomain = \"CORP\"\ntrusted = [\"login\", \"expires\", \"certificate\"]\nmapping = { login = [\"uid\", \"uid:netbios\", \"uid:implicit-upn\", \"carLicense\"], expires = [\"employeeNumber:time\"], certificate = [\"userCertificate;binary:certificate\"] }\n[auth]\nremember = \"0s\"\n")
	s.confirm()
	s.start()
	s.socket = proofs.socket
	return s, append(people, proofs.ofNobody(others(people[0]))...)
}

// oneForAll lets all people have the same password, and be strangers who make
// mistakes: that is no attack here.
func (s *system) oneForAll() {
	s.t.Helper()
	s.change("\n[[tls.certificate]]\n", "\n[auth.permits]\nfloor = 1000\nspray_accounts = 1000\n[[tls.certificate]]\n")
}

// onAD makes a domain the one directory of a system that was not started yet.
func (s *system) onAD(ad *testenv.ADServer) {
	s.t.Helper()
	text, err := os.ReadFile(s.config)
	if err != nil {
		s.t.Fatal(err)
	}
	before, after, _ := strings.Cut(string(text), "[directory.corp]")
	_, after, _ = strings.Cut(after, "[auth]")
	ca, password := filepath.Join(s.dir, "ad-ca.pem"), filepath.Join(s.dir, "ad-password")
	section := fmt.Sprintf("[directory.corp]\npreset = \"ad\"\nurls = [%q]\nserver_name = %q\nca = %q\nbase = %q\nbind_dn = %q\nbind_password = \"file:%s\"\n[auth]",
		ad.TLSURL, ad.Host, ca, ad.Base, ad.ServiceDN, password)
	for path, text := range map[string]string{ca: ad.CA, password: ad.ServicePass, s.config: before + section + after} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			s.t.Fatal(err)
		}
	}
	if s.file, err = readConfig(s.config); err != nil {
		s.t.Fatal(err)
	}
	s.slapd.UserPassword = ad.UserPassword
}

// matrixAD makes people in each state in a domain: with a password policy of their
// own, which locks nobody out, since here wrong passwords are many.
func matrixAD(t *testing.T) (*system, []tenant) {
	proofs := newProofs(t)
	s := newSystemOn(t, databaseURL(t), proofs.config)
	s.oneForAll()
	d := s.joinAD()
	ad := d.s
	s.onAD(ad)
	unlocked := map[string][]string{
		"objectClass": {"msDS-PasswordSettings"}, "msDS-PasswordSettingsPrecedence": {"5"}, "msDS-PasswordReversibleEncryptionEnabled": {"FALSE"},
		"msDS-PasswordHistoryLength": {"0"}, "msDS-PasswordComplexityEnabled": {"TRUE"}, "msDS-MinimumPasswordLength": {"7"}, "msDS-MinimumPasswordAge": {"0"},
		"msDS-MaximumPasswordAge": {"-9223372036854775808"}, "msDS-LockoutThreshold": {"0"}, "msDS-LockoutObservationWindow": {"-18000000000"}, "msDS-LockoutDuration": {"-18000000000"},
	}
	var people []tenant
	add := func(state, name string, want *envelope.Error, m func(*ldap.ModifyRequest)) {
		dn, mail := d.person(name)
		p := tenant{state: state, login: name + d.name[len(d.name)-8:], mail: mail, upn: "upn." + mail, alias: "alias." + mail, password: ad.UserPassword, want: want}
		change := ldap.NewModifyRequest(dn, nil)
		change.Replace("userPrincipalName", []string{p.upn})
		change.Replace("proxyAddresses", []string{"SMTP:" + mail, "smtp:" + p.alias})
		if m != nil {
			m(change)
		}
		if err := d.Modify(change); err != nil {
			t.Fatal(err)
		}
		if state == "locked" {
			d.lock(dn, true)
		} else {
			unlocked["msDS-PSOAppliesTo"] = append(unlocked["msDS-PSOAppliesTo"], dn)
		}
		proofs.add(&p, sidOf(d.sid(dn)))
		people = append(people, p)
	}
	replace := func(name, value string) func(*ldap.ModifyRequest) {
		return func(m *ldap.ModifyRequest) { m.Replace(name, []string{value}) }
	}
	add("ok", "mxok", nil, nil)
	add("disabled", "mxoff", auth.ErrDisabled, replace("userAccountControl", "514"))
	add("expired", "mxended", auth.ErrDisabled, replace("accountExpires", "116444736000000000"))
	add("must change", "mxchange", auth.ErrExpired, replace("pwdLastSet", "0"))
	add("locked", "mxlocked", auth.ErrCredentials, nil)
	add("hours", "mxhours", auth.ErrHours, replace("logonHours", string(make([]byte, 21))))
	d.add("CN="+d.name+",CN=Password Settings Container,CN=System,"+ad.Base, unlocked)
	t.Cleanup(func() {
		if err := d.Del(ldap.NewDelRequest("CN="+d.name+",CN=Password Settings Container,CN=System,"+ad.Base, nil)); err != nil {
			t.Error(err)
		}
	})
	// Only time makes a password old: of somebody who is there already.
	pia := tenant{state: "password expired", login: "pia", mail: "pia@corp.example", upn: "pia@corp.example", password: ad.UserPassword, want: auth.ErrExpired}
	found, err := d.Search(ldap.NewSearchRequest(ad.Base, ldap.ScopeWholeSubtree, 0, 0, 0, false, "(sAMAccountName=pia)", []string{"1.1"}, nil))
	if err != nil || len(found.Entries) != 1 {
		t.Fatalf("pia: %v", err)
	}
	proofs.add(&pia, sidOf(d.sid(found.Entries[0].DN)))
	people = append(people, pia)
	s.confirm()
	s.start()
	s.socket = proofs.socket
	return s, append(people, proofs.ofNobody(others(people[0]))...)
}
