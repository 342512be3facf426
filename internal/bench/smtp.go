package main

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"sort"
	"strconv"
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
			c, err := connect(t, l.sessions)
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
	conn io.ReadWriteCloser
	in   *bufio.Reader
	out  *bufio.Writer
	due  []int // replies that are still to come
}

// connect opens one of the sessions of a load, up to EHLO.
func connect(t *target, sessions int) (*sender, error) {
	conn, err := dialSession(t.smtp, sessions)
	if err != nil {
		return nil, err
	}
	// What is flushed leaves at once, as it does from a mail server.
	c := &sender{conn: conn, in: bufio.NewReader(conn), out: bufio.NewWriterSize(conn, 256<<10)}
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
func (c *sender) line(parts ...string) {
	for _, p := range parts {
		c.out.WriteString(p)
	}
	c.out.WriteString("\r\n")
}

// flush sends what is buffered and expects these replies.
func (c *sender) flush(codes ...int) error {
	if err := c.out.Flush(); err != nil {
		return err
	}
	for _, code := range codes {
		if err := c.expect(code); err != nil {
			return err
		}
	}
	return nil
}

// expect reads a reply (RFC 5321 §4.2).
func (c *sender) expect(code int) error {
	for {
		line, err := c.in.ReadSlice('\n')
		if err != nil {
			return err
		}
		if len(line) < 4 || int(line[0]-'0')*100+int(line[1]-'0')*10+int(line[2]-'0') != code {
			return fmt.Errorf("%q instead of %d", bytes.TrimSpace(line), code)
		}
		if line[3] != '-' {
			return nil
		}
	}
}

// command sends a command. In lock-step the reply is waited for, otherwise it is
// due with the next ones.
func (c *sender) command(l load, code int, parts ...string) error {
	c.line(parts...)
	if c.due = append(c.due, code); l.way != lockStep {
		return nil
	}
	return c.replies()
}

// replies sends what is buffered and expects what is due.
func (c *sender) replies() error {
	defer func() { c.due = c.due[:0] }()
	return c.flush(c.due...)
}

// send sends message n of l, which is m.
func (c *sender) send(t *target, l load, n int, m []byte) error {
	if err := c.command(l, 250, "MAIL FROM:<load@example.net>"); err != nil {
		return err
	}
	for r := range l.rcpts {
		if err := c.command(l, 250, "RCPT TO:<", t.user(l.first+(n*l.rcpts+r)%l.users), ">"); err != nil {
			return err
		}
	}
	if l.way == chunked {
		c.line("BDAT ", strconv.Itoa(len(m)), " LAST")
		c.out.Write(m)
		c.due = append(c.due, 250)
		return c.replies()
	}
	if err := c.command(l, 354, "DATA"); err != nil {
		return err
	}
	if err := c.replies(); err != nil {
		return err
	}
	c.out.Write(m)
	c.line(".")
	return c.flush(250)
}
