//go:build acceptance

package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"dirpost/internal/testenv"
)

// TestAcceptanceSingleSignOn: further programs, with two other libraries of SASL and
// none, log in by the ticket of kinit.
func TestAcceptanceSingleSignOn(t *testing.T) {
	s := newSSO(t, "ines")
	s.start()
	s.kinit()
	deliver := func(id string) {
		t.Helper()
		if err := s.deliver("friend@partner.example", []string{"ines@corp.example"}, "From: friend@partner.example\r\nTo: ines@corp.example\r\nSubject: "+id+"\r\nMessage-ID: <"+id+"@partner.example>\r\n\r\nText.\r\n"); err != nil {
			t.Fatal(err)
		}
	}
	count := func() string {
		t.Helper()
		out, err := s.curl("imaps://"+s.host+":"+s.port("imaps")+"/", "-X", "STATUS INBOX (MESSAGES)")
		if err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		return out
	}

	for _, protocol := range []string{"imap", "pop3"} {
		id := "by-" + protocol
		deliver(id)
		box := filepath.Join(s.dir, "box-"+protocol)
		config := writeFile(t, filepath.Join(s.dir, "fetchmailrc"), fmt.Sprintf("set idfile %q\npoll %s protocol %s port %s auth gssapi timeout 30\n  user \"ines\" is root here ssl sslcertck sslcertfile %q no keep fetchall\n  mda \"cat >>%s\"\n",
			filepath.Join(s.dir, "ids"), s.host, protocol, s.port(protocol+"s"), s.cert.CAFile, box))
		s.env = append(s.env, "FETCHMAILHOME="+s.dir)
		if out, err := s.run("fetchmail", "-f", config, "--nodetach", "--nosyslog", "--pidfile", filepath.Join(s.dir, "fetchmail.pid")); err != nil {
			t.Errorf("fetchmail by %s: %v: %s", protocol, err, out)
			continue
		}
		if got, err := os.ReadFile(box); err != nil || !strings.Contains(string(got), "<"+id+"@partner.example>") {
			t.Errorf("fetchmail by %s: %v: %s", protocol, err, got)
		}
	}
	if out := count(); !strings.Contains(out, "MESSAGES 0") {
		t.Error(out)
	}

	deliver("by-mutt")
	config := writeFile(t, filepath.Join(s.dir, "muttrc"), fmt.Sprintf("set imap_authenticators=\"gssapi\"\nset ssl_force_tls=yes\nset ssl_verify_host=yes\nset certificate_file=%q\nset folder=%q\nset delete=yes\nset header_cache=\"\"\n", s.cert.CAFile, s.dir))
	cmd := exec.CommandContext(t.Context(), testenv.Need(t, "script"), "-qec",
		fmt.Sprintf(`%s -n -F %s -f imaps://ines@%s:%s/INBOX -e 'push "<delete-pattern>~A<enter><quit>"'`, testenv.Need(t, "mutt"), config, s.host, s.port("imaps")), "/dev/null")
	cmd.Env = append(append(cmd.Environ(), s.env...), "TERM=xterm")
	cmd.Stdin = strings.NewReader("")
	if screen, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(screen), "Authenticating (GSSAPI)") || !strings.Contains(string(screen), "by-mutt") {
		t.Errorf("mutt: %v: %q", err, screen)
	}
	if out := count(); !strings.Contains(out, "MESSAGES 0") {
		t.Errorf("mutt deleted nothing: %s", out)
	}

	for _, p := range []struct{ protocol, listener string }{{"imap", "imap"}, {"smtp", "submission"}} {
		out, err := s.run("gsasl", "--client", "--"+p.protocol, "--connect", s.host+":"+s.port(p.listener), "--mechanism", "GSSAPI", "--authentication-id", "ines", "--authorization-id", "ines",
			"--service", p.protocol, "--hostname", s.host, "--x509-ca-file", s.cert.CAFile, "--verbose")
		if err != nil || !strings.Contains(out, "Client authentication finished (server trusted)") {
			t.Errorf("gsasl by %s: %v: %s", p.protocol, err, out)
		}
	}
}
