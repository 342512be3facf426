package main

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"dirpost/auth"
	"dirpost/internal/testenv"
)

// hostileLogins are names that would find somebody, if they were a part of a filter or
// of a DN.
var hostileLogins = []string{
	"*", "bo*", "*)(objectClass=*", "bob)(uid=*", "bob)(|(mail=*", "*)(uid=bob))(|(uid=*", "bob)(&", "(|)", `\2a`, `CORP\*`, `CORP\bob)(uid=*`,
	"*@corp.example", "bob@corp.example)(mail=*", "uid=bob,ou=people,dc=corp,dc=example", "bob,ou=people", "bob#", `bob\`, "bob\"", "bob+uid=alice", "<GUID=*>",
}

// hostileAddresses are addresses of ours of the same kind, as they stand between the
// brackets of a command.
var hostileAddresses = []string{
	"*@corp.example", "bo*@corp.example", `"*)(objectClass=*"@corp.example`, `"bob)(mail=*"@corp.example`, `"bob@corp.example)(mail=*"@corp.example`, `"\\2a"@corp.example`,
	`"bob\\"@corp.example`, `"bob,ou=people"@corp.example`, `"|/bin/sh"@corp.example`, `":include:/etc/passwd"@corp.example`, "IMCEAEX-_o=*+29+28uid=*@corp.example", `"*-owner"@corp.example`,
	`"*)(uid=*+x"@corp.example`, "#bob@corp.example", "bob)(uid=*@corp.example", "*@*", "bob@corp.example)(mail=*", `"bob` + "\xff" + `"@corp.example`,
}

// overProxy puts a proxy between the system and its directory that hears what is said.
func (s *system) overProxy(heard func([]byte)) {
	s.t.Helper()
	ca, err := os.ReadFile(s.slapd.CAFile)
	if err != nil {
		s.t.Fatal(err)
	}
	p := testenv.ProxyLDAP(s.t, s.slapd.TLSURL, "localhost", string(ca), testenv.LDAPBehaviour{Heard: heard})
	mustWrite(s.t, filepath.Join(s.dir, "ldap-ca.pem"), p.CA, 0o600)
	s.change(fmt.Sprintf("urls = [%q]", s.slapd.TLSURL), fmt.Sprintf("urls = [%q]\nserver_name = \"localhost\"", p.URL))
}

// TestInjection: a filter, a DN or a wildcard as a login name or an address is nobody's,
// by every way to log in and in every place for an address; none of it is ever said to
// the directory, and who they would have meant goes on logging in.
func TestInjection(t *testing.T) {
	t.Parallel()
	s := newSystem(t, "")
	var mu sync.Mutex // guards heard
	var heard bytes.Buffer
	s.overProxy(func(message []byte) {
		mu.Lock()
		defer mu.Unlock()
		heard.Write(message)
	})
	s.confirm()
	s.start()

	mu.Lock()
	heard.Reset()
	mu.Unlock()
	var wg sync.WaitGroup
	for i, w := range append(ways[:len(ways):len(ways)], moreWays[0]) { // and the page
		wg.Go(func() {
			for j, name := range hostileLogins {
				// Another password each: the same one by many names is an attack of its own.
				got, err := w.try(s, cell{user: name, password: fmt.Sprint("secret ", i, j)}, net.IPv4(127, 0, byte(10+i), byte(1+j)))
				if want := w.want(auth.ErrCredentials); err != nil || got != want {
					t.Errorf("%s as %q: %q, %v; want %q", w.name, name, got, err, want)
				}
			}
		})
	}
	wg.Wait()
	mu.Lock()
	if bytes.Contains(heard.Bytes(), []byte("ou=people")) {
		t.Errorf("somebody's password was judged: %q", heard.Bytes())
	}
	mu.Unlock()
	for i, w := range ways {
		if got, err := w.try(s, cell{user: "bob", password: s.slapd.UserPassword}, net.IPv4(127, 0, byte(10+i), 1)); got != "in" || err != nil {
			t.Errorf("%s as bob: %q, %v", w.name, got, err)
		}
	}

	for _, a := range hostileAddresses {
		// A conversation each: who makes many mistakes is hung up on.
		stranger := s.dial("smtp")
		stranger.answer("EHLO client.example", "2")
		stranger.answer("MAIL FROM:<friend@far.example>", "2")
		stranger.answer("RCPT TO:<"+a+">", "5")
		if got := stranger.answer("VRFY "+a, ""); strings.HasPrefix(got, "250") {
			t.Errorf("VRFY %s: %s", a, got)
		}
		bob := s.dialTLS("submissions")
		bob.answer("", "2")
		bob.answer("EHLO client.example", "2")
		bob.answer("AUTH PLAIN "+base64.StdEncoding.EncodeToString([]byte("\x00bob\x00"+s.slapd.UserPassword)), "2")
		bob.answer("MAIL FROM:<"+a+">", "5")
		bob.answer("MAIL FROM:<bob@corp.example>", "2")
		bob.answer("RCPT TO:<"+a+">", "5")
		lmtp := s.dial("lmtp")
		lmtp.answer("LHLO client.example", "2")
		lmtp.answer("MAIL FROM:<friend@far.example>", "2")
		lmtp.answer("RCPT TO:<"+a+">", "5")
		for _, w := range []*wire{stranger, bob, lmtp} {
			_ = w.conn.Close()
		}
	}
	bobs := "uid=bob,ou=people," + s.slapd.Base
	for _, name := range hostileLogins {
		box := s.inbox("bob", s.slapd.UserPassword)
		for _, prefix := range []string{"Users/", "Shared/"} {
			text := prefix + name + "/INBOX"
			if got := box.say(fmt.Sprintf("x SELECT {%d+}\r\n%s\r\n", len(text), text), "x "); strings.HasPrefix(got, "x OK") {
				t.Errorf("SELECT %s: %s", text, got)
			}
		}
		_ = box.conn.Close()
		if out := s.command(0, "explain", name); name != bobs && strings.Contains(out, bobs) { // a DN is what it takes, too
			t.Errorf("explain %q: %s", name, out)
		}
	}

	mu.Lock()
	defer mu.Unlock()
	if heard.Len() == 0 || !bytes.Contains(heard.Bytes(), []byte(bobs)) {
		t.Error("nothing was heard, not even how bob logs in")
	}
	for _, typed := range []string{"*)(", ")(uid=", ")(mail", ")(|", ")(&", `\2a`, `\5c`, "bo*", "/bin/sh", ":include:", "uid=bob,ou=people,dc=corp,dc=example,", "uid=alice"} {
		if at := bytes.Index(heard.Bytes(), []byte(typed)); at >= 0 {
			t.Errorf("the directory heard %q: %q", typed, heard.Bytes()[max(0, at-60):min(heard.Len(), at+60)])
		}
	}
}

// dial begins a conversation in clear, and hears the greeting.
func (s *system) dial(listener string) *wire {
	s.t.Helper()
	conn, err := net.Dial("tcp", s.addr[listener])
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { _ = conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(2 * time.Minute)); err != nil {
		s.t.Fatal(err)
	}
	w := &wire{s.t, conn, bufio.NewReader(conn)}
	w.answer("", "2")
	return w
}

// answer says a command of SMTP, "" for none, and returns the last line of the reply,
// which is to begin with want.
func (w *wire) answer(command, want string) string {
	w.t.Helper()
	if command != "" {
		if _, err := w.conn.Write([]byte(command + "\r\n")); err != nil {
			w.t.Fatalf("%q: %v", command, err)
		}
	}
	for {
		line, err := w.r.ReadString('\n')
		if err != nil {
			w.t.Fatalf("%q: %v", command, err)
		}
		if len(line) > 3 && line[3] == '-' {
			continue
		}
		if !strings.HasPrefix(line, want) {
			w.t.Errorf("%q: %q, want %s", command, line, want)
		}
		return line
	}
}
