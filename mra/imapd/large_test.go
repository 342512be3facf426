package imapd

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"runtime"
	"runtime/debug"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// A message of 50 MiB goes in and out in pieces: in this process, which is
// client and server, the heap grows by less than 10 MiB.
func TestLargeMessage(t *testing.T) {
	const size = 50 << 20
	// What is held is measured, not what waits to be collected.
	defer debug.SetGCPercent(debug.SetGCPercent(50))
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
	if _, err := io.CopyN(conn, newLines(), size-int64(len(header))); err != nil {
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
	want, got := make([]byte, 32<<10), make([]byte, 32<<10)
	sent := newLines()
	for left := size - len(header); left > 0; left -= len(got) {
		got = got[:min(left, len(got))]
		if _, err := io.ReadFull(r, got); err != nil {
			t.Fatal(err)
		}
		sent.Read(want[:len(got)])
		if !bytes.Equal(got, want[:len(got)]) {
			t.Fatal("octets differ")
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

// lines are a megabyte of lines that compress badly, again and again.
type lines struct {
	block []byte
	at    int
}

func newLines() *lines {
	l := &lines{block: make([]byte, 1<<20)}
	r := rand.NewChaCha8([32]byte{1})
	for i := range l.block {
		switch i % 76 {
		case 74:
			l.block[i] = '\r'
		case 75:
			l.block[i] = '\n'
		default:
			l.block[i] = 'A' + byte(r.Uint64()>>59)
		}
	}
	for i := len(l.block) - len(l.block)%76; i < len(l.block); i++ {
		l.block[i] = 'x' // the block ends within a line
	}
	return l
}

func (l *lines) Read(p []byte) (int, error) {
	for n := 0; n < len(p); {
		k := copy(p[n:], l.block[l.at:])
		n, l.at = n+k, (l.at+k)%len(l.block)
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
		tick := time.NewTicker(25 * time.Millisecond)
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
