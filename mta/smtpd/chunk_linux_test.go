package smtpd

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A message that comes in one piece behind its envelope (RFC 3030, RFC 2920 §3.2) is
// answered in one piece, though it is larger than the buffer for commands; and what
// is due is sent before the server waits for the rest of a chunk.
func TestChunkAnsweredInOnePiece(t *testing.T) {
	t.Parallel()
	s := newServer(t, MX, nil)
	nc, err := net.Dial("tcp", s.listen(t))
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	nc.SetDeadline(time.Now().Add(time.Minute))
	replies := bufio.NewScanner(nc)
	want := func(prefixes ...string) {
		t.Helper()
		for _, p := range prefixes {
			if !replies.Scan() || !strings.HasPrefix(replies.Text(), p) {
				t.Fatalf("got %q, want %s", replies.Text(), p)
			}
		}
	}
	want("220 ")
	io.WriteString(nc, "HELO client.example\r\n")
	want("250 ")
	chunk := strings.Repeat("a line\r\n", 2000)
	head := fmt.Sprintf("MAIL FROM:<a@outside.example>\r\nRCPT TO:<alice@corp.example>\r\nBDAT %d LAST\r\n", len(chunk))
	before := segments(t, nc)
	io.WriteString(nc, head+chunk)
	want("250 2.1.0", "250 2.1.5", "250 2.0.0 Ok: queued")
	if n := segments(t, nc) - before; n != 1 {
		t.Errorf("answered in %d segments", n)
	}
	io.WriteString(nc, head+chunk[:5000])
	want("250 2.1.0", "250 2.1.5")
	io.WriteString(nc, chunk[5000:])
	want("250 2.0.0 Ok: queued")
}

// segments is how many segments with content have come on c.
func segments(t *testing.T, c net.Conn) (n uint32) {
	raw, err := c.(*net.TCPConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	raw.Control(func(fd uintptr) {
		var info *unix.TCPInfo
		if info, err = unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO); err == nil {
			n = info.Data_segs_in
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}
