package main

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"dirpost/internal/testenv"
)

// A node without any certificate gets those it needs, and serves them on every port.
func TestACME(t *testing.T) {
	t.Parallel()
	s := newSystem(t, "")
	_, port, _ := net.SplitHostPort(s.addr["http"])
	number, _ := strconv.Atoi(port)
	authority := testenv.ACME(t, testenv.DNS(t, "mail.corp.example. IN A 127.0.0.1", "autoconfig.corp.example. IN A 127.0.0.1"), testenv.ACMEOptions{HTTPPort: number})
	text, err := os.ReadFile(s.config)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, _ := strings.Cut(string(text), "[[tls.certificate]]")
	_, after, _ := strings.Cut(rest, "[[listener]]")
	config := before + fmt.Sprintf("[acme]\ndirectory = %q\nca = %q\ncontact = \"postmaster@corp.example\"\nnames = [\"autoconfig.corp.example\"]\n[[listener]]", authority.URL, authority.CAFile) + after
	if err := os.WriteFile(s.config, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	if s.file, err = readConfig(s.config); err != nil {
		t.Fatal(err)
	}
	command := func(args ...string) string {
		var out strings.Builder
		run(t.Context(), append([]string{"dirpost", "--config", s.config}, args...), streams{nil, &out, &out})
		return out.String()
	}
	if out := command("doctor", "--only=certificates"); !strings.Contains(out, "none for mail.corp.example yet") {
		t.Errorf("before it runs doctor says\n%s", out)
	}
	s.start()
	for listener, name := range map[string]string{"imaps": "mail.corp.example", "submissions": "mail.corp.example", "https": "autoconfig.corp.example"} {
		s.eventually(listener+" has a certificate for "+name, func() bool {
			conn, err := tls.Dial("tcp", s.addr[listener], &tls.Config{RootCAs: authority.Issuer, ServerName: name})
			if err != nil {
				return false
			}
			return conn.Close() == nil
		})
	}
	if out := command("doctor", "--only=certificates"); strings.Count(out, "issued, expires in") != 2 {
		t.Errorf("doctor says\n%s", out)
	}
	if out := command("cert", "list"); !strings.Contains(out, "autoconfig.corp.example") || strings.Contains(out, "none yet") {
		t.Errorf("cert list prints\n%s", out)
	}
	if out := command("cert", "renew", "other.example"); !strings.Contains(out, "no such certificate") {
		t.Errorf("cert renew of what there is not prints\n%s", out)
	}
}

// A request for an authority without ACME, with a key that is made once.
func TestCSR(t *testing.T) {
	t.Parallel()
	key := filepath.Join(t.TempDir(), "key.pem")
	request := func(args ...string) *x509.CertificateRequest {
		t.Helper()
		var out, errs strings.Builder
		if code := run(t.Context(), append([]string{"dirpost", "cert", "csr", "--key", key}, args...), streams{nil, &out, &errs}); code != 0 {
			t.Fatalf("exit %d: %s", code, errs.String())
		}
		block, _ := pem.Decode([]byte(out.String()))
		r, err := x509.ParseCertificateRequest(block.Bytes)
		if err != nil || r.CheckSignature() != nil {
			t.Fatalf("request: %v", err)
		}
		return r
	}
	first := request("--organisation", "Example Ltd", "mail.corp.example", "autoconfig.corp.example")
	if got := first.Subject.String() + " " + strings.Join(first.DNSNames, " "); got != "CN=mail.corp.example,O=Example Ltd mail.corp.example autoconfig.corp.example" {
		t.Errorf("the request is for %s", got)
	}
	if info, err := os.Stat(key); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the key's file: %v, %v", info.Mode(), err)
	}
	if again := request("mail.corp.example"); string(again.RawSubjectPublicKeyInfo) != string(first.RawSubjectPublicKeyInfo) {
		t.Error("the second request has another key")
	}
}
