package remote

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"dirpost/mta/route"
)

// TestScripts plays servers that go-smtp would never be.
func TestScripts(t *testing.T) {
	t.Parallel()
	const hello = "S 220 hi\nC EHLO mail.us.example\nS 250 next\n"
	const envelope = "C MAIL FROM:<alice@corp.example>\nS 250 ok\nC RCPT TO:<bob@next.example>\nS 250 ok\n"
	tests := []struct {
		name    string
		servers []string // one script a host
		want    string
	}{
		{"greeting 4xx", []string{"S 421 busy"}, "4.0.0 421 refused at greeting: busy (down)"},
		{"RFC 5321 §3.1: greeting 554 of the only host", []string{"S 554 5.7.1 not you"}, "5.7.1 554 refused at greeting: not you (down)"},
		{"greeting 554 of one host of two", []string{"S 554 5.7.1 not you", "S 421 busy"}, "4.0.0 421 refused at greeting: busy (down)"},
		{"the second host takes it", []string{"S 554 no", hello + envelope + "C DATA\nS 354 go\nD\nS 250 2.1.5 taken\nC QUIT"}, "2.1.5 250 taken"},
		{"RFC 5321 §3.2: only HELO", []string{"S 220 hi\nC EHLO\nS 502 what\nC HELO mail.us.example\nS 250 ok\n" + envelope + "C DATA\nS 354 go\nD\nS 250 ok"}, "2.0.0 250 ok"},
		{"many lines, no text, no space", []string{"S 220-a\nS 220-b\nS 220\nC EHLO\nS 250\n" + envelope + "C DATA\nS 354\nD\nS 250"}, "2.0.0 250 "},
		{"keywords in small letters", []string{"S 220 hi\nC EHLO\nS 250-next\nS 250-size 5\nS 250 8bitmime"}, "5.3.4 0 message of 21 octets is larger than the 5 that the next hop takes"},
		{"SIZE without a limit", []string{"S 220 hi\nC EHLO\nS 250-next\nS 250 SIZE 0\nC MAIL FROM:<alice@corp.example> SIZE=21\nS 250 ok\nC RCPT\nS 250\nC DATA\nS 354\nD\nS 250 ok"}, "2.0.0 250 ok"},
		{"no SMTP", []string{"S HTTP/1.1 400 Bad Request"}, "4.5.0 0 server does not speak SMTP while receiving the greeting (down)"},
		{"line without end", []string{"LONG"}, "4.5.0 0 server does not speak SMTP while receiving the greeting (down)"},
		{"lines without end", []string{"LINES"}, "4.5.0 0 server does not speak SMTP while receiving the greeting (down)"},
		{"code changes within a reply", []string{"S 220-a\nS 221 b"}, "4.5.0 0 server does not speak SMTP while receiving the greeting (down)"},
		{"MAIL 4xx, next host", []string{hello + "C MAIL\nS 451 4.7.1 greylisted\nC QUIT", hello + "C MAIL\nS 451 4.7.1 greylisted too\nC QUIT"}, "4.7.1 451 greylisted too"},
		{"MAIL 5xx is final", []string{hello + "C MAIL\nS 550 5.7.1 go away\nC QUIT", "NEVER"}, "5.7.1 550 go away"},
		{"DATA 5xx", []string{hello + envelope + "C DATA\nS 554 5.5.1 no\nC QUIT"}, "5.5.1 554 no"},
		{"after the dot 4xx", []string{hello + envelope + "C DATA\nS 354 go\nD\nS 452 4.3.1 full\nC QUIT"}, "4.3.1 452 full"},
		{"after the dot 5xx, words of others", []string{hello + envelope + "C DATA\nS 354 go\nD\nS 554-5.7.1 spam\nS 554 5.7.1 see http://next.example\nC QUIT"}, "5.7.1 554 spam see http://next.example"},
		{"hang up at DATA, next host", []string{hello + envelope + "C DATA\nCLOSE", hello + envelope + "C DATA\nS 354 go\nD\nS 250 ok"}, "2.0.0 250 ok"},
		{"hang up after the dot: it may have arrived, nobody else is asked", []string{hello + envelope + "C DATA\nS 354 go\nD\nCLOSE", "NEVER"}, "4.4.2 0 lost connection while waiting for the reply to the message, which may arrive twice"},
		{"421 at RCPT", []string{hello + "C MAIL\nS 250 ok\nC RCPT\nS 421 4.3.2 closing\nCLOSE"}, "4.3.2 421 closing"},
		{"421 at MAIL", []string{hello + "C MAIL\nS 421 4.3.2 closing\nCLOSE"}, "4.3.2 421 closing"},
		{"enhanced code of another class", []string{hello + "C MAIL\nS 550 4.7.1 odd\nC QUIT"}, "5.0.0 550 4.7.1 odd"},
		{"3xx out of place", []string{hello + "C MAIL\nS 354 what\nCLOSE"}, "4.5.0 0 server is out of step"},
		{"552 for RCPT: RFC 5321 §4.5.3.1.10", []string{hello + "C MAIL\nS 250 ok\nC RCPT\nS 552 too many\nC QUIT"}, "4.5.3 552 too many"},
		{"552 5.2.2 for RCPT is a full mailbox", []string{hello + "C MAIL\nS 250 ok\nC RCPT\nS 552 5.2.2 full\nC QUIT"}, "5.2.2 552 full"},
		{"stalls at the greeting", []string{"STALL"}, "4.4.2 0 timed out while receiving the greeting (down)"},
		{"stalls after the dot", []string{hello + envelope + "C DATA\nS 354 go\nD\nSTALL"}, "4.4.2 0 timed out while waiting for the reply to the message, which may arrive twice"},
		{"drips a reply", []string{"DRIP"}, "4.4.2 0 timed out while receiving the greeting (down)"},
		{"RFC 2920 §3.1: 354 for nobody", []string{"S 220 hi\nC EHLO\nS 250-next\nS 250 PIPELINING\nC MAIL\nC RCPT\nC DATA\nS 250 ok\nS 550 5.1.1 no\nS 354 go\nC .\nS 554 none\nC QUIT"}, "5.1.1 550 no"},
		{"STARTTLS refused, in the clear", []string{"S 220 hi\nC EHLO\nS 250-next\nS 250 STARTTLS\nC STARTTLS\nS 454 no TLS now\n" + envelope + "C DATA\nS 354\nD\nS 250 ok"}, "2.0.0 250 ok"},
		{"STARTTLS fails: a new connection, never the old one", []string{"S 220 hi\nC EHLO\nS 250-next\nS 250 STARTTLS\nC STARTTLS\nS 220 go\nSTALL-TLS\nAGAIN\n" + hello + envelope + "C DATA\nS 354\nD\nS 250 ok"}, "2.0.0 250 ok"},
		{"octets injected before the handshake", []string{"S 220 hi\nC EHLO\nS 250-next\nS 250 STARTTLS\nC STARTTLS\nS 220 go\\r\\n250 injected\nCLOSE\nAGAIN\n" + hello + envelope + "C DATA\nS 354\nD\nS 250 ok"}, "2.0.0 250 ok"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var addrs []string
			for _, script := range tt.servers {
				addrs = append(addrs, serve(t, script))
			}
			tr := newTransport(t, Config{KeepIdle: -1, Timeouts: short})
			if got := brief(tr.Deliver(t.Context(), to(t, addrs...), note(t, "x\r\n"), attempts(t, "bob@next.example"))); got != tt.want {
				t.Errorf("\n got %s\nwant %s", got, tt.want)
			}
		})
	}
}

// TestRefusedByOurOwnHop: a smarthost that does not know us any more returns nobody's
// mail.
func TestRefusedByOurOwnHop(t *testing.T) {
	t.Parallel()
	for _, kind := range []route.Kind{route.BySmarthost, route.ByGivenHop} {
		rt := to(t, serve(t, "S 554 5.7.1 not you"))
		rt.Kind = kind
		tr := newTransport(t, Config{KeepIdle: -1, Timeouts: short})
		want := "4.7.1 554 refused at greeting: not you (down)"
		if got := brief(tr.Deliver(t.Context(), rt, note(t, "x\r\n"), attempts(t, "bob@next.example"))); got != want {
			t.Errorf("kind %d:\n got %s\nwant %s", kind, got, want)
		}
	}
}

// short is for servers that stall on purpose; the others answer at once.
var short = Timeouts{Greeting: 500 * time.Millisecond, Final: 500 * time.Millisecond, Progress: 500 * time.Millisecond, Command: 5 * time.Second}

// serve plays a script to whoever connects: "S text" says, "C prefix" hears, "D"
// hears a message up to its dot.
func serve(t testing.TB, script string) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	connections := strings.Split(script, "AGAIN\n")
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			if script == "NEVER" || len(connections) == 0 {
				t.Error("this server must not be asked")
				_ = c.Close()
				continue
			}
			part := connections[0]
			connections = connections[1:]
			wg.Go(func() {
				defer c.Close()
				_ = c.SetDeadline(time.Now().Add(20 * time.Second))
				if err := play(c, part); err != nil {
					t.Errorf("server: %v", err)
				}
			})
		}
	})
	t.Cleanup(func() { _ = l.Close(); wg.Wait() })
	return l.Addr().String()
}

func play(c net.Conn, script string) error {
	r := bufio.NewReader(c)
	for line := range strings.SplitSeq(strings.TrimSpace(script), "\n") {
		verb, text, _ := strings.Cut(line, " ")
		switch verb {
		case "S":
			_, _ = io.WriteString(c, strings.ReplaceAll(text, `\r\n`, "\r\n")+"\r\n")
		case "C":
			got, err := r.ReadString('\n')
			if err != nil || !strings.HasPrefix(got, text) {
				return fmt.Errorf("wanted %q, got %q, %v", text, got, err)
			}
		case "D":
			for got := ""; got != ".\r\n"; {
				var err error
				if got, err = r.ReadString('\n'); err != nil {
					return fmt.Errorf("in DATA: %w", err)
				}
			}
		case "STALL", "CLOSE", "STALL-TLS":
			if verb == "STALL-TLS" {
				_, _ = r.Peek(1)
				_, _ = io.WriteString(c, "this is no TLS\r\n")
			}
			if verb != "CLOSE" {
				_, _ = io.Copy(io.Discard, r)
			}
			return nil
		case "LONG":
			for range 100 {
				_, _ = io.WriteString(c, strings.Repeat("2", 100))
			}
		case "LINES":
			for range 100_000 {
				if _, err := io.WriteString(c, "220-and on\r\n"); err != nil {
					return nil
				}
			}
		case "DRIP":
			for {
				if _, err := io.WriteString(c, "220-and on\r\n"); err != nil {
					return nil
				}
				time.Sleep(20 * time.Millisecond) // this server is slow: that is what it is for
			}
		default:
			return errors.New("script: " + line)
		}
	}
	return nil
}

// 421 on an idle connection was said to nobody.
func TestIdle421(t *testing.T) {
	t.Parallel()
	const one = "S 220 hi\nC EHLO\nS 250 next\nC MAIL\nS 250\nC RCPT\nS 250\nC DATA\nS 354\nD\nS 250 ok\n"
	addr := serve(t, one+"S 421 idle too long\nCLOSE\nAGAIN\n"+one+"C QUIT\nS 221")
	tr := newTransport(t, Config{KeepIdle: time.Minute})
	for i := range 2 {
		if got := brief(tr.Deliver(t.Context(), to(t, addr), note(t, "x\r\n"), attempts(t, "bob@next.example"))); got != "2.0.0 250 ok" {
			t.Errorf("message %d: %s", i, got)
		}
	}
}

// A peer that stops reading costs one timeout, not for ever; and when we are
// told to stop, we stop.
func TestStalledWrite(t *testing.T) {
	t.Parallel()
	const script = "S 220 hi\nC EHLO\nS 250 next\nC MAIL\nS 250\nC RCPT\nS 250\nC DATA\nS 354\n"
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	done := make(chan struct{})
	go func() {
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		_ = play(c, script)
		<-done // and reads nothing any more
	}()
	defer close(done)
	tr := newTransport(t, Config{Timeouts: short})
	m := note(t, "")
	m.Header = append(m.Header, bytes.Repeat([]byte("0123456789012345678901234567890123456789012345678901234567890\r\n"), 1<<18)...)
	if got := brief(tr.Deliver(t.Context(), to(t, l.Addr().String()), m, attempts(t, "bob@next.example"))); got != "4.4.2 0 timed out while sending the message" {
		t.Errorf("got %s", got)
	}
}
