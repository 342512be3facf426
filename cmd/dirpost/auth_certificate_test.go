package main

import (
	"crypto/x509/pkix"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/emersion/go-imap/v2/imapclient"
	"github.com/emersion/go-sasl"
	"github.com/go-ldap/ldap/v3"

	"dirpost/internal/testenv"
)

// TestCertificateClients: curl, gsasl and the client library log in with a
// certificate that is in the person's entry; one of somebody else, or that was
// revoked, opens nothing, and passwords go on.
func TestCertificateClients(t *testing.T) {
	t.Parallel()
	ca := testenv.NewPeopleCA(t, pkix.Name{CommonName: "Corp people CA"})
	s := newSystem(t, fmt.Sprintf("[auth.certificates]\nca = [%q]\n", ca.CAFile))
	s.change("[auth]\n", "trusted = [\"certificate\"]\nmapping = { certificate = [\"userCertificate;binary:certificate\"] }\n[auth]\n")
	alice, stranger, taken := ca.Issue("alice", nil), ca.Issue("alice", nil), ca.Issue("alice", nil)
	ca.Revoke(taken)
	req := ldap.NewModifyRequest(s.person("alice"), nil)
	req.Replace("userCertificate;binary", []string{string(alice.TLS.Leaf.Raw), string(taken.TLS.Leaf.Raw)})
	admin := s.admin()
	if err := admin.Modify(req); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		req := ldap.NewModifyRequest(s.person("alice"), nil)
		req.Replace("userCertificate;binary", nil)
		if err := admin.Modify(req); err != nil {
			t.Error(err)
		}
	})
	s.start()
	for cert, want := range map[string]string{alice.CertFile: "alice@corp.example by sha256", stranger.CertFile: "NO  person", taken.CertFile: "NO  revocation", s.cert.CertFile: "NO  certificate"} {
		code := 1
		if cert == alice.CertFile {
			code = 0
		}
		if out := s.command(code, "auth", "certificate", cert); !strings.Contains(out, want) {
			t.Errorf("auth certificate: want %q: %s", want, out)
		}
	}
	file := filepath.Join(s.dir, "mail.eml")
	if err := os.WriteFile(file, []byte("From: alice@corp.example\r\nTo: bob@corp.example\r\nSubject: by certificate\r\n\r\nText.\r\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, args := range map[string][]string{
		"IMAP":          {"imaps://localhost:" + s.port("imaps") + "/INBOX", "-X", "STATUS INBOX (MESSAGES)"},
		"IMAP STARTTLS": {"imap://localhost:" + s.port("imap") + "/INBOX", "--ssl-reqd", "-X", "STATUS INBOX (MESSAGES)"},
		"POP3":          {"pop3s://localhost:" + s.port("pop3s")},
		"submission":    {"smtps://localhost:" + s.port("submissions"), "--mail-from", "alice@corp.example", "--mail-rcpt", "bob@corp.example", "-T", file},
	} {
		curl := func(cert testenv.Cert, user string) (string, error) {
			return s.client("curl", append([]string{"-sS", "--max-time", "30", "--cacert", s.cert.CAFile, "--cert", cert.CertFile, "--key", cert.KeyFile,
				"-u", user + ":", "--login-options", "AUTH=EXTERNAL"}, args...)...)
		}
		if out, err := curl(alice, "alice@corp.example"); err != nil {
			t.Errorf("curl %s: %v: %s", name, err, out)
		}
		for what, c := range map[string]struct {
			cert testenv.Cert
			user string
		}{"nobody's": {stranger, "alice"}, "revoked": {taken, "alice"}, "somebody else's mail": {alice, "bob"}} {
			if out, err := curl(c.cert, c.user); err == nil || !strings.Contains(out, "curl: (67)") { // CURLE_LOGIN_DENIED
				t.Errorf("curl %s, %s: %v: %s", name, what, err, out)
			}
		}
	}
	for protocol, port := range map[string]string{"--imap": s.port("imap"), "--smtp": s.port("submission")} {
		out, err := s.client("gsasl", protocol, "--mechanism=EXTERNAL", "--authorization-id=", "--starttls", "--x509-ca-file="+s.cert.CAFile,
			"--x509-cert-file="+alice.CertFile, "--x509-key-file="+alice.KeyFile, "--no-client-first", "localhost", port)
		if err != nil || !strings.Contains(out, "finished") && !strings.Contains(out, "Logged in") && !strings.Contains(out, "235 ") {
			t.Errorf("gsasl %s: %v: %s", protocol, err, out)
		}
	}

	conf := s.tls()
	conf.Certificates = append(conf.Certificates, alice.TLS)
	c, err := imapclient.DialTLS(s.addr["imaps"], &imapclient.Options{TLSConfig: conf})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if !c.Caps().Has("AUTH=EXTERNAL") {
		t.Errorf("EXTERNAL is not offered: %v", c.Caps())
	}
	if err := c.Authenticate(sasl.NewExternalClient("")); err != nil {
		t.Errorf("go-sasl: %v", err)
	}
	if s.login("bob").Caps().Has("AUTH=EXTERNAL") {
		t.Error("EXTERNAL is offered without a certificate")
	}
}
