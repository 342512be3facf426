package smtpd

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"runtime"
	"strings"
	"testing"
	"time"
)

// talk is a client that sends what a test says, cut as it says, and collects the
// replies.
type talk struct {
	t  testing.TB
	nc net.Conn
	r  *bufio.Reader
}

func newTalk(t testing.TB, nc net.Conn) *talk {
	// The limit is no part of what is tested: a server that hangs must fail.
	nc.SetDeadline(time.Now().Add(time.Minute))
	return &talk{t, nc, bufio.NewReader(nc)}
}

// open is a talk that has said EHLO.
func (s *server) talk(t testing.TB) *talk {
	c := newTalk(t, s.pipe(t))
	c.want("220")
	c.do("EHLO client.example", "250")
	return c
}

// reply reads one reply and returns its last line.
func (c *talk) reply() string {
	c.t.Helper()
	for {
		line, err := c.r.ReadString('\n')
		if err != nil {
			c.t.Fatalf("reply: %q, %v", line, err)
		}
		if err := validLine(line); err != nil {
			c.t.Fatal(err)
		}
		if line[3] == ' ' {
			return strings.TrimSuffix(line, "\r\n")
		}
	}
}

func (c *talk) want(code string) {
	c.t.Helper()
	if got := c.reply(); !strings.HasPrefix(got, code) {
		c.t.Fatalf("got %q, want %s", got, code)
	}
}

func (c *talk) do(command, code string) {
	c.t.Helper()
	c.send(command + "\r\n")
	c.want(code)
}

// send writes each of segments by itself.
func (c *talk) send(segments ...string) {
	c.t.Helper()
	for _, s := range segments {
		if _, err := io.WriteString(c.nc, s); err != nil {
			c.t.Fatalf("send %.80q: %v", s, err)
		}
	}
}

// sendWhile writes s in another goroutine, for when the server may answer or hang
// up before it has read all of it.
func (c *talk) sendWhile(s string) (done chan struct{}) {
	done = make(chan struct{})
	go func() {
		defer close(done)
		io.WriteString(c.nc, s)
	}()
	return done
}

// rest reads until the server hangs up.
func (c *talk) rest() string {
	b, _ := io.ReadAll(c.r)
	return string(b)
}

// begin brings the session to the point where content is sent.
func (c *talk) begin() {
	c.t.Helper()
	c.do("MAIL FROM:<sender@outside.example>", "250")
	c.do("RCPT TO:<alice@corp.example>", "250")
	c.do("DATA", "354")
}

// bytesOf cuts s into single octets.
func bytesOf(s string) []string { return strings.Split(s, "") }

// smuggled is what follows a false end of content.
const smuggled = "MAIL FROM:<admin@corp.example>\r\nRCPT TO:<alice@corp.example>\r\nDATA\r\nsmuggled\r\n.\r\n"

// Only CRLF.CRLF ends content (RFC 5321 §4.1.1.4). Everything that other servers
// have been made to take for it is content, and makes the message be refused when
// it holds a bare CR or LF; whatever segments it comes in.
func TestSmuggling(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		end     string
		refused bool
	}{
		{"\n.\n", true}, {"\n.\r\n", true}, {"\r\n.\n", true}, {"\r.\r", true}, {"\r.\r\n", true}, {"\r\n.\r", true},
		{"\n.\r", true}, {"\r.\n", true}, {"\r\r\n.\r\r\n", true}, {"\n\n.\n\n", true}, {"\r\n\n.\r\n\n", true},
		{"\r\n\x00.\r\n", true}, {"\r\n.\x00\r\n", true}, {"\r\n.\r\r\n", true}, {"\r\n\r.\r\n", true},
		{"\r\n..\r\n", false}, {"\r\n .\r\n", false}, {"\r\n. \r\n", false}, {"\r\n.\t\r\n", false}, {"\r\n...\r\n", false},
		{"\r\n\x85.\x85", false}, {"\r\n\u2028.\u2028\r\n", false},
	} {
		t.Run(fmt.Sprintf("%q", tt.end), func(t *testing.T) {
			t.Parallel()
			whole := "Subject: outer\r\n\r\ntext" + tt.end + smuggled
			cuts := [][]string{{whole}, bytesOf(whole)}
			at := strings.Index(whole, tt.end)
			for i := at - 1; i <= at+len(tt.end)+1; i++ {
				cuts = append(cuts, []string{whole[:i], whole[i:]})
			}
			for _, cut := range cuts {
				s := newServer(t, MX, nil)
				c := s.talk(t)
				c.begin()
				c.send(cut...)
				want := "250"
				if tt.refused {
					want = "550 5.6.0"
				}
				c.want(want)
				c.do("NOOP", "250 2.0.0 Ok") // and nothing but the answer to NOOP
				for _, m := range s.door.all() {
					if a, _ := m.env.ReversePath.Address(); a.Local != "sender" {
						t.Errorf("a message from %s came out of the content, cut %q", a, cut)
					}
				}
			}
		})
	}
}

// A session means the same in whatever segments it comes.
func TestEverySegmentation(t *testing.T) {
	t.Parallel()
	steps := []struct{ send, code string }{
		{"EHLO client.example\r\n", "250"},
		{"MAIL FROM:<sender@outside.example> SIZE=100\r\n", "250"},
		{"RCPT TO:<alice@corp.example>\r\n", "250"},
		{"DATA\r\n", "354"},
		{"Subject: x\r\n\r\n.\r.\r\n\r\n.\r\n", "550"},
		{"MAIL FROM:<sender@outside.example>\r\n", "250"},
		{"RCPT TO:<alice@corp.example>\r\n", "250"},
		{"DATA\r\n", "354"},
		{"Subject: x\r\n\r\n..\r\n...a\r\n.b\r\n\r\n\r\n.\r\n", "250"},
		{"MAIL FROM:<sender@outside.example>\r\n", "250"},
		{"RCPT TO:<alice@corp.example>\r\n", "250"},
		{"BDAT 5\r\n\r\n.\r\n", "250"},
		{"BDAT 3 LAST\r\n.\r\n", "250"},
		{"NOOP\r\n", "250"},
	}
	play := func(t *testing.T, cut func(string) []string) {
		s := newServer(t, MX, nil)
		c := newTalk(t, s.pipe(t))
		c.want("220")
		for _, step := range steps {
			c.send(cut(step.send)...)
			c.want(step.code)
		}
		all := s.door.all()
		if len(all) != 2 || all[0].content != "Subject: x\r\n\r\n.\r\n..a\r\nb\r\n\r\n\r\n" || all[1].content != "\r\n.\r\n.\r\n" {
			t.Errorf("got %+v", all)
		}
	}
	t.Run("octets", func(t *testing.T) { t.Parallel(); play(t, bytesOf) })
	for n := 1; n < 45; n++ {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			t.Parallel()
			play(t, func(s string) []string {
				if n >= len(s) {
					return []string{s}
				}
				return []string{s[:n], s[n:]}
			})
		})
	}
}

// A chunk of BDAT is content however it is made, in the segment of the command
// too.
func TestPipelinedChunkWithoutLines(t *testing.T) {
	t.Parallel()
	s := newServer(t, MX, nil)
	c := s.talk(t)
	chunk := strings.Repeat("QUIT", 5000)
	done := c.sendWhile("MAIL FROM:<sender@outside.example>\r\nRCPT TO:<alice@corp.example>\r\nBDAT 20000 LAST\r\n" + chunk + "NOOP\r\n")
	for range 4 {
		c.want("250")
	}
	<-done
	if all := s.door.all(); len(all) != 1 || all[0].content != chunk+"\r\n" {
		t.Errorf("%d messages", len(all))
	}
}

// Ten thousand recipients: the first thousand are taken, the others told 452 so
// that they come again (RFC 5321 §4.5.3.1.10), and none of it counts as a mistake.
func TestTenThousandRecipients(t *testing.T) {
	t.Parallel()
	s := newServer(t, MX, nil)
	c := s.talk(t)
	c.do("MAIL FROM:<sender@outside.example>", "250")
	var b strings.Builder
	for i := range 10_000 {
		fmt.Fprintf(&b, "RCPT TO:<r%d@corp.example>\r\n", i)
	}
	done := c.sendWhile(b.String())
	for i := range 10_000 {
		want := "250 2.1.5"
		if i >= 1000 {
			want = "452 4.5.3"
		}
		if got := c.reply(); !strings.HasPrefix(got, want) {
			t.Fatalf("recipient %d: %s", i, got)
		}
	}
	<-done
	c.do("DATA", "354")
	c.send("text\r\n.\r\n")
	c.want("250")
	if n := len(s.door.all()[0].env.Recipients); n != 1000 {
		t.Errorf("%d recipients", n)
	}
}

// Somebody who tries addresses is not served for long.
func TestTenThousandUnknownRecipients(t *testing.T) {
	t.Parallel()
	s := newServer(t, MX, nil)
	c := s.talk(t)
	c.do("MAIL FROM:<sender@outside.example>", "250")
	done := c.sendWhile(strings.Repeat("RCPT TO:<nobody@corp.example>\r\n", 10_000))
	got := c.rest()
	<-done
	if n := strings.Count(got, "\r\n"); n != 101 || !strings.HasSuffix(got, "421 4.7.0 mx.corp.example Too many errors\r\n") {
		t.Errorf("%d lines, ending in %q", n, got[max(0, len(got)-80):])
	}
}

// Streams without an end are cut off.
func TestEndlessStreams(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ name, unit, last string }{
		{"line", "x", "421 4.7.0"},
		{"lines", "\r\n", "421 4.7.0"},
		{"bare LF", "\n", "421 4.7.0"},
		{"NUL", "\x00", "421 4.7.0"},
		{"NOOP", "NOOP\r\n", "421 4.7.0"},
		{"BDAT 0", "BDAT 0\r\n", "421 4.7.0"},
		{"unknown", "X\r\n", "421 4.7.0"},
		{"long lines", strings.Repeat("x", 3000) + "\r\n", "421 4.7.0"},
		{"MAIL and RSET", "MAIL FROM:<a@outside.example>\r\nRSET\r\n", "421 4.7.0"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := newServer(t, MX, nil)
			c := s.talk(t)
			done := c.sendWhile(strings.Repeat(tt.unit, 1<<20/len(tt.unit)))
			got := c.rest()
			<-done
			lines := strings.Split(strings.TrimSuffix(got, "\r\n"), "\r\n")
			if last := lines[len(lines)-1]; !strings.HasPrefix(last, tt.last) {
				t.Errorf("last of %d lines: %q", len(lines), last)
			}
		})
	}
}

// A large message passes in constant memory.
func TestLargeMessage(t *testing.T) {
	s := newServer(t, MX, nil) // not parallel: it looks at the heap
	s.door.discard = true
	c := s.talk(t)
	c.begin()
	line := bytes.Repeat([]byte("x"), 1022)
	block := bytes.Repeat(append(line, '\r', '\n'), 64)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range 50 << 20 / len(block) {
		if _, err := c.nc.Write(block); err != nil {
			t.Fatal(err)
		}
	}
	c.send(".\r\n")
	c.want("250")
	runtime.ReadMemStats(&after)
	if got := after.TotalAlloc - before.TotalAlloc; got > 1<<20 {
		t.Errorf("50 MiB cost %d octets of allocations", got)
	}
	if s.door.octets != 50<<20 {
		t.Errorf("%d octets arrived", s.door.octets)
	}
}

// BDAT, RSET, EHLO and hanging up in the middle of a chunk: nothing else runs
// beside the connection's goroutine, which the race detector would see.
func TestHangUpWithinChunk(t *testing.T) {
	t.Parallel()
	s := newServer(t, MX, nil)
	for range 20 {
		c := s.talk(t)
		c.do("MAIL FROM:<sender@outside.example>", "250")
		c.do("RCPT TO:<alice@corp.example>", "250")
		c.send("BDAT 4\r\nabcd")
		c.want("250")
		c.do("RSET", "250")
		c.do("MAIL FROM:<sender@outside.example>", "250")
		c.do("RCPT TO:<alice@corp.example>", "250")
		c.send("BDAT 4\r\nab")
		c.nc.Close()
	}
	t.Cleanup(func() {
		if n := s.door.count(); n != 0 {
			t.Errorf("%d messages accepted", n)
		}
	})
}

// Junk that comes behind an early QUIT, a failed handshake or a refused connection
// does not end up in the log as trouble of ours (go-smtp panicked here).
func TestNothingAfterQuit(t *testing.T) {
	t.Parallel()
	s := newServer(t, MX, nil)
	addr := s.listen(t)
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	c := newTalk(t, nc)
	c.want("220")
	c.send("QUIT\r\n" + smuggled)
	c.want("221")
	if got := c.rest(); got != "" {
		t.Errorf("after QUIT: %q", got)
	}
}

// Connections beyond the limit are turned away with 421.
func TestConnectionLimit(t *testing.T) {
	t.Parallel()
	s := newServer(t, MX, func(c *Config, _ *Deps) { c.MaxConnections = 2 })
	addr := s.listen(t)
	dial := func() *talk {
		nc, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { nc.Close() })
		return newTalk(t, nc)
	}
	a, b := dial(), dial()
	a.want("220")
	b.want("220")
	dial().want("421 4.3.2")
	a.do("QUIT", "221")
	a.rest()
	for { // the place is free once the server has closed its side
		c := dial()
		if strings.HasPrefix(c.reply(), "220") {
			return
		}
	}
}

// validLine checks the form of a reply line (RFC 5321 §4.2).
func validLine(line string) error {
	text, ok := strings.CutSuffix(line, "\r\n")
	if !ok || len(line) > 512 || len(text) < 4 || strings.Trim(text[:3], "0123456789") != "" || text[0] < '2' || text[0] > '5' || text[3] != ' ' && text[3] != '-' {
		return fmt.Errorf("no reply line: %q", line)
	}
	for i := range len(text) {
		if text[i] < ' ' || text[i] > '~' {
			return fmt.Errorf("reply line %q holds octet %#x", line, text[i])
		}
	}
	return nil
}
