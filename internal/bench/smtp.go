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
}

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

// inbound sends l to t over kept connections, lock-step as an ordinary client,
// and returns the seconds until the last 250 and the latencies of a message.
func inbound(t *target, l load, run string) (time.Duration, []time.Duration, error) {
	var next atomic.Int64
	var wg sync.WaitGroup
	errs := make(chan error, l.sessions)
	took := make([][]time.Duration, l.sessions)
	start := time.Now()
	for s := range l.sessions {
		wg.Go(func() {
			if err := session(t, l, run, &next, &took[s]); err != nil {
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

func session(t *target, l load, run string, next *atomic.Int64, took *[]time.Duration) error {
	conn, err := net.DialTimeout("tcp", t.smtp, 10*time.Second)
	if err != nil {
		return err
	}
	defer conn.Close()
	c := textproto.NewConn(conn)
	// A message and its end leave together, as they do from a mail server: the
	// generator must not be what is measured.
	c.Writer = *textproto.NewWriter(bufio.NewWriterSize(conn, 256<<10))
	if _, _, err := c.ReadResponse(220); err != nil {
		return err
	}
	say := func(code int, format string, args ...any) error {
		fmt.Fprintf(c.W, format+"\r\n", args...)
		if err := c.W.Flush(); err != nil {
			return err
		}
		_, _, err := c.ReadResponse(code)
		return err
	}
	if err := say(250, "EHLO load.example.net"); err != nil {
		return err
	}
	for {
		n := int(next.Add(1)) - 1
		if n >= l.messages {
			return say(221, "QUIT")
		}
		m := text(t.domain, run, n, l.size)
		begin := time.Now()
		if err := say(250, "MAIL FROM:<load@example.net>"); err != nil {
			return err
		}
		for r := range l.rcpts {
			if err := say(250, "RCPT TO:<%s>", t.user(l.first+(n*l.rcpts+r)%l.users)); err != nil {
				return err
			}
		}
		if err := say(354, "DATA"); err != nil {
			return err
		}
		c.W.Write(m)
		if err := say(250, "."); err != nil {
			return err
		}
		*took = append(*took, time.Since(begin))
	}
}
