package main

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"dirpost/directory/join"
	"dirpost/internal/testenv"

	"github.com/emersion/go-imap/v2/imapclient"
	"github.com/go-ldap/ldap/v3"
	"golang.org/x/sys/unix"
)

// newJoining makes a system whose directory is s, which has to be joined: without
// a certificate, by an address alone.
func newJoining(t *testing.T, s *testenv.ADServer) *system {
	t.Helper()
	sys := newSystem(t, "")
	b, err := os.ReadFile(sys.config)
	if err != nil {
		t.Fatal(err)
	}
	section := fmt.Sprintf("[directory.corp]\nbind = \"joined\"\nurls = [%q]\ntls = \"none\"\nbase = %q\ndomain = %q\n[auth]", s.URL, s.Base, s.Domain)
	text := regexp.MustCompile(`(?s)\[directory\.corp\].*\[auth\]`).ReplaceAllString(string(b), section)
	if err := os.WriteFile(sys.config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if sys.file, err = readConfig(sys.config); err != nil {
		t.Fatal(err)
	}
	return sys
}

// join runs `dirpost join …` with a line of input, and returns what it
// says.
func (s *system) join(code int, input string, args ...string) string {
	s.t.Helper()
	var out bytes.Buffer
	got := run(s.t.Context(), append([]string{"dirpost", "--config", s.config, "join"}, args...), streams{strings.NewReader(input), &out, &out})
	if got != code {
		s.t.Errorf("dirpost join %s: exit status %d, want %d: %s", strings.Join(args, " "), got, code, out.String())
	}
	if strings.Contains(input, "\n") && strings.Contains(out.String(), strings.TrimSpace(input)) {
		s.t.Errorf("dirpost join %s shows the password: %s", strings.Join(args, " "), out.String())
	}
	return out.String()
}

func contains(t *testing.T, text string, want ...string) {
	t.Helper()
	for _, w := range want {
		if !strings.Contains(text, w) {
			t.Errorf("%q is not in:\n%s", w, text)
		}
	}
}

// TestJoinCommand: a domain without any certificate is joined by the commands of the
// manual, people log in on two nodes, and their nodes follow when the password of
// the account is changed. The administrator's password stands nowhere.
func TestJoinCommand(t *testing.T) {
	t.Parallel()
	ad := testenv.AD(t)
	s := newJoining(t, ad)
	contains(t, s.join(1, "", "status"), `directory "corp": not joined`)
	check := func() string {
		var out bytes.Buffer
		_ = run(t.Context(), []string{"dirpost", "config", "check", "--config", s.config}, streams{nil, &out, &out})
		return out.String()
	}
	contains(t, check(), "'dirpost join' joins")

	contains(t, s.join(1, "not Passw0rd\n", "corp.example"), "the password of Administrator@CORP.EXAMPLE is wrong", "try: dirpost join corp.example --config "+s.config)
	contains(t, s.join(1, "", "corp.example"), "the input ends before an answer")
	contains(t, s.join(1, "Passw0rd\n", "other.example"), `no directory with bind = "joined" has a base in other.example`)
	contains(t, s.join(1, "Passw0rd\n", "corp.example", "--directory", "hq"), "[directory.hq]")
	out := s.join(0, ad.AdminPassword+"\n", "corp.example", "--shared-name", "imap.corp.example")
	contains(t, out, "Joined CORP (corp.example) as MAIL$@CORP.EXAMPLE.", "CN=MAIL,CN=Computers,DC=corp,DC=example", "dc1.corp.example, Windows 2008 R2",
		"domain SID  S-1-5-21-", "imap/mail.corp.example", "sieve/imap.corp.example", "judged by Kerberos")
	t.Logf("\n%s", out)
	out = s.join(0, "", "status")
	contains(t, out, "works: a ticket for MAIL$ was got and opened", "deletions   found by comparing; 'dirpost join read-deleted' has the domain tell them at once")
	t.Logf("\n%s", out)
	contains(t, s.join(0, "", "status", "--json"), `"missing_services":null`, `"problems":null`, `"told_of_deletions":false`)
	contains(t, check(), "is good")
	password := filepath.Join(s.dir, "admin")
	if err := os.WriteFile(password, []byte(ad.AdminPassword+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	contains(t, s.join(1, "", "corp.example", "--password-file", password), "computer account MAIL$ exists already", "--password-file "+password+" --reuse")

	keytab := filepath.Join(s.dir, "keytab")
	s.join(0, "", "keytab", "--out", keytab)
	klist, err := exec.CommandContext(t.Context(), "klist", "-k", keytab).CombinedOutput()
	if err != nil {
		t.Fatalf("klist: %v: %s", err, klist)
	}
	contains(t, string(klist), "MAIL$@CORP.EXAMPLE", "imap/mail.corp.example@CORP.EXAMPLE")
	s.join(1, "", "keytab", "--out", keytab) // never over another

	s.start()
	login := func(password string) error {
		c, err := imapclient.DialTLS(s.addr["imaps"], &imapclient.Options{TLSConfig: s.tls()})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		return c.Login(`CORP\alice`, password).Wait()
	}
	if err := login(ad.UserPassword); err != nil {
		t.Errorf("log in: %v", err)
	}
	if err := login("wrong"); err == nil {
		t.Error("a wrong password logs in")
	}
	contains(t, s.command(0, "directory", "check"), "HERE") // which reads the domain with the account
	s.readDeleted(ad)
	contains(t, s.join(0, "", "rotate"), "MAIL$ has the key number 2.")
	contains(t, s.join(0, "", "status"), "1 old, 0 not known to be in use", "The key number 2 works")
	if err := login(ad.UserPassword + "x"); err == nil { // not from memory
		t.Error("a wrong password logs in")
	}
	if err := login(ad.UserPassword); err != nil {
		t.Errorf("log in after the change: %v", err)
	}

	fingerprint := addAuthority(t, ad)
	contains(t, s.join(0, "", "trust"), fingerprint, "They are not trusted: 'dirpost join trust --yes' does.")
	contains(t, s.join(0, "", "trust", "--yes"), fingerprint, "They are trusted from now on")
	contains(t, s.join(0, "", "status"), "trusts", fingerprint)
	setupTrusts(t, ad, fingerprint)

	contains(t, s.join(0, ad.AdminPassword+"\n", "leave"), "The keys are forgotten.")
	contains(t, s.join(1, "", "status"), "not joined")

	contains(t, s.join(0, ad.AdminPassword+"\n", "corp.example", "--read-deleted"), "Joined CORP", "The account may read deleted entries now")
	contains(t, s.join(0, "", "status"), "deletions   told at once")
	contains(t, s.join(0, ad.AdminPassword+"\n", "leave"), "The keys are forgotten.")
	service := filepath.Join(s.dir, "svc.keytab")
	contains(t, s.join(1, "", "corp.example", "--keytab", service, "--read-deleted"), "run 'dirpost join read-deleted' afterwards")
	if err := os.WriteFile(service, ad.Keytab, 0o600); err != nil {
		t.Fatal(err)
	}
	contains(t, s.join(0, "", "corp.example", "--keytab", service), "as svc-mail@CORP.EXAMPLE")
	contains(t, s.join(1, "", "status"), "made elsewhere", "setspn -S imap/HOST svc-mail")
	contains(t, s.join(1, "", "rotate"), "'dirpost join --keytab FILE' takes the new one")
	contains(t, s.join(0, "", "leave", "--keep-account"), "The keys are forgotten.")
}

// readDeleted lets the account of a running system read deleted entries, and takes that
// back: everything that speaks of deletions says so, with the command.
func (s *system) readDeleted(ad *testenv.ADServer) {
	s.t.Helper()
	const advice = "found by comparing; 'dirpost join read-deleted --directory corp' has the domain tell them at once"
	status := s.command(0, "directory", "status")
	for !strings.Contains(status, "followed") && s.t.Context().Err() == nil { // written down within seconds
		time.Sleep(100 * time.Millisecond)
		status = s.command(0, "directory", "status")
	}
	contains(s.t, status, "deletions are compared", "are "+advice)
	var out bytes.Buffer
	_ = run(s.t.Context(), []string{"dirpost", "--config", s.config, "doctor", "--only", "replica"}, streams{nil, &out, &out})
	contains(s.t, out.String(), "deletions in corp", "are found by comparing, which is quick with ", "'dirpost join read-deleted --directory corp'")

	admin := ad.AdminPassword + "\n"
	contains(s.t, s.join(1, "not Passw0rd\n", "read-deleted"), "the password of Administrator@CORP.EXAMPLE is wrong")
	contains(s.t, s.join(0, admin, "read-deleted"), "The account may read deleted entries now")
	contains(s.t, s.join(0, admin, "read-deleted"), "could read deleted entries already")
	contains(s.t, s.join(0, "", "status"), "deletions   told at once")
	contains(s.t, s.join(0, admin, "read-deleted", "--revoke"), "may not read deleted entries any more")
	contains(s.t, s.join(0, admin, "read-deleted", "--revoke"), "no right of its own")
}

// adAdmin is a connection that may do everything in the domain.
func adAdmin(t *testing.T, ad *testenv.ADServer) *ldap.Conn {
	t.Helper()
	all, err := join.Certificates(ad.CA)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(all[0].Certificate)
	conn, err := ldap.DialURL(ad.TLSURL, ldap.DialWithTLSConfig(&tls.Config{RootCAs: roots, ServerName: ad.Host}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	if err := conn.Bind(ad.AdminDN, ad.AdminPassword); err != nil {
		t.Fatal(err)
	}
	return conn
}

// addAuthority lets the domain have a certificate authority, and returns its
// fingerprint.
func addAuthority(t *testing.T, ad *testenv.ADServer) string {
	t.Helper()
	all, err := join.Certificates(ad.CA)
	if err != nil {
		t.Fatal(err)
	}
	conn := adAdmin(t, ad)
	dn := "CN=Public Key Services,CN=Services,CN=Configuration," + ad.Base
	for _, e := range []struct{ dn, class string }{{dn, "container"}, {"CN=Certification Authorities," + dn, "container"}, {"CN=Corp,CN=Certification Authorities," + dn, "certificationAuthority"}} {
		add := ldap.NewAddRequest(e.dn, nil)
		add.Attribute("objectClass", []string{e.class})
		if e.class == "certificationAuthority" {
			add.Attribute("cACertificate", []string{string(all[0].Certificate.Raw)})
			add.Attribute("authorityRevocationList", []string{"\x00"})
			add.Attribute("certificateRevocationList", []string{"\x00"})
		}
		if err := conn.Add(add); err != nil && !ldap.IsErrorWithCode(err, ldap.LDAPResultEntryAlreadyExists) {
			t.Fatal(err)
		}
	}
	return all[0].Fingerprint
}

// terminalPair is a terminal: what a program has, and what a person has.
func terminalPair(t *testing.T) (program, person *os.File) {
	t.Helper()
	person, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = person.Close() })
	n, err := unix.IoctlGetInt(int(person.Fd()), unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(int(person.Fd()), unix.TIOCSPTLCK, 0)
	}
	if err != nil {
		t.Fatal(err)
	}
	program, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = program.Close() })
	return program, person
}

// TestAskSecret: a password is not shown while it is typed, and the terminal is as
// before afterwards.
func TestAskSecret(t *testing.T) {
	t.Parallel()
	program, person := terminalPair(t)
	_, before := terminal(program)
	var out bytes.Buffer
	type answer struct {
		text string
		err  error
	}
	got := make(chan answer, 1)
	go func() {
		text, err := readPassword(t.Context(), "Password: ", "", streams{program, &out, &out})
		got <- answer{text, err}
	}()
	for t.Context().Err() == nil { // typed when nothing is echoed any more
		if _, now := terminal(program); now.Lflag&unix.ECHO == 0 {
			break
		}
		time.Sleep(time.Millisecond)
	}
	if _, err := person.WriteString("Passw0rd\n"); err != nil {
		t.Fatal(err)
	}
	if a := <-got; a.text != "Passw0rd" || a.err != nil {
		t.Errorf("%q, %v", a.text, a.err)
	}
	if _, after := terminal(program); *after != *before {
		t.Error("the terminal is not as before")
	}
	if out.String() != "Password: \n" {
		t.Errorf("%q", out.String())
	}
	b := make([]byte, 64)
	fd := int(person.Fd()) // which makes it wait
	if err := unix.SetNonblock(fd, true); err != nil {
		t.Fatal(err)
	}
	if n, _ := unix.Read(fd, b); strings.Contains(string(b[:max(n, 0)]), "Passw0rd") {
		t.Errorf("the terminal shows %q", b[:n])
	}
}
