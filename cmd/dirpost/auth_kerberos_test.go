package main

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode/utf16"

	"dirpost/internal/testenv"

	"github.com/go-ldap/ldap/v3"
)

// A sso is a person of a domain who logs in to a joined system with the ticket of
// kinit.
type sso struct {
	*system
	ad   *testenv.ADServer
	who  string // login name; it is in AD's tests alone
	host string // name that clients connect to
	// principal is who has the ticket, and env how programs find it.
	principal string
	env       []string
}

// newSSO joins a system to the shared domain under a name of its own, and makes a
// person. What is changed in the domain is that person and the account.
func newSSO(t *testing.T, name string) *sso {
	t.Helper()
	s := &sso{ad: testenv.AD(t), who: name, host: name + "-mail.corp.example"}
	s.addPerson(t)
	s.system = newJoining(t, s.ad)
	s.cert = testenv.Certificate(t, s.host, "localhost")
	s.edit(func(text string) string {
		return strings.NewReplacer(`name = "mail.corp.example"`, fmt.Sprintf("name = %q", s.host), "\n[auth]\n", "\n[auth]\ninside = [\"0.0.0.0/0\", \"::/0\"]\n",
			s.file.TLS.Certificate[0].Chain, s.cert.CertFile, s.file.TLS.Certificate[0].Key, s.cert.KeyFile).Replace(text)
	})
	contains(t, s.join(0, s.ad.AdminPassword+"\n", "corp.example", "--name", strings.ToUpper(name)), "imap/"+s.host, "HTTP/"+s.host)
	t.Cleanup(func() {
		_ = adAdmin(t, s.ad).Del(ldap.NewDelRequest("CN="+strings.ToUpper(name)+",CN=Computers,"+s.ad.Base, nil))
	})
	return s
}

// edit changes the configuration.
func (s *sso) edit(change func(string) string) {
	s.t.Helper()
	b, err := os.ReadFile(s.config)
	if err != nil {
		s.t.Fatal(err)
	}
	writeFile(s.t, s.config, change(string(b)))
	if s.file, err = readConfig(s.config); err != nil {
		s.t.Fatal(err)
	}
}

func (s *sso) dn() string { return "CN=" + s.who + ",OU=Staff," + s.ad.Base }

func (s *sso) addPerson(t *testing.T) {
	t.Helper()
	var password strings.Builder
	for _, u := range utf16.Encode([]rune(`"` + s.ad.UserPassword + `"`)) {
		password.Write([]byte{byte(u), byte(u >> 8)})
	}
	add := ldap.NewAddRequest(s.dn(), nil)
	for name, value := range map[string]string{
		"objectClass": "user", "sAMAccountName": s.who, "userPrincipalName": s.who + "@corp.example", "displayName": s.who,
		"mail": s.who + "@corp.example", "unicodePwd": password.String(), "userAccountControl": "512",
	} {
		add.Attribute(name, []string{value})
	}
	conn := adAdmin(t, s.ad)
	if err := conn.Add(add); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = adAdmin(t, s.ad).Del(ldap.NewDelRequest(s.dn(), nil)) })
}

// kinit gets a new ticket-granting ticket for the person.
func (s *sso) kinit() {
	s.t.Helper()
	s.kinitAs(s.ad, s.who, s.ad)
}

// kinitAs does it for somebody of a domain, whose clients know these domains.
func (s *sso) kinitAs(of *testenv.ADServer, who string, know ...*testenv.ADServer) {
	s.t.Helper()
	kdcs := make(map[string]string)
	for _, ad := range know {
		kdcs[ad.Realm] = ad.Address + ":88"
	}
	s.principal = who + "@" + of.Realm
	s.env = testenv.KerberosLogin(s.t, kdcs, s.principal, of.UserPassword)
	hosts := filepath.Join(s.dir, "hosts")
	if err := os.WriteFile(hosts, []byte("127.0.0.1 "+s.host+"\n"), 0o600); err != nil {
		s.t.Fatal(err)
	}
	s.env = append(s.env, "LD_PRELOAD=libnss_wrapper.so", "NSS_WRAPPER_HOSTS="+hosts, "HOME="+s.dir, "LANG=C.UTF-8")
}

// run runs a program with the ticket.
func (s *sso) run(program string, args ...string) (string, error) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, testenv.Need(s.t, program), args...)
	cmd.Env = append(cmd.Environ(), s.env...)
	cmd.Stdin = strings.NewReader("")
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// curl is curl that logs in by GSSAPI and nothing else.
func (s *sso) curl(url string, args ...string) (string, error) {
	s.t.Helper()
	return s.run("curl", append([]string{"-sS", "--max-time", "30", "--cacert", s.cert.CAFile, "--login-options", "AUTH=GSSAPI", "-u", s.principal + ":", url}, args...)...)
}

// TestSingleSignOn: who has logged in to the domain reads and sends mail by real
// programs without a password; the keys change meanwhile; and who is disabled does
// not come in with a ticket from before.
func TestSingleSignOn(t *testing.T) {
	t.Parallel()
	s := newSSO(t, "gina")
	s.start()
	s.kinit()
	file := writeFile(t, filepath.Join(s.dir, "mail.eml"), "From: gina@corp.example\r\nTo: gina@corp.example\r\nSubject: without a password\r\n\r\nText.\r\n")
	send := func() {
		t.Helper()
		for _, url := range []string{"smtps://" + s.host + ":" + s.port("submissions"), "smtp://" + s.host + ":" + s.port("submission")} {
			if out, err := s.curl(url, "--ssl-reqd", "--mail-from", "gina@corp.example", "--mail-rcpt", "gina@corp.example", "-T", file); err != nil {
				t.Errorf("%s: %v: %s", url, err, out)
			}
		}
	}
	read := func(want int) {
		t.Helper()
		if out, err := s.curl("imaps://"+s.host+":"+s.port("imaps")+"/", "-X", "STATUS INBOX (MESSAGES)"); err != nil || !strings.Contains(out, fmt.Sprintf("MESSAGES %d", want)) {
			t.Errorf("IMAP: %v: %s", err, out)
		}
		if out, err := s.curl("pop3s://" + s.host + ":" + s.port("pop3s") + "/1"); err != nil || !strings.Contains(out, "Subject: without a password\r\n") {
			t.Errorf("POP3: %v: %s", err, out)
		}
	}
	send()
	read(2)
	s.mbsync(2)

	// The machine password changes: old tickets stay good, new ones are too.
	contains(t, s.join(0, "", "rotate"), "has the key number 2.")
	read(2)
	s.kinit()
	send()
	read(4)
	contains(t, s.command(0, "auth", "test", "gina", "--from", "127.0.0.1"), "GSSAPI PLAIN LOGIN")
	contains(t, s.doctor(), "keys for the names of gina-mail.corp.example, clocks agree")

	mod := ldap.NewModifyRequest(s.dn(), nil)
	mod.Replace("userAccountControl", []string{"514"})
	if err := adAdmin(t, s.ad).Modify(mod); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(50 * time.Millisecond) {
		out, err := s.curl("imaps://"+s.host+":"+s.port("imaps")+"/", "-v", "-X", "NOOP")
		if err != nil && strings.Contains(out, "[CONTACTADMIN]") {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("who is disabled comes in with a ticket: %v: %s", err, out)
		}
	}
}

// TestSingleSignOnAcrossATrust: people of a domain that ours trusts come in with a
// ticket that both domains have made, and are whose SID it has: alice of the other
// domain, and not ours of the same name.
func TestSingleSignOnAcrossATrust(t *testing.T) {
	t.Parallel()
	corp, other := testenv.ADForest(t)
	corp.Trust(t, other)
	s := newSSO(t, "hugo")
	ca := writeFile(t, filepath.Join(s.dir, "other.pem"), other.CA)
	password := writeFile(t, filepath.Join(s.dir, "other"), other.ServicePass)
	s.edit(func(text string) string {
		text = strings.Replace(text, `local = ["corp.example"]`, `local = ["corp.example", "other.example"]`, 1)
		return text + fmt.Sprintf("[directory.other]\nurls = [%q]\nca = %q\nbase = %q\nbind_dn = %q\nbind_password = \"file:%s\"\n", other.TLSURL, ca, other.Base, other.ServiceDN, password)
	})
	s.confirmAll("corp.example", "other.example")
	s.start()
	if err := s.deliver("friend@partner.example", []string{"alice@other.example"}, "Subject: for alice of OTHER\r\n\r\nText.\r\n"); err != nil {
		t.Fatal(err)
	}
	s.kinitAs(other, "alice", corp, other)
	if out, err := s.curl("imaps://" + s.host + ":" + s.port("imaps") + "/INBOX;UID=1"); err != nil || !strings.Contains(out, "Subject: for alice of OTHER\r\n") {
		t.Errorf("alice of OTHER: %v: %s", err, out)
	}
	s.kinitAs(corp, "alice", corp, other)
	if out, err := s.curl("imaps://"+s.host+":"+s.port("imaps")+"/", "-X", "STATUS INBOX (MESSAGES)"); err != nil || !strings.Contains(out, "MESSAGES 0") {
		t.Errorf("alice of CORP: %v: %s", err, out)
	}
}

// TestKeytab: without a domain, the keys are in a file and a rule says who people are.
func TestKeytab(t *testing.T) {
	t.Parallel()
	r := testenv.StartRealm(t, "CORP.EXAMPLE")
	r.AddPerson(t, "alice")
	_, port, err := net.SplitHostPort(r.KDC)
	if err != nil {
		t.Fatal(err)
	}
	dns := testenv.DNS(t, "_kerberos._tcp.corp.example. IN SRV 0 0 "+port+" kdc.corp.example.", "kdc.corp.example. IN A 127.0.0.1")
	s := &sso{system: newSystem(t, fmt.Sprintf("resolvers = [%q]", dns.Addr)), host: "mail.corp.example"}
	keytab := filepath.Join(s.dir, "krb5.keytab")
	if err := os.WriteFile(keytab, r.Keytab(t, "imap/mail.corp.example", "smtp/mail.corp.example"), 0o600); err != nil {
		t.Fatal(err)
	}
	section := fmt.Sprintf("[auth.kerberos]\nkeytab = \"file:%s\"\n", keytab)
	s.change("[[tls.certificate]]", section+"[[tls.certificate]]")
	s.change("\n[auth]\n", "\n[auth]\ninside = [\"127.0.0.0/8\"]\n")
	stop := s.start()
	contains(t, s.doctor(), "there is no key for pop/mail.corp.example, HTTP/mail.corp.example", "nobody in the directory has a SID")
	s.principal, s.env = "alice@CORP.EXAMPLE", testenv.KerberosLogin(t, map[string]string{r.Name: r.KDC}, "alice@CORP.EXAMPLE", "alice")
	imap := func(more ...string) (string, error) {
		return s.curl("imaps://mail.corp.example:"+s.port("imaps")+"/", append([]string{"-k", "--resolve", "mail.corp.example:" + s.port("imaps") + ":127.0.0.1", "-X", "STATUS INBOX (MESSAGES)"}, more...)...)
	}
	if out, err := imap(); err == nil {
		t.Errorf("without a rule: %s", out)
	}
	stop()
	s.change(section, section+"[[auth.kerberos.realm]]\nname = \"CORP.EXAMPLE\"\nlogin = \"name\"\ndirectory = \"corp\"\n")
	s.start()
	if out, err := imap(); err != nil || !strings.Contains(out, "MESSAGES 0") {
		t.Errorf("with a rule: %v: %s", err, out)
	}
	if out, err := imap("--sasl-authzid", "bob"); err == nil {
		t.Errorf("as somebody else: %s", out)
	}
	if text := s.doctor(); strings.Contains(text, "SID") || strings.Contains(text, "clock") {
		t.Error(text)
	}
	// The keys change, and the node reads the file again.
	if err := os.WriteFile(keytab, r.Keytab(t, "imap/mail.corp.example", "smtp/mail.corp.example"), 0o600); err != nil {
		t.Fatal(err)
	}
	s.env = testenv.KerberosLogin(t, map[string]string{r.Name: r.KDC}, "alice@CORP.EXAMPLE", "alice")
	if out, err := imap(); err == nil {
		t.Errorf("with the old keytab: %s", out)
	}
	if err := s.node.reloadKeytab(); err != nil {
		t.Fatal(err)
	}
	if out, err := imap(); err != nil {
		t.Errorf("with the new keytab: %v: %s", err, out)
	}
	// Its key is none of POP's, and so it is not offered there.
	if out, err := s.curl("pop3s://mail.corp.example:"+s.port("pop3s")+"/", "-k", "--resolve", "mail.corp.example:"+s.port("pop3s")+":127.0.0.1"); err == nil {
		t.Errorf("POP3: %s", out)
	}
}

// doctor is what `dirpost doctor` says of Kerberos.
func (s *system) doctor() string {
	s.t.Helper()
	var out bytes.Buffer
	_ = run(s.t.Context(), []string{"dirpost", "--config", s.config, "doctor", "--only=kerberos"}, streams{nil, &out, &out}) // other things may be wrong
	var about []string
	for line := range strings.Lines(out.String()) {
		if strings.Contains(line, "kerberos") {
			about = append(about, line)
		}
	}
	return strings.Join(about, "")
}

// mbsync reads the INBOX with a program that uses Cyrus SASL.
func (s *sso) mbsync(want int) {
	s.t.Helper()
	maildir := filepath.Join(s.dir, "mail") + "/"
	if err := os.Mkdir(maildir, 0o700); err != nil {
		s.t.Fatal(err)
	}
	config := writeFile(s.t, filepath.Join(s.dir, "mbsyncrc"), fmt.Sprintf(`IMAPAccount corp
Host %s
Port %s
User %s
PassCmd "false"
SSLType IMAPS
CertificateFile %s
AuthMechs GSSAPI

IMAPStore far
Account corp

MaildirStore near
Path %s
Inbox %sINBOX

Channel all
Far :far:
Near :near:
Create Near
SyncState *
`, s.host, s.port("imaps"), s.who, s.cert.CAFile, maildir, maildir))
	if out, err := s.run("mbsync", "-c", config, "-a"); err != nil {
		s.t.Fatalf("mbsync: %v: %s", err, out)
	}
	if files, err := filepath.Glob(maildir + "INBOX/*/*"); err != nil || len(files) != want {
		s.t.Errorf("mbsync fetched %d messages, want %d", len(files), want)
	}
}

func writeFile(t *testing.T, path, text string) string {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestKerberosConfig: what cannot be meant is said.
func TestKerberosConfig(t *testing.T) {
	t.Parallel()
	yes := true
	for _, tt := range []struct {
		section KerberosSection
		want    string // part of the error, "" for none
	}{
		{KerberosSection{}, ""},
		{KerberosSection{Enabled: &yes}, "there is no key"},
		{KerberosSection{Enabled: &yes, Keytab: Secret{ref: "file:/etc/krb5.keytab"}}, ""},
		{KerberosSection{Realm: []RealmSection{{Name: "CORP.EXAMPLE", Login: "name", Directory: "corp"}}}, ""},
		{KerberosSection{Realm: []RealmSection{{Name: "CORP.EXAMPLE", Login: "name", Directory: "hq"}}}, "[directory.hq]"},
		{KerberosSection{Realm: []RealmSection{{Name: "CORP.EXAMPLE", Login: "uid"}}}, `want "name", "upn" or "@DOMAIN"`},
	} {
		f := &File{Directory: map[string]DirectorySection{"corp": {}}, Auth: AuthSection{Kerberos: tt.section}}
		err := f.validateKerberos()
		if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%+v: %v, want %q", tt.section, err, tt.want)
		}
	}
	weak := filepath.Join(t.TempDir(), "keytab")
	// One entry of RC4 for a@R.
	b := []byte{5, 2, 0, 0, 0, 41, 0, 1, 0, 1, 'R', 0, 1, 'a', 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 23, 0, 16, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 0, 0, 0, 1}
	if err := os.WriteFile(weak, b, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := (KerberosSection{Keytab: Secret{ref: "file:" + weak}}).checkTicketKeytab(); err == nil || !strings.Contains(err.Error(), "no AES key") {
		t.Errorf("RC4 alone: %v", err)
	}
}
