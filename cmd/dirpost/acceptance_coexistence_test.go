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

	"github.com/go-ldap/ldap/v3"
)

// beside is a Postfix that has some of the mailboxes of corp.example, set up as
// docs/coexistence.md says.
type beside struct {
	*peer
	t       *testing.T
	dir     string
	program string
}

// newBeside starts it at addr. moved are the people whom its transport table sends to
// Dirpost.
func newBeside(t *testing.T, s *system, addr string, moved ...string) *beside {
	t.Helper()
	program := testenv.Need(t, "postfix")
	dir := shortDir(t)
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	b := &beside{t: t, dir: dir, peer: &peer{name: "beside", addr: addr, config: filepath.Join(dir, "etc"), log: filepath.Join(dir, "log"), boxes: filepath.Join(dir, "mail/*/new/*")}}
	mustMkdir(t, b.config, -1)
	mustMkdir(t, filepath.Join(dir, "queue"), -1)
	mustMkdir(t, filepath.Join(dir, "mail"), nobody)
	owner, err := exec.Command("id", "-u", "postfix").Output()
	if err != nil {
		t.Fatalf("the user postfix: %v", err)
	}
	var uid int
	if _, err := fmt.Sscan(string(owner), &uid); err != nil {
		t.Fatal(err)
	}
	mustMkdir(t, filepath.Join(dir, "data"), uid)
	var boxes strings.Builder
	for _, name := range []string{"alice", "bob", "erik", "there", "lost"} {
		fmt.Fprintf(&boxes, "%[1]s@corp.example %[1]s/\n", name)
	}
	boxes.WriteString("@partner.example partner/\n")
	known := mustWrite(t, filepath.Join(b.config, "boxes"), boxes.String(), 0o644)
	b.send(s, moved...)
	mustWrite(t, filepath.Join(b.config, "main.cf"), fmt.Sprintf(`compatibility_level = 3.6
queue_directory = %[1]s/queue
data_directory = %[1]s/data
maillog_file = %[1]s/log
maillog_file_prefixes = %[1]s
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
myhostname = postfix.corp.example
mydestination =
mynetworks = 127.0.0.0/8
virtual_mailbox_domains = corp.example partner.example
virtual_mailbox_base = %[1]s/mail
virtual_mailbox_maps = texthash:%[3]s
virtual_uid_maps = static:%[2]d
virtual_gid_maps = static:%[2]d
virtual_mailbox_limit = 0
transport_maps = texthash:%[1]s/etc/transport
smtp_bind_address = 127.0.0.2
smtpd_peername_lookup = no
smtp_host_lookup = native
disable_dns_lookups = yes
`, dir, nobody, known), 0o644)
	postfixServices(t, b.peer)
	b.program = program
	b.start()
	return b
}

// start starts it, again after it was stopped.
func (b *beside) start() {
	b.t.Helper()
	launch(b.t, b.addr, b.log, exec.Command(b.program, "-c", b.config, "start-fg"))
}

// send writes the transport table.
func (b *beside) send(s *system, moved ...string) {
	b.t.Helper()
	var table strings.Builder
	for _, name := range moved {
		fmt.Fprintf(&table, "%s@corp.example smtp:[127.0.0.1]:%s\n", name, s.port("smtp"))
	}
	mustWrite(b.t, filepath.Join(b.config, "transport"), table.String(), 0o644)
}

// do runs a command of Postfix.
func (b *beside) do(name string, args ...string) {
	b.t.Helper()
	if out, err := exec.Command("/usr/sbin/"+name, append([]string{"-c", b.config}, args...)...).CombinedOutput(); err != nil {
		b.t.Fatalf("%s %q: %v: %s", name, args, err, out)
	}
}

// subjects are those in the mailbox of name, in no order.
func (b *beside) count(name, subject string) (n int) {
	b.t.Helper()
	files, err := filepath.Glob(filepath.Join(b.dir, "mail", name, "new/*"))
	if err != nil {
		b.t.Fatal(err)
	}
	for _, f := range files {
		if text, err := os.ReadFile(f); err == nil && strings.Contains(string(text), "Subject: "+subject+"\n") {
			n++
		}
	}
	return n
}

// logged counts lines of its log that have all words.
func (b *beside) logged(words ...string) (n int) {
	text, _ := os.ReadFile(b.log)
line:
	for line := range strings.Lines(string(text)) {
		for _, w := range words {
			if !strings.Contains(line, w) {
				continue line
			}
		}
		n++
	}
	return n
}

// TestAcceptanceCoexistence: the same domain on Dirpost and a real Postfix. Mail from
// both sides reaches each mailbox once; what neither knows is refused at both doors;
// where the two disagree nothing goes round, and nothing is lost.
func TestAcceptanceCoexistence(t *testing.T) {
	s := newSystem(t, "")
	addr := freeAddress(t)
	s.change("postmaster = \"postmaster@corp.example\"\n", fmt.Sprintf("postmaster = \"alice@corp.example\"\nother_system = %q\nother_clients = [\"127.0.0.2\"]\nunknown = \"other\"\n", addr))
	s.change("[auth]\n", "[directory.corp.mailboxes]\ngroups = [\"CN=sales,ou=groups,"+s.slapd.Base+"\"]\n[auth]\n")
	s.start()
	s.command(0, "directory", "check", "--accept")
	p := newBeside(t, s, addr, "alice", "bob", "lost")
	expect := func(who string, got []string, want ...string) {
		t.Helper()
		if len(got) != len(want) {
			t.Fatalf("%s: answers %q, want %q", who, got, want)
		}
		for i := range want {
			if !strings.HasPrefix(got[i], want[i]) {
				t.Errorf("%s, answer %d: %s, want %s", who, i, got[i], want[i])
			}
		}
	}
	const here, there = "127.0.0.1", "127.0.0.3" // of strangers
	s.eventually("erik's mail is taken", func() bool {
		return strings.HasPrefix(s.say(here, []string{"erik@corp.example"}, "Subject: first\r\n\r\nx")[0], "2.1.5")
	})

	// From both sides.
	to := []string{"alice@corp.example", "erik@corp.example", "there@corp.example", "nobody@corp.example"}
	expect("Dirpost", s.say(here, to, "Message-ID: <1@x>\r\nSubject: one\r\n\r\nx"), "2.1.5", "2.1.5", "2.1.5", "5.1.1", "2.0.0")
	expect("Postfix", s.sayTo(p.addr, there, to, "Message-ID: <2@x>\r\nSubject: two\r\n\r\nx"), "2.1.5", "2.1.5", "2.1.5", "5.1.1", "2.0.0")
	if err := s.submit("alice", "alice@corp.example", []string{"everybody@corp.example", "there@corp.example"}, "Message-ID: <3@x>\r\nFrom: alice@corp.example\r\nSubject: three\r\n\r\nx"); err != nil {
		t.Fatal(err)
	}
	s.eventually("the mailboxes over there have it", func() bool {
		return p.count("erik", "one") > 0 && p.count("erik", "two") > 0 && p.count("erik", "three") > 0 && p.count("there", "one") > 0 && p.count("there", "two") > 0 && p.count("there", "three") > 0
	})
	var inbox string // headers alone: the owner of the list gets reports with that of the message in them
	for _, m := range s.await("alice", "INBOX", 3) {
		header, _, _ := strings.Cut(m, "\r\n\r\n")
		inbox += header + "\r\n"
	}
	for _, subject := range []string{"one", "two", "three"} {
		if n := strings.Count(inbox, "Subject: "+subject+"\r\n"); n != 1 {
			t.Errorf("alice has %s %d times", subject, n)
		}
		for _, name := range []string{"erik", "there"} {
			if n := p.count(name, subject); n != 1 {
				t.Errorf("%s has %s %d times", name, subject, n)
			}
		}
	}

	// Postfix knows the address, and says that Dirpost has it, which knows nothing of
	// it: one round, and the sender hears of it.
	expect("lost", s.say(here, []string{"lost@corp.example"}, "Subject: lost\r\n\r\nx"), "2.1.5", "2.0.0")
	s.eventually("its sender hears of it", func() bool { return p.logged("to=<lost@corp.example>", "status=bounced", "5.1.1") > 0 })
	if n := p.logged("to=<lost@corp.example>", "relay="); n != 1 {
		t.Errorf("it was tried %d times", n)
	}

	// Each says that the other has erik: it waits, until somebody has said who is right.
	p.send(s, "alice", "bob", "erik")
	p.do("postfix", "reload")
	expect("erik of two homes", s.say(here, []string{"erik@corp.example"}, "Subject: four\r\n\r\nx"), "2.1.5", "2.0.0")
	s.eventually("Postfix keeps it", func() bool { return p.logged("to=<erik@corp.example>", "status=deferred", "4.4.6") > 0 })
	if n := p.count("erik", "four"); n != 0 {
		t.Errorf("it arrived %d times", n)
	}
	p.send(s, "alice", "bob")
	p.do("postfix", "reload")
	p.do("postqueue", "-f")
	s.eventually("it arrives", func() bool { return p.count("erik", "four") == 1 })

	// While Postfix is away nobody is refused, and what is known is taken.
	p.do("postfix", "stop")
	expect("away", s.say(here, []string{"erik@corp.example", "there@corp.example", "new@corp.example", "nobody@corp.example"}, "Subject: five\r\n\r\nx"), "2.1.5", "2.1.5", "4.4.1", "5.1.1", "2.0.0")
}

// TestAcceptanceMovedWhileQueued: people move in both directions while mail for them
// waits. It goes where the mailbox is by then, once, by the change alone, and does not
// wait for a system that has nothing to do with it any more.
func TestAcceptanceMovedWhileQueued(t *testing.T) {
	s := newSystem(t, "")
	addr := freeAddress(t)
	s.change("postmaster = \"postmaster@corp.example\"\n", fmt.Sprintf("postmaster = \"alice@corp.example\"\nother_system = %q\nother_clients = [\"127.0.0.2\"]\nunknown = \"other\"\n", addr))
	s.change("[auth]\n", "[directory.corp.mailboxes]\ngroups = [\"CN=sales,ou=groups,"+s.slapd.Base+"\"]\n[auth]\n")
	s.start()
	s.command(0, "directory", "check", "--accept")
	p := newBeside(t, s, addr, "alice")
	const stranger = "127.0.0.1"
	send := func(subject string, to ...string) {
		t.Helper()
		for i, answer := range s.say(stranger, to, "Message-ID: <"+subject+"@x>\r\nSubject: "+subject+"\r\n\r\nx") {
			if !strings.HasPrefix(answer, "2.") {
				t.Fatalf("%s, answer %d: %s", subject, i, answer)
			}
		}
	}
	s.eventually("erik's mail is taken", func() bool {
		return strings.HasPrefix(s.say(stranger, []string{"erik@corp.example"}, "Subject: first\r\n\r\nx")[0], "2.1.5")
	})
	admin := s.admin()
	member := func(add bool, who string) {
		t.Helper()
		m := ldap.NewModifyRequest("cn=sales,ou=groups,"+s.slapd.Base, nil)
		if add {
			m.Add("member", []string{s.person(who)})
		} else {
			m.Delete("member", []string{s.person(who)})
		}
		if err := admin.Modify(m); err != nil {
			t.Fatal(err)
		}
	}
	receive := func(who, state string) {
		t.Helper()
		m := ldap.NewModifyRequest(s.person(who), nil)
		m.Replace("dirpostEnabled", []string{state})
		if err := admin.Modify(m); err != nil {
			t.Fatal(err)
		}
	}
	has := func(who, subject string) (n int) {
		for _, m := range s.read(s.login(who), "INBOX") {
			n += strings.Count(m, "Subject: "+subject+"\r\n")
		}
		return n
	}

	// Erik is there, and Postfix is away. He comes here, and need not wait for it; a
	// colleague who stays there does.
	s.eventually("erik has his there", func() bool {
		return p.count("erik", "first") > 0 && !strings.Contains(s.command(0, "queue", "list"), "erik@")
	})
	p.do("postfix", "stop")
	send("here", "erik@corp.example", "carol@corp.example")
	member(false, "bob")
	s.eventually("bob is elsewhere", func() bool { return strings.Contains(s.command(0, "explain", "bob@corp.example"), addr) })
	send("stays", "erik@corp.example", "bob@corp.example")
	s.eventually("it waits for Postfix", func() bool {
		out := s.command(0, "queue", "list")
		return strings.Count(out, "erik@") == 2 && strings.Count(out, "bob@") == 1
	})
	member(true, "erik")
	s.eventually("erik is here", func() bool { return !strings.Contains(s.command(0, "explain", "erik@corp.example"), addr) })
	s.eventually("erik has both here", func() bool { return has("erik", "here") == 1 && has("erik", "stays") == 1 })
	if out := s.command(0, "queue", "list"); strings.Count(out, "erik@") != 0 || strings.Count(out, "bob@") != 1 {
		t.Errorf("queue:\n%s", out)
	}

	// Bob is here, and his delivery is on hold. He goes over there, and so does what waits
	// for him.
	receive("bob", "active")
	p.start()
	s.command(0, "queue", "retry", "--all") // although it is known that Postfix was away
	s.eventually("bob has his there", func() bool { return p.count("bob", "stays") == 1 })
	member(true, "bob")
	receive("bob", "hold")
	held := 0
	s.eventually("bob's mail is held", func() bool {
		send(fmt.Sprint("held", held), "bob@corp.example")
		held++
		return strings.Contains(s.command(0, "queue", "list"), "held")
	})
	last := fmt.Sprint("held", held-1) // those before were sent too early
	member(false, "bob")
	receive("bob", "active")
	s.eventually("bob has it there", func() bool {
		return p.count("bob", last) > 0 && !strings.Contains(s.command(0, "queue", "list"), "bob@")
	})
	for _, subject := range []string{"here", "stays"} {
		if here, there := has("erik", subject), p.count("erik", subject); here != 1 || there != 0 {
			t.Errorf("erik has %s %d times here and %d there", subject, here, there)
		}
	}
	for _, subject := range []string{"stays", last} {
		if n := p.count("bob", subject); n != 1 {
			t.Errorf("bob has %s there %d times", subject, n)
		}
	}
}
