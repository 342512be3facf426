//go:build acceptance

package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// oddClients is how many clients there are at once; DIRPOST_ACCEPTANCE_CLIENTS
// says another number.
const oddClients = 10_000

// odd is what one client does: it says the beginning, where "|" waits for an
// answer, and then an octet now and then.
var odd = []struct{ listener, begin string }{
	{"smtp", ""},
	{"smtp", "EHLO slow.example\r\n|MAIL FROM:<friend@partner.example>\r\n|RCPT TO:<carol@corp.example>\r\n|DATA\r\n|Subject: "},
	{"smtp", "EHLO slow.example\r\n|MAIL FROM:<friend@partner.example>\r\n|RCPT TO:<carol@corp.example>\r\n|BDAT 1000000\r\nSubject: "},
	{"submission", "EHLO slow"},
	{"submission", "EHLO slow.example\r\n|STARTTLS\r\n"},
	{"imap", "a LOGIN {5+}\r\n"},
	{"imap", "a STARTTLS\r\n"},
	{"imap", "a NOOP\r\nb CAPABILITY\r\nc LOGO"},
	{"pop3", "US"},
	{"pop3", "CAPA\r\nSTLS\r\n"},
}

// TestAcceptanceHostile: 10,000 clients hold connections open and speak an octet
// now and then (slow loris), on 25, 587, 143 and 110. Mail is still taken and
// read, the limits for one address hold, and memory stays bounded.
func TestAcceptanceHostile(t *testing.T) {
	clients := oddClients
	if v := os.Getenv("DIRPOST_ACCEPTANCE_CLIENTS"); v != "" {
		n, err := strconv.Atoi(v)
		if err != nil {
			t.Fatalf("DIRPOST_ACCEPTANCE_CLIENTS: %v", err)
		}
		clients = n
	}
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil || limit.Cur < uint64(clients)+500 {
		t.Fatalf("%d clients need as many file descriptors, there are %d (%v): ulimit -n", clients, limit.Cur, err)
	}
	s := newSystem(t, "")
	node := s.process()
	s.awaitServing(t)
	before := resident(t, node.Process.Pid)
	conns := make([]net.Conn, clients)
	var refused atomic.Int64
	var dial sync.WaitGroup
	slots := make(chan struct{}, 64)
	for i := range clients {
		dial.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			o := odd[i%len(odd)]
			// Many addresses: the limits for one are not what is shown here.
			conn, err := dialFrom(fmt.Sprintf("127.1.%d.%d", i%100, 1+i/100%100), s.addr[o.listener])
			if err != nil {
				refused.Add(1)
				return
			}
			conns[i] = conn
			var greeting [512]byte // who speaks before it is refused
			_ = conn.SetReadDeadline(time.Now().Add(time.Minute))
			_, _ = conn.Read(greeting[:])
			for i, part := range strings.Split(o.begin, "|") {
				if i > 0 {
					_, _ = conn.Read(greeting[:])
				}
				_, _ = io.WriteString(conn, part) // may be closed on us already
			}
		})
	}
	dial.Wait()
	t.Cleanup(func() {
		for _, c := range conns {
			if c != nil {
				_ = c.Close()
			}
		}
	})
	open := func() (n int) {
		for _, c := range conns {
			if c != nil && stillOpen(c) {
				n++
			}
		}
		return n
	}
	// They go on speaking while others use the service.
	stop := make(chan struct{})
	var slow sync.WaitGroup
	slow.Go(func() {
		for i := 0; ; i = (i + 1) % len(conns) {
			select {
			case <-stop:
				return
			default:
			}
			// In a handshake an octet of ours would be a mistake: they are silent.
			if conns[i] != nil && !strings.HasSuffix(odd[i%len(odd)].begin, "TLS\r\n") {
				_ = conns[i].SetWriteDeadline(time.Now().Add(time.Millisecond))
				_, _ = conns[i].Write([]byte("x"))
			}
			if i%1000 == 0 {
				time.Sleep(50 * time.Millisecond)
			}
		}
	})
	start := time.Now()
	const normal = 50
	for i := range normal {
		if err := s.deliver("friend@partner.example", []string{"bob@corp.example"}, strings.ReplaceAll(plain, "plain", fmt.Sprint("odd-", i))); err != nil {
			t.Fatalf("mail among %d odd clients: %v", clients, err)
		}
		if err := s.submit("alice", "alice@corp.example", []string{"bob@corp.example"}, "From: alice@corp.example\r\nSubject: x\r\n\r\nx\r\n"); err != nil {
			t.Fatalf("submission among %d odd clients: %v", clients, err)
		}
	}
	if got := s.read(s.login("bob"), "INBOX"); len(got) != 2*normal {
		t.Errorf("bob has %d messages, want %d", len(got), 2*normal)
	}
	if out, err := s.client("curl", "-sS", "--max-time", "30", "--cacert", s.cert.CAFile, "-u", "bob:"+s.slapd.UserPassword, "pop3s://localhost:"+s.port("pop3s")+"/1"); err != nil {
		t.Errorf("POP3 among odd clients: %v: %s", err, out)
	}
	took := time.Since(start)
	close(stop)
	slow.Wait()
	after, held := resident(t, node.Process.Pid), open()
	each := (after - before) / max(1, held)
	t.Logf("%d odd clients, %d held, %d refused; %d messages in and out in %v; %d KiB before, %d KiB after: %d KiB each", clients, held, refused.Load(), 2*normal, took.Round(time.Millisecond), before, after, each)
	if held < clients*8/10 {
		t.Errorf("only %d of %d clients are held: the test shows nothing", held, clients)
	}
	if each > 64 && !raceDetector { // which takes many times the memory
		t.Errorf("%d KiB for each odd client", each)
	}
}

// TestAcceptanceLimits: one address cannot take all connections, whatever the
// port; another is served.
func TestAcceptanceLimits(t *testing.T) {
	s := newSystem(t, "max_per_client = 200\n[mta.policy]\nexempt = []\n[mra]\nmax_per_client = 200\n")
	s.process()
	s.awaitServing(t)
	for _, l := range []struct {
		listener, greeting, refusal string
		limit                       int
	}{
		{"smtp", "220", "421", 50}, {"submission", "220", "421", 200}, {"imap", "* OK", "* BYE", 200}, {"pop3", "+OK", "-ERR", 200},
	} {
		var open []net.Conn
		welcome, refused := 0, 0
		for range l.limit + 30 {
			conn, err := dialFrom("127.2.0.1", s.addr[l.listener])
			if err != nil {
				refused++
				continue
			}
			open = append(open, conn)
			_ = conn.SetReadDeadline(time.Now().Add(30 * time.Second))
			line, err := bufio.NewReader(conn).ReadString('\n')
			switch {
			case strings.HasPrefix(line, l.greeting):
				welcome++
			case err != nil || strings.HasPrefix(line, l.refusal):
				refused++
			default:
				t.Errorf("%s: %q", l.listener, line)
			}
		}
		if welcome > l.limit || refused == 0 {
			t.Errorf("%s: %d connections of one address welcome, %d refused; the limit is %d", l.listener, welcome, refused, l.limit)
		}
		conn, err := dialFrom("127.2.0.2", s.addr[l.listener])
		if err != nil {
			t.Fatal(err)
		}
		open = append(open, conn)
		_ = conn.SetReadDeadline(time.Now().Add(30 * time.Second))
		if line, err := bufio.NewReader(conn).ReadString('\n'); !strings.HasPrefix(line, l.greeting) {
			t.Errorf("%s: another address gets %q, %v", l.listener, line, err)
		}
		for _, c := range open {
			_ = c.Close()
		}
	}
}

// dialFrom connects from an address of this host.
func dialFrom(local, addr string) (net.Conn, error) {
	d := net.Dialer{Timeout: time.Minute, LocalAddr: &net.TCPAddr{IP: net.ParseIP(local)}}
	return d.Dial("tcp", addr)
}

// stillOpen reads what has come, and reports whether the other side is there.
func stillOpen(c net.Conn) bool {
	var b [4096]byte
	for {
		_ = c.SetReadDeadline(time.Now().Add(time.Millisecond))
		if _, err := c.Read(b[:]); err != nil {
			return errors.Is(err, os.ErrDeadlineExceeded)
		}
	}
}

// resident is the resident memory of a process in KiB.
func resident(t *testing.T, pid int) int {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		var kib int
		if _, err := fmt.Sscanf(line, "VmRSS: %d kB", &kib); err == nil {
			return kib
		}
	}
	t.Fatal("no VmRSS")
	return 0
}
