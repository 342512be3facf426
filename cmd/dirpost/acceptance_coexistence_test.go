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

// beside is a Postfix that has some of the mailboxes of corp.example, set up as
// docs/coexistence.md says.
type beside struct {
	*peer
	t   *testing.T
	dir string
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
	launch(t, b.addr, b.log, exec.Command(program, "-c", b.config, "start-fg"))
	return b
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
