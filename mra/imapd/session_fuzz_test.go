package imapd

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"

	"dirpost/mra"
)

// A session that is fed anything, before and after login and in a mailbox, ends
// when the client does: it neither panics nor hangs, and says nothing that is no
// response.
func FuzzConversation(f *testing.F) {
	for _, seed := range []string{
		"a NOOP\r\nb CAPABILITY\r\nc LOGOUT\r\n",
		"a FETCH 1:* (FLAGS ENVELOPE BODY.PEEK[1.MIME]<0.9> RFC822.SIZE BODYSTRUCTURE)\r\n",
		"a STORE 1:2 +FLAGS.SILENT (\\Seen $x)\r\nb EXPUNGE\r\nc UID EXPUNGE 1:*\r\n",
		"a SEARCH RETURN (MIN SAVE) OR NOT SEEN (TEXT {1+}\r\nx BODY \"b\") $\r\nb UID MOVE $ Trash\r\n",
		"a APPEND INBOX (\\Seen) {4+}\r\na: b\r\nb COPY 1 INBOX\r\n",
		"a LIST (SUBSCRIBED RECURSIVEMATCH) \"\" (* %/%) RETURN (STATUS (MESSAGES RECENT))\r\nb LSUB \"\" *%\r\n",
		"a CREATE x/y\r\nb RENAME x z\r\nc DELETE z/y\r\nd SELECT z\r\ne IDLE\r\nDONE\r\n",
		"a STATUS INBOX (RECENT SIZE)\r\nb ENABLE CONDSTORE\r\nc FETCH $ FLAGS (CHANGEDSINCE 1)\r\nd CLOSE\r\n",
		"a AUTHENTICATE PLAIN\r\nAA==\r\nb LOGIN {1}\r\nx {1+}\r\ny\r\nc ID (\"a\" NIL)\r\n",
	} {
		for state := range 3 {
			f.Add(seed, uint8(state))
		}
	}
	fx := newFixture(f, func(c *Config, _ *bridge) { c.MaxMessage = 10_000 })
	prefix := [...]string{"", "login LOGIN p1 secret\r\n", "login LOGIN p1 secret\r\nselect SELECT INBOX\r\n"}
	f.Fuzz(func(t *testing.T, in string, state uint8) {
		if len(in) > 4<<10 {
			return
		}
		client, server := net.Pipe()
		defer client.Close()
		out := make(chan []byte, 1)
		go func() {
			b, _ := io.ReadAll(client) // ends when the server closes
			out <- b
		}()
		done := make(chan struct{})
		go func() {
			defer close(done)
			mc := mra.NewConn(&scripted{Conn: server, r: strings.NewReader(prefix[state%3] + in)}, nil, "fuzz", slog.New(slog.DiscardHandler))
			defer mc.Close()
			fx.server.ServeConn(context.Background(), mc)
		}()
		select {
		case <-done:
		case <-time.After(20 * time.Second):
			t.Fatalf("session hangs on %q", in)
		}
		got := <-out
		// Nothing that a client says may be our problem.
		if bytes.Contains(got, []byte("SERVERBUG")) || bytes.Contains(got, []byte("(session fuzz)")) {
			t.Fatalf("a bug of ours after %q:\n%s", in, got)
		}
	})
}

// scripted is a connection whose client has said everything already.
type scripted struct {
	net.Conn
	r io.Reader
}

func (s *scripted) Read(p []byte) (int, error) { return s.r.Read(p) }
