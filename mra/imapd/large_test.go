//go:build !race

package imapd

import (
	"bufio"
	"fmt"
	"io"
	"runtime"
	"runtime/debug"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// A message of 50 MiB goes in and out in pieces: in this process, which is
// client and server, the heap grows by less than 10 MiB. (The race detector
// keeps memory of its own.)
func TestLargeMessage(t *testing.T) {
	const size = 50 << 20
	// What is held is measured, not what waits to be collected.
	defer debug.SetGCPercent(debug.SetGCPercent(20))
	f := newFixture(t, nil)
	conn, err := f.dial("p1")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	r := bufio.NewReaderSize(conn, 32<<10)
	until := func(prefix string) string {
		t.Helper()
		for {
			line, err := r.ReadString('\n')
			if err != nil {
				t.Fatal(err)
			}
			if strings.HasPrefix(line, prefix) {
				return line
			}
		}
	}
	header := "Subject: large\r\n\r\n"
	peak := watchHeap(t)
	fmt.Fprintf(conn, "a APPEND INBOX {%d+}\r\n%s", size, header)
	if _, err := io.CopyN(conn, &lines{}, size-int64(len(header))); err != nil {
		t.Fatal(err)
	}
	io.WriteString(conn, "\r\n")
	if got := until("a "); !strings.HasPrefix(got, "a OK") {
		t.Fatal(got)
	}
	t.Logf("in: %d KiB", peak()>>10)
	if grown := peak(); grown > 10<<20 {
		t.Errorf("taking 50 MiB made the heap grow by %d octets", grown)
	}

	io.WriteString(conn, "b SELECT INBOX\r\n")
	until("b OK")
	peak = watchHeap(t)
	io.WriteString(conn, "c FETCH 1 BODY.PEEK[]\r\n")
	if got, want := until("* "), fmt.Sprintf("* 1 FETCH (BODY[] {%d}\r\n", size); got != want {
		t.Fatalf("%q, want %q", got, want)
	}
	if _, err := r.Discard(len(header)); err != nil {
		t.Fatal(err)
	}
	want, got := bufio.NewReader(&lines{}), make([]byte, 1000)
	for left := size - len(header); left > 0; left -= len(got) {
		got = got[:min(left, len(got))]
		if _, err := io.ReadFull(r, got); err != nil {
			t.Fatal(err)
		}
		for i := range got {
			if b, _ := want.ReadByte(); b != got[i] {
				t.Fatal("octets differ")
			}
		}
	}
	until("c OK")
	t.Logf("out: %d KiB", peak()>>10)
	if grown := peak(); grown > 10<<20 {
		t.Errorf("sending 50 MiB made the heap grow by %d octets", grown)
	}
	io.WriteString(conn, "d FETCH 1 BODY.PEEK[]<40000000.10>\r\n")
	if got := until("* "); got != "* 1 FETCH (BODY[]<40000000> {10}\r\n" {
		t.Fatal(got)
	}
	until("d OK")
}

// lines are lines that compress badly.
type lines struct {
	n uint64
	i int
}

func (l *lines) Read(p []byte) (int, error) {
	for j := range p {
		switch l.i++; l.i % 76 {
		case 74:
			p[j] = '\r'
		case 75:
			p[j] = '\n'
		default:
			l.n = l.n*6364136223846793005 + 1442695040888963407
			p[j] = 'A' + byte(l.n>>59)
		}
	}
	return len(p), nil
}

// watchHeap returns a function that tells by how much the heap has grown at
// most since.
func watchHeap(t *testing.T) func() uint64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	before, stop := m.HeapInuse, make(chan struct{})
	var highest atomic.Uint64
	go func() {
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				var m runtime.MemStats
				runtime.ReadMemStats(&m)
				if m.HeapInuse > before+highest.Load() {
					highest.Store(m.HeapInuse - before)
				}
			case <-stop:
				return
			}
		}
	}()
	t.Cleanup(func() {
		select {
		case <-stop:
		default:
			close(stop)
		}
	})
	return highest.Load
}
