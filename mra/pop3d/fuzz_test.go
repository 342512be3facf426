package pop3d

import (
	"bytes"
	"context"
	"io"
	"net"
	"strings"
	"testing"

	"dirpost/internal/store"
)

func FuzzParse(f *testing.F) {
	for _, line := range []string{"RETR 1", "top 1 10", "PASS  a b ", "", " ", "LIST\x00", "UIDL 1 2 3", "AUTH PLAIN =", "RETR 00000000001"} {
		f.Add([]byte(line))
	}
	f.Fuzz(func(t *testing.T, line []byte) {
		whole := bytes.Clone(line)
		p := parse(line)
		if len(p.verb)+len(p.tail) > len(whole) || !bytes.EqualFold(whole[:len(p.verb)], p.verb) && isASCII(p.verb) || !bytes.HasSuffix(whole, p.tail) {
			t.Errorf("%q: %q, %q", whole, p.verb, p.tail)
		}
		for verb, cmd := range commands {
			args, ok := cmd.args.split(p.tail)
			if ok && cmd.args != rest && (len(args) < cmd.args.least || len(args) > cmd.args.most) {
				t.Errorf("%s: %d arguments", verb, len(args))
			}
			for _, a := range args {
				if n, ok := number(a); ok && n < 0 {
					t.Errorf("%q is %d", a, n)
				}
			}
		}
	})
}

func isASCII(b []byte) bool {
	return bytes.IndexFunc(b, func(r rune) bool { return r >= 0x80 }) < 0
}

// FuzzSession lets a client say anything, before or after login. Whatever it is:
// the session ends when the client leaves, every answer begins as answers do, and
// nothing is removed unless the client was told so.
func FuzzSession(f *testing.F) {
	w := newWorld(f)
	port := listen(f, w).port
	for _, in := range []string{
		"STAT\r\nLIST\r\nUIDL\r\nRETR 1\r\nTOP 2 1\r\nDELE 3\r\nRSET\r\nNOOP\r\nQUIT\r\n",
		"DELE 1\r\nDELE 2\r\n", "RETR 3\r\nRETR 2\r\nRETR 1\r\nRETR 2\r\nRETR 3\r\nQUIT\r\n",
		"DELE 1\nQUIT\n", "\x00\r\n\r\n \r\nRETR 99999999999999999999\r\n", "TOP 1 999999999\r\nLIST 0\r\nUIDL -1\r\n",
		"QUIT\r\nDELE 1\r\n", "STLS\r\n\x16\x03\x01", "AUTH PLAIN\r\n*\r\n", "CAPA\r\nSTAT\r\nPASS\r\n", strings.Repeat("A", 5000) + "\r\n",
	} {
		f.Add(true, []byte(in))
		f.Add(false, []byte(in))
	}
	f.Add(false, []byte("AUTH PLAIN AGFsaWNlAHNlY3JldCB3b3Jk\r\nDELE 1\r\nQUIT\r\n"))
	f.Add(false, []byte("AUTH LOGIN\r\nYWxpY2U=\r\nc2VjcmV0IHdvcmQ=\r\nSTAT\r\n"))
	f.Fuzz(func(t *testing.T, in bool, said []byte) {
		before := w.fill(t, 3)
		conn, err := net.Dial("tcp", "127.0.0.1:"+port)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		go func() {
			if in {
				io.WriteString(conn, "USER alice\r\nPASS "+password+"\r\n")
			}
			conn.Write(said)
			conn.(*net.TCPConn).CloseWrite()
		}()
		// A reset is what a client gets that goes on talking after the goodbye.
		got, err := io.ReadAll(conn)
		if !bytes.HasPrefix(got, []byte("+OK ")) && err == nil {
			t.Errorf("answered %q", got)
		}
		after := w.count(t)
		if asked := bytes.Contains(bytes.ToUpper(said), []byte("QUIT")); after != before && !asked {
			t.Errorf("%q: %d messages became %d", said, before, after)
		}
	})
}

func (w *world) count(t *testing.T) int {
	a, err := w.store.Account(context.Background(), "corp:alice", store.KindPerson)
	if err != nil {
		t.Fatal(err)
	}
	d, err := w.store.Drop(context.Background(), a.ID, store.Inbox)
	if err != nil {
		t.Fatal(err)
	}
	return len(d.UIDs)
}

// fill makes sure that alice has n messages.
func (w *world) fill(t *testing.T, n int) int {
	for w.count(t) < n {
		if err := w.deliver("alice", "Subject: s\r\n\r\n.body\r\nline\r\n"); err != nil {
			t.Fatal(err)
		}
	}
	return w.count(t)
}
