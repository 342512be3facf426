package main

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

// large sends one message of 50 MiB in and reads it out, and reports how much
// the memory of the target's processes rose meanwhile. The database's buffers
// are of a fixed size, and filled by whatever passes: they are shown apart.
func (b *bench) large() error {
	const size = 50 << 20
	for _, t := range b.targets {
		n := b.users - 3
		w, err := watch(t, n, 1)
		if err != nil {
			return err
		}
		defer w.close()
		before, err := pss(t.pids)
		if err != nil {
			return err
		}
		var peak, buffers atomic.Int64
		stop, done := make(chan struct{}), make(chan struct{})
		go func() {
			defer close(done)
			for {
				select {
				case <-stop:
					return
				case <-time.After(20 * time.Millisecond):
					if m, err := pss(t.pids); err == nil {
						peak.Store(max(m.private, peak.Load()))
						buffers.Store(max(m.shared, buffers.Load()))
					}
				}
			}
		}()
		had, err := w.count()
		if err == nil {
			b.serial++
			_, _, err = inbound(t, load{sessions: 1, messages: 1, size: size, rcpts: 1, users: 1, first: n}, fmt.Sprintf("large%d", time.Now().UnixNano()))
		}
		if err == nil {
			_, err = w.wait(had + 1)
		}
		in := peak.Swap(0) - before.private
		if err == nil {
			err = fetchLast(t, n)
		}
		close(stop)
		<-done
		if err != nil {
			return fmt.Errorf("%s: %w", t.name, err)
		}
		fmt.Fprintf(b.out, "50 MiB message\t%s\tin +%.1f MiB\tout +%.1f MiB\tdatabase buffers +%.1f MiB\t\n", t.name,
			mib(in), mib(peak.Load()-before.private), mib(buffers.Load()-before.shared))
		b.out.Flush()
	}
	return nil
}

func mib(n int64) float64 { return float64(n) / (1 << 20) }

// fetchLast reads the newest message of an INBOX.
func fetchLast(t *target, n int) error {
	c, err := dial(t.imap, false)
	if err != nil {
		return err
	}
	defer c.conn.Close()
	if err := c.login(t, n); err != nil {
		return err
	}
	if err := c.imap(nil, "SELECT INBOX"); err != nil {
		return err
	}
	if _, err := fmt.Fprintf(c.conn, "f FETCH * BODY.PEEK[]\r\n"); err != nil {
		return err
	}
	s, err := c.line()
	if err != nil {
		return err
	}
	i := strings.LastIndexByte(s, '{')
	if i < 0 {
		return fmt.Errorf("FETCH: %s", s)
	}
	size, err := strconv.ParseInt(strings.TrimRight(s[i+1:], "}"), 10, 64)
	if err != nil {
		return err
	}
	if _, err := io.CopyN(io.Discard, c.r, size); err != nil {
		return err
	}
	for {
		s, err := c.line()
		if err != nil {
			return err
		}
		if strings.HasPrefix(s, "f ") {
			return nil
		}
	}
}
