package main

import (
	"context"
	"crypto/tls"
	"crypto/x509/pkix"
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"dirpost/auth/selfservice"
	"dirpost/internal/testenv"

	"github.com/go-ldap/ldap/v3"
)

// TestPageByCertificate: under a name of its own the page is entered by a certificate,
// by curl, and no browser is asked for one under another name.
func TestPageByCertificate(t *testing.T) {
	t.Parallel()
	const host = "login.corp.example"
	ca := testenv.NewPeopleCA(t, pkix.Name{CommonName: "Corp people CA"})
	s := newSystem(t, fmt.Sprintf("[auth.certificates]\nca = [%q]\n", ca.CAFile))
	s.change("[auth]\n", "trusted = [\"certificate\"]\nmapping = { certificate = [\"userCertificate;binary:certificate\"] }\n[auth]\n")
	s.change("[auth.page]\n", "[auth.page]\ncertificate_host = \""+host+"\"\n")
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
	port := s.port("https")
	curl := func(name string, cert *testenv.Cert) string {
		t.Helper()
		jar := filepath.Join(t.TempDir(), "cookies")
		args := []string{"-sSL", "-k", "--max-time", "30", "-b", jar, "-c", jar, "--resolve", name + ":" + port + ":127.0.0.1", "https://" + name + ":" + port + selfservice.Root}
		if cert != nil {
			args = append(args, "--cert", cert.CertFile, "--key", cert.KeyFile)
		}
		out, err := s.client("curl", args...)
		if err != nil {
			t.Fatalf("curl %s: %v: %s", name, err, out)
		}
		return out
	}
	for what, tt := range map[string]struct {
		name string
		cert *testenv.Cert
		want string
	}{
		"a certificate":              {host, &alice, "Logged in as alice@corp.example"},
		"under another name":         {"localhost", &alice, `<a href="https://` + host + ":" + port + selfservice.Root + `login">Log in with a certificate</a>`},
		"nobody's":                   {host, &stranger, "Your certificate was not accepted here"},
		"one that was revoked":       {host, &taken, "Your certificate was not accepted here"},
		"none":                       {host, nil, `<input id="password"`},
		"the name in capitals":       {strings.ToUpper(host), &alice, "Logged in as alice@corp.example"},
		"none, and under other name": {"localhost", nil, `<input id="password"`},
	} {
		if out := curl(tt.name, tt.cert); !strings.Contains(out, tt.want) {
			t.Errorf("%s: no %q in\n%s", what, tt.want, out)
		}
	}

	// Who was not asked on a connection is sent to another one.
	asked := false
	client := &http.Client{Transport: &http.Transport{
		DialTLSContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			d := tls.Dialer{Config: &tls.Config{InsecureSkipVerify: true, ServerName: "localhost", GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
				asked = true
				return &alice.TLS, nil
			}}}
			return d.DialContext(ctx, network, s.addr["https"])
		},
	}}
	defer client.CloseIdleConnections()
	res, err := client.Get("https://" + host + ":" + port + selfservice.Root + "login")
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if res.StatusCode != http.StatusMisdirectedRequest || asked {
		t.Errorf("%s, asked for a certificate: %v", res.Status, asked)
	}
	if report := s.command(1, "doctor"); !strings.Contains(report, "no certificate is for "+host) {
		t.Errorf("doctor says %s", report)
	}
}

// The name under which browsers are asked is another one than that of the server, and
// of no use without certificates.
func TestCertificateHost(t *testing.T) {
	t.Parallel()
	for want, f := range map[string]*File{
		"no name of a host":           {Auth: AuthSection{Page: PageSection{CertificateHost: "https://x/"}}},
		"another name than":           {Server: ServerSection{Name: "mail.corp.example"}, Auth: AuthSection{Page: PageSection{CertificateHost: "Mail.corp.example"}}},
		"no client certificates: see": {Auth: AuthSection{Page: PageSection{CertificateHost: "login.corp.example"}}},
	} {
		if err := f.validateCertificateHost(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
}
