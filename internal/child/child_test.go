package child_test

import (
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"dirpost/internal/child"
)

// TestStop: a child ends by the signal that it listens to, and by SIGKILL if it
// does not.
func TestStop(t *testing.T) {
	t.Parallel()
	for name, script := range map[string]string{
		"obeys":  `trap 'exit 0' TERM; echo up; while :; do sleep 0.01; done`,
		"ignore": `trap '' TERM; echo up; while :; do sleep 0.01; done`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			log := filepath.Join(t.TempDir(), "log")
			p, err := child.Start(child.Command{Path: "/bin/sh", Args: []string{"-c", script}, Log: log, Stop: syscall.SIGTERM, Kill: syscall.SIGKILL})
			if err != nil {
				t.Fatal(err)
			}
			for { // until its trap is set
				if b, err := os.ReadFile(log); err == nil && len(b) > 0 {
					break
				}
				time.Sleep(time.Millisecond)
			}
			if err := p.Err(); err != nil {
				t.Errorf("while it runs: %v", err)
			}
			p.Stop(200 * time.Millisecond)
			select {
			case <-p.Done():
			default:
				t.Error("Stop has returned, and it runs")
			}
			if (p.Err() == nil) != (name == "obeys") {
				t.Errorf("its end: %v", p.Err())
			}
		})
	}
}

// TestErr: the end of a child that fails is told with its last words.
func TestErr(t *testing.T) {
	t.Parallel()
	p, err := child.Start(child.Command{Path: "/bin/sh", Args: []string{"-c", "echo one; echo two >&2; exit 3"}, Log: filepath.Join(t.TempDir(), "log"), Stop: syscall.SIGTERM, Kill: syscall.SIGKILL})
	if err != nil {
		t.Fatal(err)
	}
	<-p.Done()
	if err := p.Err(); err == nil || !strings.Contains(err.Error(), "exit status 3") || !strings.Contains(err.Error(), "one | two") {
		t.Errorf("got %v", err)
	}
	if out, err := (child.Command{Path: "/bin/sh", Args: []string{"-c", "echo $LC_ALL"}}).Output(t.Context()); err != nil || strings.TrimSpace(string(out)) != "C.UTF-8" {
		t.Errorf("locale: %s, %v", out, err)
	}
}

func TestFind(t *testing.T) {
	t.Parallel()
	p, err := child.FindPostgres(0)
	if err != nil || p.Version < child.MinPostgres {
		t.Errorf("Postgres: %+v, %v", p, err)
	}
	if _, err := child.FindPostgres(7); !errors.Is(err, child.ErrNotInstalled) || !strings.Contains(err.Error(), "postgresql-7") {
		t.Errorf("Postgres 7: %v", err)
	}
	if s, err := child.FindSlapd(); err != nil || s.Schemas == "" {
		t.Errorf("slapd: %+v, %v", s, err)
	}
}

// TestSocketPath: a directory too long for a socket is refused with the reason.
func TestSocketPath(t *testing.T) {
	t.Parallel()
	_, err := child.StartPostgres(t.Context(), child.PostgresConfig{Socket: "/" + strings.Repeat("x", 100)})
	if err == nil || !strings.Contains(err.Error(), "too long for a Unix socket") {
		t.Errorf("got %v", err)
	}
}

func TestAuthority(t *testing.T) {
	t.Parallel()
	a, err := child.NewAuthority("test")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	cert, key := filepath.Join(dir, "ca.pem"), filepath.Join(dir, "key.pem")
	if err := a.Save(cert, key); err != nil {
		t.Fatal(err)
	}
	if a, err = child.LoadAuthority(cert, key); err != nil {
		t.Fatal(err)
	}
	text, _, err := a.Issue("mail.example", "192.0.2.1", "2001:db8::1")
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(text)
	leaf, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(a.Certificate)
	for _, name := range []string{"mail.example", "192.0.2.1", "[2001:db8::1]"} {
		if _, err := leaf.Verify(x509.VerifyOptions{DNSName: name, Roots: roots}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := leaf.Verify(x509.VerifyOptions{DNSName: "other.example", Roots: roots}); err == nil {
		t.Error("the certificate is good for other.example")
	}
	if st, err := os.Stat(key); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("key file: %v, %v", st.Mode(), err)
	}
}

func TestSSHA(t *testing.T) {
	t.Parallel()
	one, err := child.SSHA("secret")
	if err != nil {
		t.Fatal(err)
	}
	two, err := child.SSHA("secret")
	if err != nil {
		t.Fatal(err)
	}
	raw, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(one, "{SSHA}"))
	if one == two || err != nil || len(raw) != 20+8 {
		t.Errorf("%q and %q: %v", one, two, err)
	}
}

func TestOwnsPIDFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := filepath.Join(dir, "pid")
	if child.OwnsPIDFile(file, dir) {
		t.Error("without a file")
	}
	if err := os.WriteFile(file, []byte("1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if child.OwnsPIDFile(file, dir) {
		t.Error("process 1 is not of this directory")
	}
}

// TestPostgresURL: libpq and pgx read the same directory.
func TestPostgresURL(t *testing.T) {
	t.Parallel()
	const want = "postgres://dirpost@/mail?host=%2Fsrv%2Fmy%20mail+%2Fpg&port=5432"
	if got := child.PostgresURL("/srv/my mail+/pg", "mail", "dirpost"); got != strings.Replace(want, "+", "%2B", 1) {
		t.Errorf("%s", got)
	}
}
