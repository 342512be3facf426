package imapd

import (
	"bufio"
	"fmt"
	"net"
	"strings"
	"testing"

	"dirpost/internal/blob"
	"dirpost/internal/message"
	"dirpost/internal/store"
)

// talker is a client that reads as little as it can.
type talker struct {
	conn net.Conn
	r    *bufio.Reader
}

func (f *fixture) talk(b *testing.B, user string) *talker {
	b.Helper()
	conn, err := f.dial(user)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { conn.Close() })
	return &talker{conn, bufio.NewReaderSize(conn, 64<<10)}
}

// do sends a command and reads up to its tagged OK.
func (k *talker) do(b *testing.B, command string) {
	if _, err := fmt.Fprintf(k.conn, "x %s\r\n", command); err != nil {
		b.Fatal(err)
	}
	for {
		line, err := k.r.ReadSlice('\n')
		if err != nil {
			b.Fatal(err)
		}
		if len(line) > 2 && line[0] == 'x' && line[1] == ' ' {
			if !strings.HasPrefix(string(line), "x OK") {
				b.Fatalf("%s: %s", command, line)
			}
			return
		}
	}
}

// fill puts n small messages into the INBOX of user.
func (f *fixture) fill(b *testing.B, user string, n int) {
	b.Helper()
	a, err := f.account(b.Context(), user)
	if err != nil {
		b.Fatal(err)
	}
	c := &conn{srv: f.server}
	for done := 0; done < n; {
		var page []store.Appended
		for ; len(page) < 100 && done < n; done++ {
			in := &intake{scanner: message.NewScanner(message.DefaultLimits()), body: blob.New(f.db).NewWriter(b.Context())}
			fmt.Fprintf(in, "From: Alice <alice@corp.example>\r\nTo: bob@corp.example\r\nSubject: Message %d\r\n"+
				"Date: Tue, 3 Feb 2026 04:05:06 +0000\r\nMessage-ID: <%d@corp.example>\r\n\r\nBody %d\r\n", done, done, done)
			content, err := c.content(b.Context(), in, epoch)
			if err != nil {
				b.Fatal(err)
			}
			page = append(page, store.Appended{Content: content})
		}
		if _, err := f.store.Append(b.Context(), a.ID, store.Inbox, page, 0); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkMailbox is what a client does with an INBOX of 10,000 messages.
func BenchmarkMailbox(b *testing.B) {
	f := newFixture(b, nil)
	f.fill(b, "p1", 10_000)
	for _, tt := range []struct{ name, command string }{
		{"SELECT", "SELECT INBOX"},
		{"FETCH flags of all", "FETCH 1:* (UID FLAGS)"},
		{"FETCH envelope of all", "FETCH 1:* (ENVELOPE)"},
		{"FETCH envelope of 20", "FETCH 9981:10000 (UID FLAGS ENVELOPE)"},
		{"FETCH body of 1", "UID FETCH 5000 (BODY.PEEK[])"},
		{"SEARCH unseen", "SEARCH RETURN (COUNT) UNSEEN"},
		{"SEARCH subject", "SEARCH SUBJECT nowhere"},
		{"NOOP", "NOOP"},
		{"STATUS", "STATUS INBOX (MESSAGES UNSEEN)"},
		{"LIST", `LIST "" "%"`},
	} {
		b.Run(tt.name, func(b *testing.B) {
			k := f.talk(b, "p1")
			k.do(b, "SELECT INBOX")
			k.do(b, tt.command)
			b.ReportAllocs()
			for b.Loop() {
				k.do(b, tt.command)
			}
		})
	}
}

// BenchmarkBulk changes all of 10,000 messages.
func BenchmarkBulk(b *testing.B) {
	f := newFixture(b, nil)
	f.fill(b, "p1", 10_000)
	k := f.talk(b, "p1")
	k.do(b, "SELECT INBOX")
	for _, tt := range []struct{ name, command, back string }{
		{"STORE", `STORE 1:* +FLAGS.SILENT (\Flagged)`, `STORE 1:* -FLAGS.SILENT (\Flagged)`},
		{"COPY", "COPY 1:* Archive", "NOOP"},
		{"MOVE", "MOVE 1:* Junk", "SELECT INBOX"},
	} {
		b.Run(tt.name, func(b *testing.B) {
			for b.Loop() {
				k.do(b, tt.command)
				b.StopTimer()
				if tt.name == "MOVE" {
					k.do(b, "SELECT Junk")
					k.do(b, "MOVE 1:* INBOX")
				}
				k.do(b, tt.back)
				b.StartTimer()
			}
		})
	}
}

// BenchmarkLogin is a whole session: connect, LOGIN, LOGOUT, without the
// directory's part.
func BenchmarkLogin(b *testing.B) {
	f := newFixture(b, nil)
	b.ReportAllocs()
	for b.Loop() {
		conn, err := f.dial("")
		if err != nil {
			b.Fatal(err)
		}
		k := &talker{conn, bufio.NewReaderSize(conn, 1<<10)}
		k.do(b, "LOGIN p1 "+password)
		k.do(b, "LOGOUT")
		conn.Close()
	}
}
