package imapd

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Who may no longer be logged in does not get the rest of what they asked for, also
// where they take their time to read it.
func TestRevokedDuringFetch(t *testing.T) {
	t.Parallel()
	f := newFixture(t, nil)
	const messages, size = 6, 2 << 20
	raw := "From: alice@corp.example\r\nSubject: large\r\n\r\n" + strings.Repeat(strings.Repeat("x", 70)+"\r\n", size/72)
	for i := range messages {
		if err := f.put(t.Context(), "p1", "INBOX", fmt.Sprintf("Message-ID: <%d@corp.example>\r\n", i)+raw, epoch); err != nil {
			t.Fatal(err)
		}
	}
	conn, err := f.dial("p1")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.(*net.TCPConn).SetReadBuffer(64 << 10); err != nil {
		t.Fatal(err)
	}
	if err := conn.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(conn, "a SELECT INBOX\r\nb FETCH 1:* BODY.PEEK[]\r\n"); err != nil {
		t.Fatal(err)
	}
	r := bufio.NewReader(conn)
	for line := ""; !strings.HasPrefix(line, "* 1 FETCH"); {
		if line, err = r.ReadString('\n'); err != nil {
			t.Fatal(err)
		}
	}
	f.bridge.revoke(f.bridge.live.Snapshot().ByLogin("p1").Key)
	n, err := io.Copy(io.Discard, r)
	if err != nil && !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the end: %v", err)
	}
	if n >= messages*size {
		t.Errorf("%d octets after the end of the session", n)
	}
}
