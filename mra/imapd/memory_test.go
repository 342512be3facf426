package imapd

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"net"
	"runtime"
	"runtime/debug"
	"strings"
	"sync"
	"testing"
	"time"
)

// An idle session holds no buffers and a small stack. What is measured is our
// side of the connection in this process, after LOGIN, SELECT, FETCH 1:20
// (ENVELOPE) and IDLE: heap and stacks in use, the test's own clients counted
// too, which hold a descriptor and nothing else.
func TestIdleMemory(t *testing.T) {
	for _, tt := range []struct {
		name   string
		secure bool
		limit  uint64 // octets a session
	}{
		{"clear", false, 20 << 10},
		{"TLS", true, 40 << 10}, // the TLS client of the test is in it
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := newFixture(t, nil)
			for i := range idlers {
				if err := f.given(t, fmt.Sprintf("p%d", i+1), "INBOX: 20 messages"); err != nil {
					t.Fatal(err)
				}
			}
			const warm, n = 20, 300
			conns := idleSessions(t, f, tt.secure, warm) // pools, caches
			before := inUse()
			for seen := uint64(0); before != seen; before = inUse() { // until the first have parked
				seen = before
			}
			conns = append(conns, idleSessions(t, f, tt.secure, n)...)
			// A parked session gives its buffers back after mra's hold
			// time, and a stack shrinks when the collector looks at it.
			each := (inUse() - before) / n
			for end := time.Now().Add(20 * time.Second); each > tt.limit && time.Now().Before(end); {
				each = (inUse() - before) / n
			}
			t.Logf("%d octets a session", each)
			if each > tt.limit {
				t.Errorf("an idle session costs %d octets, want at most %d", each, tt.limit)
			}
			for _, c := range conns {
				if c != nil {
					c.Close()
				}
			}
		})
	}
}

// idlers is how many persons share the sessions: one may have a hundred.
const idlers = 10

// inUse is the memory in heap and stacks once the collector has done what it
// can.
func inUse() uint64 {
	for range 4 {
		debug.FreeOSMemory()
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapInuse + m.StackInuse
}

// idleSessions opens n sessions and leaves them in IDLE.
func idleSessions(t *testing.T, f *fixture, secure bool, n int) []net.Conn {
	t.Helper()
	conns := make([]net.Conn, n)
	var wg sync.WaitGroup
	next := make(chan int)
	for range 8 {
		wg.Go(func() {
			r := bufio.NewReaderSize(nil, 16<<10)
			for i := range next {
				c, err := f.idleSession(r, fmt.Sprintf("p%d", i%idlers+1), secure)
				if err != nil {
					t.Error(err)
					continue
				}
				conns[i] = c
			}
		})
	}
	for i := range n {
		next <- i
	}
	close(next)
	wg.Wait()
	return conns
}

func (f *fixture) idleSession(r *bufio.Reader, user string, secure bool) (net.Conn, error) {
	conn, err := net.Dial("tcp", f.addr)
	if err != nil {
		return nil, err
	}
	r.Reset(conn)
	until := func(prefix string) error {
		for {
			line, err := r.ReadString('\n')
			if err != nil || strings.HasPrefix(line, prefix) {
				return err
			}
			if strings.HasPrefix(line, prefix[:1]+" NO") || strings.HasPrefix(line, prefix[:1]+" BAD") {
				return fmt.Errorf("refused: %s", line)
			}
		}
	}
	if err := until("* OK"); err != nil {
		return nil, err
	}
	if secure {
		fmt.Fprint(conn, "t STARTTLS\r\n")
		if err := until("t OK"); err != nil {
			return nil, err
		}
		conn = tls.Client(conn, f.tls)
		r.Reset(conn)
	}
	for _, step := range [][2]string{
		{"a LOGIN " + user + " " + password, "a OK"}, {"b SELECT INBOX", "b OK"}, {"c FETCH 1:20 (ENVELOPE)", "c OK"}, {"d IDLE", "+ "},
	} {
		if _, err := fmt.Fprint(conn, step[0]+"\r\n"); err != nil {
			return nil, err
		}
		if err := until(step[1]); err != nil {
			return nil, err
		}
	}
	return conn, nil
}
