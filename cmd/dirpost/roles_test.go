package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"dirpost/internal/logging"
	"dirpost/internal/testenv"

	"github.com/emersion/go-smtp"
)

// running is a server in this process that can be told to reload.
type running struct {
	hup   chan os.Signal
	stop  context.CancelFunc
	ended chan error
}

// serve runs a node with some roles only.
func (s *system) serve(roles ...string) *running {
	s.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	log, control, err := logging.New(testWriter{s.t}, logging.Config{Level: "info"})
	if err != nil {
		s.t.Fatal(err)
	}
	r := &running{hup: make(chan os.Signal), stop: cancel, ended: make(chan error, 1)}
	ready := make(chan struct{})
	srv := &server{path: s.config, roles: roles, sockets: newSockets(nil), log: log, control: control, ready: func(*node) { close(ready) }}
	go func() { r.ended <- srv.run(ctx, s.file, r.hup) }()
	select {
	case err := <-r.ended:
		s.t.Fatalf("roles %v: %v", roles, err)
	case <-ready:
	}
	s.t.Cleanup(func() {
		cancel()
		if err := <-r.ended; err != nil {
			s.t.Errorf("roles %v: ended with %v", roles, err)
		}
	})
	return r
}

// isOpen reports whether somebody listens.
func (s *system) isOpen(listener string) bool {
	conn, err := net.Dial("tcp", s.addr[listener])
	if err == nil {
		_ = conn.Close()
	}
	return err == nil
}

// TestRoles: a node opens the ports of its roles and reads their secrets only.
// The node of port 25 works without any.
func TestRoles(t *testing.T) {
	t.Parallel()
	s := newSystem(t, "")
	s.serve(roleDirectory) // reads the directory for all
	for _, name := range []string{"ldap", "sealing"} {
		if err := os.Remove(filepath.Join(s.dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	s.serve(roleMX)
	for _, l := range listenerKinds {
		want := protocols[l.protocol] == roleMX
		if got := s.isOpen(l.name); got != want {
			t.Errorf("%s is open: %t", l.name, got)
		}
	}
	// The replica comes by itself, and no later than the next poll.
	deadline := time.Now().Add(30 * time.Second)
	for {
		err := s.deliver("friend@partner.example", []string{"bob@corp.example"}, plain)
		if err == nil {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("deliver: %v", err)
		}
		time.Sleep(20 * time.Millisecond)
	}
	s.serve(roleIMAP)
	if got := s.read(s.login("bob"), "INBOX"); len(got) != 1 {
		t.Errorf("bob has %d messages, want 1", len(got))
	}
	f := *s.file
	if _, err := f.roles([]string{"mx", "smtp"}); err == nil {
		t.Error("smtp is taken for a role")
	}
}

// TestRoleSecrets: a node opens the secrets that its role needs and no others.
func TestRoleSecrets(t *testing.T) {
	t.Parallel()
	s := newSystem(t, "smarthost = \"127.0.0.1:9\"\nsmarthost_tls = \"none\"\nsmarthost_user = \"us\"\nsmarthost_password = \"file:/SMARTHOST\"")
	smarthost := filepath.Join(s.dir, "smarthost")
	if err := os.WriteFile(smarthost, []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	s.change("file:/SMARTHOST", "file:"+smarthost)
	secrets := map[string]string{"directory's account": filepath.Join(s.dir, "ldap"), "sealing key": filepath.Join(s.dir, "sealing"), "smarthost's account": smarthost, "certificate's key": s.cert.KeyFile}
	needs := map[string][]string{
		roleMX:        {"certificate's key"},
		roleMSA:       {"certificate's key", "sealing key"}, // signs
		roleIMAP:      {"certificate's key"},
		rolePOP:       {"certificate's key"},
		roleHTTP:      {"certificate's key", "sealing key"}, // second factors
		roleQueue:     {"sealing key", "smarthost's account"},
		roleDirectory: {"directory's account"},
	}
	socks := newSockets(nil)
	defer socks.close()
	starts := func(role string) error {
		n, err := newNode(t.Context(), s.file, []string{role}, socks, testLog(t))
		if err == nil {
			n.close()
		}
		return err
	}
	for _, role := range allRoles {
		if err := starts(role); err != nil {
			t.Errorf("%s: %v", role, err)
		}
		for name, path := range secrets {
			if err := os.Rename(path, path+".away"); err != nil {
				t.Fatal(err)
			}
			err := starts(role)
			if want := slices.Contains(needs[role], name); (err != nil) != want {
				t.Errorf("%s without the %s: %v, and that it needs it is %t", role, name, err, want)
			}
			if err := os.Rename(path+".away", path); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// TestDirectoryAway: without the directory mail for those who are known goes on,
// nobody is refused for good, and who is logged in stays; no password is called
// wrong.
func TestDirectoryAway(t *testing.T) {
	t.Parallel()
	s := newSystem(t, "")
	s.start()
	session := s.login("bob")
	s.slapd.Stop()
	if err := s.deliver("friend@partner.example", []string{"bob@corp.example"}, plain); err != nil {
		t.Errorf("mail for somebody known: %v", err)
	}
	if got := s.read(session, "INBOX"); len(got) != 1 {
		t.Errorf("bob has %d messages, want 1", len(got))
	}
	err := s.submit("carol", "carol@corp.example", []string{"bob@corp.example"}, plain)
	if err == nil || !strings.Contains(err.Error(), "Temporary authentication failure") {
		t.Errorf("carol logs in: %v, want a temporary failure", err)
	}
	s.slapd.Start(t)
	deadline := time.Now().Add(time.Minute)
	for {
		err := s.submit("carol", "carol@corp.example", []string{"bob@corp.example"}, "From: carol@corp.example\r\nSubject: back\r\n\r\nx\r\n")
		if err == nil {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("carol logs in when it is back: %v", err)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// TestReload: SIGHUP takes another configuration over without a moment in which
// nobody answers; one that cannot be used changes nothing.
func TestReload(t *testing.T) {
	t.Parallel()
	s := newSystem(t, "")
	r := s.serve()
	domain := func(d string) error {
		c, err := smtp.Dial(s.addr["smtp"])
		if err != nil {
			return fmt.Errorf("nobody answers: %w", err)
		}
		defer c.Close()
		if err := c.Mail("friend@partner.example", nil); err != nil {
			return err
		}
		return c.Rcpt("postmaster@"+d, nil)
	}
	write := func(old, text string) {
		t.Helper()
		b, err := os.ReadFile(s.config)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(s.config, []byte(strings.Replace(string(b), old, text, 1)), 0o600); err != nil {
			t.Fatal(err)
		}
		r.hup <- syscall.SIGHUP
	}
	if err := domain("second.example"); err == nil {
		t.Fatal("second.example is ours already")
	}
	write(`local = ["corp.example"]`, `local = ["corp.example", "second.example"]`)
	s.awaitUUID("alice") // there is something to look at
	s.command(0, "directory", "check", "--accept")
	deadline := time.Now().Add(time.Minute)
	for domain("second.example") != nil {
		if time.Now().After(deadline) {
			t.Fatalf("second.example: %v", domain("second.example"))
		}
		time.Sleep(20 * time.Millisecond)
	}
	// A mistake.
	write(`"second.example"]`, `"second.example"]`+"\nloca = 1")
	if err := domain("second.example"); err != nil {
		t.Errorf("after a configuration that cannot be used: %v", err)
	}
	// Another certificate: the sessions stay.
	write("loca = 1", "")
	session := s.login("bob")
	cert := testenv.Certificate(t, "localhost", "127.0.0.1", "new.corp.example")
	for from, to := range map[string]string{cert.CertFile: s.cert.CertFile, cert.KeyFile: s.cert.KeyFile} {
		b, err := os.ReadFile(from)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(to, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	r.hup <- syscall.SIGHUP
	r.hup <- syscall.SIGHUP // taken when the first is done
	c, err := smtp.DialTLS(s.addr["submissions"], s.tls())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if state, ok := c.TLSConnectionState(); !ok || state.PeerCertificates[0].VerifyHostname("new.corp.example") != nil {
		t.Error("the new certificate is not in use")
	}
	if err := session.Noop().Wait(); err != nil {
		t.Errorf("a session from before the new certificate: %v", err)
	}
}
