package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"dirpost/internal/testenv"

	"golang.org/x/sys/unix"
)

// A setupLine is what somebody answers to the prompt that begins with asked.
type setupLine struct{ asked, answer string }

// enter keeps the default.
const enter = ""

// talk runs `dirpost setup` at a terminal, with a person who answers. It returns what
// stands on the screen, but for passwords.
func (s *setUp) talk(code int, lines []setupLine, args ...string) string {
	s.t.Helper()
	text, got := s.converse(s.t.Context(), lines, func(prompt string) {
		s.t.Errorf("asked %q after the last answer", prompt)
	}, args...)
	if got != code {
		s.t.Fatalf("exit status %d, want %d\n%s", got, code, text)
	}
	return text
}

// interrupt answers some questions, and presses Ctrl-C at the next.
func (s *setUp) interrupt(lines []setupLine, args ...string) string {
	s.t.Helper()
	ctx, cancel := context.WithCancel(s.t.Context())
	defer cancel()
	text, got := s.converse(ctx, lines, func(string) { cancel() }, args...)
	if got != 1 {
		s.t.Errorf("interrupted after %d answers: exit status %d\n%s", len(lines), got, text)
	}
	return text
}

// converse runs `dirpost setup` at a terminal, and calls beyond at the question behind
// the last answer.
func (s *setUp) converse(ctx context.Context, lines []setupLine, beyond func(prompt string), args ...string) (text string, code int) {
	s.t.Helper()
	program, person := terminalPair(s.t)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	screen := &setupScreen{prompts: make(chan string, 1)}
	ended := make(chan int, 1)
	go func() {
		ended <- run(ctx, append([]string{"dirpost", "setup", "--dir", filepath.Dir(s.config)}, args...), streams{program, screen, screen})
	}()
	for i := 0; ; i++ {
		select {
		case prompt := <-screen.prompts:
			if i >= len(lines) {
				beyond(prompt)
				cancel()
				continue
			}
			if !strings.HasPrefix(prompt, "   "+lines[i].asked) {
				s.t.Errorf("asked %q, want %q", prompt, lines[i].asked)
				cancel()
				continue
			}
			s.answer(program, person, screen, lines[i])
		case code := <-ended:
			if i < len(lines) {
				s.t.Errorf("ends after %d of %d answers\n%s", i, len(lines), screen.String())
			}
			if _, now := terminal(program); now.Lflag&unix.ECHO == 0 {
				s.t.Error("the terminal shows nothing any more")
			}
			if strings.Contains(screen.String(), s.slapd.ServicePassword) {
				s.t.Error("the password is shown")
			}
			return screen.String(), code
		}
	}
}

// answer types one answer; a password when nothing is echoed any more.
func (s *setUp) answer(program, person *os.File, screen *setupScreen, l setupLine) {
	s.t.Helper()
	if strings.Contains(strings.ToLower(l.asked), "password") {
		for s.t.Context().Err() == nil {
			if _, now := terminal(program); now.Lflag&unix.ECHO == 0 {
				break
			}
			time.Sleep(time.Millisecond) // the terminal tells nobody
		}
	} else {
		screen.show(l.answer + "\n")
	}
	if _, err := person.WriteString(l.answer + "\n"); err != nil {
		s.t.Fatal(err)
	}
}

// setupScreen is what somebody sees.
type setupScreen struct {
	mu      sync.Mutex
	b       bytes.Buffer
	prompts chan string
	seen    func(text string) // is called with what is written, if it is not nil
}

// Write implements io.Writer.
func (s *setupScreen) Write(p []byte) (int, error) {
	s.mu.Lock()
	s.b.Write(p)
	s.mu.Unlock()
	if s.seen != nil {
		s.seen(string(p))
	}
	if bytes.HasSuffix(p, []byte(": ")) {
		s.prompts <- string(p)
	}
	return len(p), nil
}

// show shows what was typed.
func (s *setupScreen) show(text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.b.WriteString(text)
}

// String is what stands there.
func (s *setupScreen) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// answerLines are right answers in a dialogue.
func (s *setUp) answerLines() []setupLine {
	return []setupLine{
		{"Domains that mail is for", "corp.example"},
		{"Name of this host", enter},
		{"Join a domain", "account"},
		{"Servers", s.slapd.TLSURL},
		{"File with the authority", s.slapd.CAFile},
		{"Account that reads", s.slapd.ServiceDN},
		{"Its password", s.slapd.ServicePassword},
		{"A database of its own", enter},
		{"Networks that are inside", "127.0.0.0/8"},
		{"Certificate from", enter},
		{"File with the certificate", s.cert.CertFile},
		{"File with its key", s.cert.KeyFile},
		{"Take mail", enter},
		{"Do all this", enter},
	}
}

// hostFlags are what a dialogue does not ask for.
func (s *setUp) hostFlags() []string {
	host := strings.Trim(s.answers["listen"], `"`)
	return []string{"--resolvers", s.dns.Addr, "--listen", host, "--port-base", fmt.Sprint(setupPorts)}
}

// TestSetupDialogue: somebody who gets much wrong at first is told what to do each
// time, is asked again, and has a server in the end. Asked again, Enter keeps all.
func TestSetupDialogue(t *testing.T) {
	t.Parallel()
	s := newSetUp(t)
	s.dns.Set(t, "mail.corp.example. IN A 127.0.0.1", "corp.example. IN MX 10 old.corp.example.", "alias.corp.example. IN CNAME mail.corp.example.")
	wrong := testenv.Certificate(t, "www.corp.example")
	empty := filepath.Join(s.dir, "nothing.pem")
	right := s.answerLines()
	lines := []setupLine{
		{"Domains that mail is for", "corp"}, {"Name of this host", "alias.corp.example"},
		{"Domains that mail is for", "corp.example"}, {"Name of this host", enter}, // an alias
		{"Domains that mail is for", enter}, {"Name of this host", "mail.corp.example"},

		{"Join a domain", "samba"}, {"Join a domain", "acc"}, // no word of these, and the begin of one
		{"Servers", "ldaps://127.0.0.1:1"}, {"File with the authority", enter}, {"Account that reads", s.slapd.ServiceDN}, {"Its password", "wrong"},
		{"Join a domain", enter}, {"Servers", s.slapd.TLSURL}, {"File with the authority", enter}, {"Account that reads", enter}, {"Its password", "wrong"}, {"Is that the fingerprint", "no"},
		{"Join a domain", enter}, {"Servers", enter}, {"File with the authority", s.slapd.CAFile}, {"Account that reads", enter}, {"Its password", "wrong"},
		{"Join a domain", enter}, {"Servers", enter}, {"File with the authority", enter}, {"Account that reads", enter}, {"Its password", s.slapd.ServicePassword},

		{"A database of its own", "given"}, {"URL as the role", "postgres://nobody@127.0.0.1:1/x?sslmode=verify-full"}, {"Password of nobody", "wrong"}, {"URL as the owner", enter},
		{"A database of its own", "private"},

		{"Networks that are inside", "10.0.0.1/8"}, {"Networks that are inside", "127.0.0.0/8"},

		{"Certificate from", "files"}, {"File with the certificate", empty}, {"File with its key", empty},
		{"Certificate from", enter}, {"File with the certificate", wrong.CertFile}, {"File with its key", wrong.KeyFile},
		{"Certificate from", enter}, {"File with the certificate", s.cert.CertFile}, {"File with its key", enter}, // the key of another
		{"Certificate from", enter}, {"File with the certificate", enter}, {"File with its key", s.cert.KeyFile},
	}
	got := s.talk(0, append(lines, right[len(right)-2:]...), s.hostFlags()...)
	text := strings.ReplaceAll(s.normal(got), filepath.Dir(wrong.CertFile), "WRONG")
	golden(t, "setup/dialogue.out", text)

	before := s.tree()
	got = s.talk(0, []setupLine{
		{"Domains that mail is for", enter}, {"Name of this host", enter}, {"Join a domain", enter}, {"Servers", enter}, {"File with the authority", enter},
		{"Account that reads", enter}, {"A database of its own", enter}, {"Networks that are inside", enter}, {"Certificate from", enter},
		{"File with the certificate", enter}, {"File with its key", enter}, {"Do all this", enter},
	})
	contains(t, got, "nothing to change")
	s.same(before)
}

// TestSetupTrusts: an authority that nobody here knows is trusted by its fingerprint.
func TestSetupTrusts(t *testing.T) {
	t.Parallel()
	s := newSetUp(t)
	var lines []setupLine
	for _, l := range s.answerLines() {
		switch {
		case l.asked == "File with the authority":
			l.answer = enter
		case strings.HasSuffix(l.asked, "mail") || l.asked == "Do all this":
			continue
		}
		if lines = append(lines, l); l.asked == "Its password" {
			lines = append(lines, setupLine{"Is that the fingerprint", "yes"})
		}
	}
	got := s.talk(0, lines, append(s.hostFlags(), "--dry-run")...)
	contains(t, got, "29 people with an address of corp.example", "write "+s.dir+"/mail/ldap-ca.pem", "ca = \""+s.dir+"/mail/ldap-ca.pem\"")
	if _, err := os.Stat(filepath.Dir(s.config)); !os.IsNotExist(err) {
		t.Fatalf("--dry-run makes something: %v", err)
	}
}

// TestSetupJoinDialogue: the domain that the DNS knows is what Enter joins.
func TestSetupJoinDialogue(t *testing.T) {
	t.Parallel()
	ad := testenv.AD(t)
	s := newSetUp(t)
	s.dns.Set(t, "mail.corp.example. IN A 127.0.0.1", "_ldap._tcp.dc._msdcs.corp.example. IN SRV 0 100 389 dc1.corp.example.", "dc1.corp.example. IN A "+ad.Address)
	ca := s.secret("ca.pem", ad.CA)
	lines := []setupLine{{"Domains that mail is for", "corp.example"}, {"Name of this host", "talk.corp.example"}}
	for _, password := range []string{"wrong", ad.AdminPassword} {
		lines = append(lines, setupLine{"Join a domain", enter}, setupLine{"Domain to join", enter}, setupLine{"Who may make", enter}, setupLine{"Password of Administrator", password})
	}
	lines = append(lines, setupLine{"A database of its own", enter}, setupLine{"Networks that are inside", "all"}, setupLine{"Certificate from", "csr"})
	got := s.talk(0, lines, append(s.hostFlags(), "--dry-run", "--directory-ca", ca)...)
	// Other tests have people and computers of their own in the domain.
	text := regexp.MustCompile(`\d+ entries, \d+ people`).ReplaceAllString(s.normal(got), "N entries, N people")
	text = regexp.MustCompile(`(?s)\ncorp.example: .*\nThis would be done`).ReplaceAllString(text, "\n…\n\nThis would be done")
	golden(t, "setup/join.out", text)
}

// TestSetupInterrupted: Ctrl-C at each question, and "no" at the end, leave nothing
// behind; between the steps of doing it, a server that is not there yet and that a
// second run finishes.
func TestSetupInterrupted(t *testing.T) {
	t.Parallel()
	s := newSetUp(t)
	all := s.answerLines()
	for i := range all {
		got := s.interrupt(all[:i], s.hostFlags()...)
		contains(t, got, "nothing was changed")
		if _, err := os.Stat(filepath.Dir(s.config)); !os.IsNotExist(err) {
			t.Fatalf("after %d answers there is something: %v", i, err)
		}
	}
	got := s.talk(1, append(all[:len(all)-1:len(all)-1], setupLine{"Do all this", "no"}), s.hostFlags()...)
	contains(t, got, "nothing was changed")
	if _, err := os.Stat(filepath.Dir(s.config)); !os.IsNotExist(err) {
		t.Fatalf("after a no there is something: %v", err)
	}

	file := s.answersFile()
	for _, step := range []string{"ldap.password", "made the database", "brought the schema"} {
		ctx, cancel := context.WithCancel(t.Context())
		out := &setupScreen{seen: func(text string) {
			if strings.Contains(text, step) {
				cancel()
			}
		}}
		if code := run(ctx, []string{"dirpost", "setup", "--dir", filepath.Dir(s.config), "--answers", file}, streams{strings.NewReader(""), out, out}); code != 1 {
			t.Fatalf("interrupted after %q: exit status %d\n%s", step, code, out.String())
		}
		contains(t, out.String(), "run setup again")
		if _, err := os.Stat(s.config); !os.IsNotExist(err) {
			t.Fatalf("interrupted after %q there is a configuration", step)
		}
		cancel()
	}
	out, _ := s.setup(0, "--answers", file)
	contains(t, out, "wrote "+s.config)
}
