package main

import (
	"bufio"
	"bytes"
	"fmt"
	"net"
	"net/textproto"
	"sort"
	"sync"
	"sync/atomic"
	"time"
)

// load is one inbound run.
type load struct {
	sessions, messages, size, rcpts, users, first int
	way                                           way
}

// way is how a client sends a message.
type way int

const (
	// lockStep waits for the answer to each command, as a program of a few lines
	// does. It is the default, and what all servers are compared with.
	lockStep way = iota
	// pipelined sends the envelope in one segment (RFC 2920), as mail servers do.
	pipelined
	// chunked sends all of it in one segment (RFC 3030), as Exchange and Exim do.
	chunked
)

// String is the name in the table.
func (w way) String() string { return [...]string{"lock-step", "pipelined", "chunked"}[w] }

// text makes a message of about size octets. Every message is another one, as
// in life: n is in its Message-ID and its body.
func text(domain, run string, n, size int) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "From: Load <load@example.net>\r\nTo: Load <u00001@%s>\r\nSubject: Load message %d of run %s\r\nDate: Sat, 21 Nov 2026 10:00:00 +0000\r\n", domain, n, run)
	fmt.Fprintf(&b, "Message-ID: <%d.%s@example.net>\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n", n, run)
	seed := uint32(n)*2654435761 + 1
	words := []string{"meeting", "report", "the", "of", "budget", "quarter", "please", "find", "attached", "and", "customer", "order", "number", "tomorrow", "thanks", "regards"}
	col := 0
	for b.Len() < size {
		seed = seed*1664525 + 1013904223
		w := words[seed>>28]
		if seed&0x700 == 0 {
			w = fmt.Sprint(seed)
		}
		if col += len(w) + 1; col > 72 {
			b.WriteString("\r\n")
			col = len(w)
		}
		b.WriteString(w)
		b.WriteByte(' ')
	}
	b.WriteString("\r\n")
	return b.Bytes()
}

// prepared is how many octets of messages are made before the clock starts. What
// a load has beyond them is made while it runs, and is paid for by the server
// that is measured.
const prepared = 128 << 20

// inbound sends l to t over kept connections and returns the seconds until the
// last 250 and the latencies of a message.
func inbound(t *target, l load, run string) (time.Duration, []time.Duration, error) {
	texts := make([][]byte, min(l.messages, prepared/l.size))
	for n := range texts {
		texts[n] = text(t.domain, run, n, l.size)
	}
	var next atomic.Int64
	var wg sync.WaitGroup
	errs := make(chan error, l.sessions)
	took := make([][]time.Duration, l.sessions)
	start := time.Now()
	for s := range l.sessions {
		wg.Go(func() {
			c, err := connect(t)
			if err != nil {
				errs <- err
				return
			}
			defer c.conn.Close()
			for {
				n := int(next.Add(1)) - 1
				if n >= l.messages {
					break
				}
				var m []byte
				if n < len(texts) {
					m = texts[n]
				} else {
					m = text(t.domain, run, n, l.size)
				}
				begin := time.Now()
				if err := c.send(t, l, n, m); err != nil {
					errs <- err
					return
				}
				took[s] = append(took[s], time.Since(begin))
			}
			c.line("QUIT")
			if err := c.flush(221); err != nil {
				errs <- err
			}
		})
	}
	wg.Wait()
	elapsed := time.Since(start)
	select {
	case err := <-errs:
		return 0, nil, err
	default:
	}
	var all []time.Duration
	for _, d := range took {
		all = append(all, d...)
	}
	sort.Slice(all, func(i, j int) bool { return all[i] < all[j] })
	return elapsed, all, nil
}

// sender is one session of the generator.
type sender struct {
	conn net.Conn
	in   *textproto.Reader
	out  *bufio.Writer
}

// connect opens a session up to EHLO.
func connect(t *target) (*sender, error) {
	conn, err := net.DialTimeout("tcp", t.smtp, 10*time.Second)
	if err != nil {
		return nil, err
	}
	// What is flushed leaves at once, as it does from a mail server: the generator
	// must not be what is measured.
	c := &sender{conn, textproto.NewReader(bufio.NewReader(conn)), bufio.NewWriterSize(conn, 256<<10)}
	if err = c.flush(220); err == nil {
		c.line("EHLO load.example.net")
		err = c.flush(250)
	}
	if err != nil {
		conn.Close()
		return nil, err
	}
	return c, nil
}

// line buffers a command.
func (c *sender) line(format string, args ...any) { fmt.Fprintf(c.out, format+"\r\n", args...) }

// flush sends what is buffered and expects these replies.
func (c *sender) flush(codes ...int) error {
	if err := c.out.Flush(); err != nil {
		return err
	}
	for _, code := range codes {
		if _, _, err := c.in.ReadResponse(code); err != nil {
			return err
		}
	}
	return nil
}

// send sends message n of l, which is m.
func (c *sender) send(t *target, l load, n int, m []byte) error {
	var due []int
	command := func(code int, format string, args ...any) error {
		c.line(format, args...)
		if due = append(due, code); l.way != lockStep {
			return nil
		}
		defer func() { due = due[:0] }()
		return c.flush(due...)
	}
	if err := command(250, "MAIL FROM:<load@example.net>"); err != nil {
		return err
	}
	for r := range l.rcpts {
		if err := command(250, "RCPT TO:<%s>", t.user(l.first+(n*l.rcpts+r)%l.users)); err != nil {
			return err
		}
	}
	if l.way == chunked {
		c.line("BDAT %d LAST", len(m))
		c.out.Write(m)
		return c.flush(append(due, 250)...)
	}
	if err := command(354, "DATA"); err != nil {
		return err
	}
	if l.way == pipelined {
		if err := c.flush(due...); err != nil {
			return err
		}
	}
	c.out.Write(m)
	c.line(".")
	return c.flush(250)
}
