package pop3d

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"dirpost/internal/testenv"
)

// BenchmarkDrain is a client that retrieves and deletes 1,000 messages of 4 KiB,
// command by command, against a database that waits for the disk.
func BenchmarkDrain(b *testing.B) {
	l := listen(b, worldOn(b, testenv.OpenDatabase(b, testenv.DurableDatabaseURL(b))))
	const n = 1000
	message := "Subject: load\r\n\r\n" + strings.Repeat("0123456789 abcdefghijklmnopqrstuvwxyz 0123456789 abcdefghijklm\r\n", 64)
	messages := make([]string, n)
	for i := range messages {
		messages[i] = message
	}
	var spent [4]time.Duration
	for b.Loop() {
		b.StopTimer()
		if err := l.deliver("alice", messages...); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
		for i, d := range drain(b, l.port, n) {
			spent[i] += d
		}
	}
	for i, what := range []string{"login", "retr", "dele", "quit"} {
		b.ReportMetric(float64(spent[i].Milliseconds())/float64(b.N), what+"-ms")
	}
	b.ReportMetric(float64(n*b.N)/b.Elapsed().Seconds(), "msg/s")
}

// drain returns the time for each part.
func drain(b *testing.B, port string, n int) (spent [4]time.Duration) {
	conn, err := net.Dial("tcp", "127.0.0.1:"+port)
	if err != nil {
		b.Fatal(err)
	}
	defer conn.Close()
	r := bufio.NewReaderSize(conn, 64<<10)
	cmd := func(text string, multi bool) {
		if text != "" {
			io.WriteString(conn, text+"\r\n")
		}
		line, err := r.ReadSlice('\n')
		if err != nil || line[0] != '+' {
			b.Fatalf("%s: %q, %v", text, line, err)
		}
		for multi {
			if line, err = r.ReadSlice('\n'); err != nil {
				b.Fatal(err)
			}
			multi = string(line) != ".\r\n"
		}
	}
	start := time.Now()
	part := 0
	lap := func() {
		spent[part] = time.Since(start)
		start = time.Now()
		part++
	}
	cmd("", false)
	cmd("USER alice", false)
	cmd("PASS "+password, false)
	lap()
	for i := range n {
		cmd(fmt.Sprintf("RETR %d", i+1), true)
	}
	lap()
	for i := range n {
		cmd(fmt.Sprintf("DELE %d", i+1), false)
	}
	lap()
	cmd("QUIT", false)
	lap()
	return spent
}

// BenchmarkLarge is RETR of a message of 50 MiB; what it allocates must not depend
// on the size.
func BenchmarkLarge(b *testing.B) {
	l := listen(b, worldOn(b, testenv.OpenDatabase(b, testenv.DurableDatabaseURL(b))))
	const size = 50 << 20
	if err := l.deliver("alice", large(size)); err != nil {
		b.Fatal(err)
	}
	conn, err := net.Dial("tcp", "127.0.0.1:"+l.port)
	if err != nil {
		b.Fatal(err)
	}
	defer conn.Close()
	c := newClient(b, conn)
	c.line()
	c.cmd("USER alice")
	c.cmd("PASS " + password)
	b.SetBytes(size)
	b.ReportAllocs()
	for b.Loop() {
		c.cmd("RETR 1")
		for {
			line, err := c.r.ReadSlice('\n')
			if err != nil {
				b.Fatal(err)
			}
			if string(line) == ".\r\n" {
				break
			}
		}
	}
}
