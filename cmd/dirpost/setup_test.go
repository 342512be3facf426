package main

import (
	"bytes"
	"context"
	"errors"
	"os"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"dirpost/internal/child"
	"dirpost/internal/postgres"
	"dirpost/internal/testenv"

	"github.com/emersion/go-smtp"
)

// A setupCase is a configuration that says something that is not so.
type setupCase struct {
	name   string
	change func(s *system) (from, to string) // in the file
	want   string                            // regular expression of the one line that says it
	first  bool                              // a first start ends with it
}

var setupCases = []setupCase{
	{"wrong bind password", func(s *system) (string, string) {
		if err := os.WriteFile(s.dir+"/wrong", []byte("wrong"), 0o600); err != nil {
			s.t.Fatal(err)
		}
		return `bind_password = "file:` + s.dir + `/ldap"`, `bind_password = "file:` + s.dir + `/wrong"`
	}, `directory "corp" refuses the password of cn=[^:]*: correct bind_dn or bind_password`, true},
	{"no such base", func(s *system) (string, string) {
		return `base = "` + s.slapd.Base, `base = "ou=nowhere,` + s.slapd.Base
	}, `directory "corp": ou=nowhere,[^:]* does not exist, or cn=[^:]* may not read it: correct base`, true},
	{"unknown certificate", func(s *system) (string, string) {
		if err := os.WriteFile(s.dir+"/other.pem", otherAuthority(s.t), 0o600); err != nil {
			s.t.Fatal(err)
		}
		return `ca = "` + s.dir + `/ldap-ca.pem"`, `ca = "` + s.dir + `/other.pem"`
	}, `connect to directory "corp": ldaps:[^ ]*: .*x509: certificate signed by unknown authority.*: let ca name a file with the certificate of its authority`, true},
	{"unreachable", func(s *system) (string, string) {
		return `urls = ["` + s.slapd.TLSURL + `"]`, `urls = ["ldaps://127.0.0.1:1"]`
	}, `connect to directory "corp": ldaps://127.0.0.1:1: .*connection refused: is the server running, and are urls right\?`, false},
}

// otherAuthority is the certificate of an authority that nobody uses.
func otherAuthority(t *testing.T) []byte {
	t.Helper()
	a, err := child.NewAuthority("somebody else")
	if err != nil {
		t.Fatal(err)
	}
	return a.PEM()
}

// TestSetup: what is wrong with a directory is said in one line. A first start
// ends with it if waiting does not help; a node that knows its people serves them.
func TestSetup(t *testing.T) {
	t.Parallel()
	s := newSystem(t, "")
	good, err := os.ReadFile(s.config)
	if err != nil {
		t.Fatal(err)
	}
	write := func(c setupCase) {
		t.Helper()
		from, to := c.change(s)
		bad := strings.Replace(string(good), from, to, 1)
		if bad == string(good) {
			t.Fatalf("there is no %s in the configuration", from)
		}
		if err := os.WriteFile(s.config, []byte(bad), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range setupCases {
		write(c)
		wantOnly(t, c.name+": config check", "^dirpost: "+c.want+"$", s.command(1, "config", "check"))
		if c.first {
			wantOnly(t, c.name+": first start", "^dirpost: "+c.want+"$", s.command(1, "serve"))
		} else {
			wantOnly(t, c.name+": first start", `^time=\S+ level=error msg="directory cannot be read; all mail is deferred until it answers" directory=corp err=`, s.served(func() {
				s.refused(451)
			}))
		}
	}
	if err := os.WriteFile(s.config, good, 0o600); err != nil {
		t.Fatal(err)
	}
	if out := s.command(0, "config", "check"); !strings.Contains(out, "is good.") {
		t.Errorf("config check: %s", out)
	}
	s.start()()
	// A node that does not read the directory still has passwords judged by it.
	for _, c := range setupCases {
		if write(c); strings.Contains(c.want, "x509") {
			wantOnly(t, c.name+": a node for IMAP", `^time=\S+ level=error msg="nobody can log in" directory=corp err="connect to directory .*x509: `, s.served(func() {}, "--roles", "imap"))
		}
	}
	for _, c := range setupCases {
		write(c)
		line := wantOnly(t, c.name+": with people known", `^time=\S+ level=error msg="directory cannot be followed; known people go on as before" directory=corp err=`, s.served(func() {
			if err := s.deliver("x@elsewhere.example", []string{"alice@corp.example"}, "Subject: "+c.name+"\r\n\r\nx\r\n"); err != nil {
				t.Errorf("%s: mail for alice: %v", c.name, err)
			}
		}))
		if text := strings.NewReplacer(`\"`, `"`, `\\`, `\`).Replace(line); !regexp.MustCompile(c.want).MatchString(text) {
			t.Errorf("%s: logged %s, want %s", c.name, text, c.want)
		}
	}
}

// wantOnly wants one line of level ERROR or of an error in out, and returns it.
func wantOnly(t *testing.T, name, want, out string) string {
	t.Helper()
	var lines []string
	for line := range strings.Lines(out) {
		if strings.Contains(line, "level=error") || strings.HasPrefix(line, "dirpost: ") || !strings.Contains(line, "level=") {
			lines = append(lines, strings.TrimSuffix(line, "\n"))
		}
	}
	if len(lines) != 1 || !regexp.MustCompile(want).MatchString(lines[0]) {
		t.Errorf("%s: said %q, want one line %s", name, lines, want)
		return ""
	}
	return lines[0]
}

// command runs a command line that ends, and returns what it has written.
func (s *system) command(code int, args ...string) string {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), time.Minute)
	defer cancel()
	var out lockedBuffer
	got := run(ctx, append(append([]string{"dirpost"}, args...), "--config", s.config), streams{nil, &out, &out})
	if got != code || ctx.Err() != nil {
		s.t.Errorf("%q: exit %d, want %d: %s", args, got, code, out.String())
	}
	return out.String()
}

// served runs `dirpost serve`, calls f when it has logged an error, which must
// come, and answers, and returns what it has written.
func (s *system) served(f func(), args ...string) string {
	s.t.Helper()
	ctx, cancel := context.WithCancel(s.t.Context())
	defer cancel()
	var out lockedBuffer
	ended := make(chan int, 1)
	go func() {
		ended <- run(ctx, append([]string{"dirpost", "serve", "--config", s.config}, args...), streams{nil, &out, &out})
	}()
	deadline := time.Now().Add(time.Minute)
	for !strings.Contains(out.String(), "level=error") {
		select {
		case code := <-ended:
			s.t.Fatalf("serve ended with %d: %s", code, out.String())
		case <-time.After(10 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			s.t.Fatalf("nothing was logged: %s", out.String())
		}
	}
	f()
	cancel()
	if code := <-ended; code != 0 {
		s.t.Errorf("serve ended with %d: %s", code, out.String())
	}
	return out.String()
}

// refused wants mail for alice deferred.
func (s *system) refused(code int) {
	s.t.Helper()
	err := s.deliver("x@elsewhere.example", []string{"alice@corp.example"}, "Subject: x\r\n\r\nx\r\n")
	var se *smtp.SMTPError
	if !errors.As(err, &se) || se.Code != code {
		s.t.Errorf("mail for alice: %v, want %d", err, code)
	}
}

// lockedBuffer is written and read at the same time.
type lockedBuffer struct {
	mu sync.Mutex // guards b
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// TestSetupDatabase: the same for the database.
func TestSetupDatabase(t *testing.T) {
	t.Parallel()
	empty := testenv.DurablePostgresURL(t)
	s := newSystemOn(t, empty, "")
	want := func(name, want string) {
		t.Helper()
		for _, command := range [][]string{{"config", "check"}, {"serve"}} {
			wantOnly(t, name+": "+command[0], "^dirpost: database: "+want+"$", s.command(1, command...))
		}
	}
	want("empty", `database schema does not fit this program: migration 0001_store.sql is not applied: run 'dirpost migrate'`)
	s.command(0, "migrate")
	db := testenv.OpenDatabase(t, empty)
	exec := func(sql string) {
		t.Helper()
		if _, err := db.Exec(t.Context(), postgres.Background, sql); err != nil {
			t.Fatal(err)
		}
	}
	exec(`insert into schema_migration (number, name, checksum) values (9999, '9999_later.sql', '')`)
	want("newer", `database schema does not fit this program: it has migration 9999_later.sql, which this program does not know: use a newer program`)
	exec(`delete from schema_migration where number = 9999`)
	exec(`update schema_migration set checksum = 'x' where number = 1`)
	want("other", `database schema does not fit this program: migration 0001_store.sql was applied with another content: use the program that made it`)

	text, err := os.ReadFile(s.config)
	if err != nil {
		t.Fatal(err)
	}
	url := func(to string) {
		t.Helper()
		if err := os.WriteFile(s.config, []byte(strings.Replace(string(text), empty, to, 1)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	url(strings.Replace(empty, "postgres://postgres@", "postgres://nobody@", 1))
	want("no such role", `connect as nobody: role "nobody" does not exist: correct database.url, or make the role \('dirpost migrate' does\) and let pg_hba.conf admit it`)
	url("postgres:///none?host=" + s.dir)
	want("not running", `connect to `+s.dir+`: connect: no such file or directory: is PostgreSQL running, and is database.url right\?`)
}
