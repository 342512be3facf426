package smtpd

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"dirpost/internal/event"
)

// memConn is a connection whose input is known beforehand and comes in segments
// of a fixed size. It never blocks.
type memConn struct {
	in      []byte
	segment int
	out     bytes.Buffer
}

func (c *memConn) Read(p []byte) (int, error) {
	if len(c.in) == 0 {
		return 0, io.EOF
	}
	n := copy(p, c.in[:min(c.segment, len(c.in))])
	c.in = c.in[n:]
	return n, nil
}

func (c *memConn) Write(p []byte) (int, error)      { return c.out.Write(p) }
func (c *memConn) Close() error                     { return nil }
func (c *memConn) LocalAddr() net.Addr              { return &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 25} }
func (c *memConn) RemoteAddr() net.Addr             { return &net.TCPAddr{IP: net.IPv4(192, 0, 2, 2), Port: 2525} }
func (c *memConn) SetDeadline(time.Time) error      { return nil }
func (c *memConn) SetReadDeadline(time.Time) error  { return nil }
func (c *memConn) SetWriteDeadline(time.Time) error { return nil }

// noPanic is a sink that fails the test when the server has recovered a panic.
type noPanic struct{ testing.TB }

func (n noPanic) Emit(_ context.Context, e event.Event) {
	if e.Msg == "panic" {
		n.Errorf("panic: %v", e.Attrs)
	}
}

// FuzzSession sends octets to a server: it must not panic, answer with valid reply
// lines only, leave no transaction open, and mean the same in whatever segments
// they come.
func FuzzSession(f *testing.F) {
	files, err := filepath.Glob("testdata/*.dialog")
	if err != nil {
		f.Fatal(err)
	}
	for _, file := range files {
		f.Add(clientSide(f, file), uint8(7))
	}
	f.Add([]byte("EHLO a\r\nAUTH PLAIN AGFsaWNlAHNlY3JldA==\r\nMAIL FROM:<alice@corp.example>\r\nRCPT TO:<b@c.example>\r\nDATA\r\n..\r\n.\r\nBDAT 3\r\n"), uint8(1))
	f.Add([]byte("EHLO a\r\nAUTH PLAIN AGFsaWNlAHNlY3JldA==\r\nMAIL FROM:<>\r\nRCPT TO:<b@c.example>\r\nBDAT 3\r\nabcBDAT 2 LAST\r\n\r\nQUIT\r\n"), uint8(3))
	play := func(t testing.TB, role Role, in []byte, segment int) (string, []accepted) {
		s := fuzzServer(t, role)
		c := &memConn{in: in, segment: segment}
		s.ServeConn(context.Background(), c)
		if n := s.door.unfinished(); n != 0 {
			t.Errorf("%d transactions left open", n)
		}
		for line := range strings.SplitAfterSeq(c.out.String(), "\r\n") {
			if line == "" {
				continue
			}
			if err := validLine(line); err != nil {
				t.Error(err)
			}
		}
		return c.out.String(), s.door.all()
	}
	f.Fuzz(func(t *testing.T, in []byte, segment uint8) {
		play(t, MX, in, int(segment)+1)
		play(t, MX, in, 1<<20)
		one, first := play(t, MSA, in, int(segment)+1)
		whole, second := play(t, MSA, in, 1<<20)
		if one != whole {
			t.Errorf("in segments of %d:\n%s\nat once:\n%s", int(segment)+1, one, whole)
		}
		if len(first) != len(second) {
			t.Fatalf("%d messages in segments, %d at once", len(first), len(second))
		}
		for i := range first {
			if first[i].content != second[i].content {
				t.Errorf("content differs: %q and %q", first[i].content, second[i].content)
			}
			if bare := strings.ReplaceAll(first[i].content, "\r\n", ""); strings.ContainsAny(bare, "\r\n\x00") {
				t.Errorf("content %q was accepted", first[i].content)
			}
		}
	})
}

// fuzzServer has no TLS: what comes behind STARTTLS depends on segments by right.
func fuzzServer(t testing.TB, role Role) *server {
	s := &server{door: &recorder{}, gate: &gate{clear: true}}
	cfg := DefaultConfig(role, "mx.corp.example")
	cfg.ErrorDelay, cfg.MaxSize, cfg.MaxContentLine = 0, 10_000, 1000
	srv, err := New(cfg, Deps{Door: s.door, Auth: s.gate, Log: slog.New(slog.DiscardHandler), Events: noPanic{t}})
	if err != nil {
		t.Fatal(err)
	}
	s.Server = srv
	return s
}

// clientSide is what the clients of a dialogue send, more or less.
func clientSide(f *testing.F, file string) []byte {
	var b bytes.Buffer
	for line := range strings.SplitSeq(readFile(f, file), "\n") {
		text, ok := strings.CutPrefix(line, "C: ")
		end := "\r\n"
		if !ok {
			text, ok = strings.CutPrefix(line, "C- ")
			end = ""
		}
		if ok {
			text = strings.NewReplacer(`\r`, "\r", `\n`, "\n", `\0`, "\x00", "{base64:\\0alice\\0secret}", "AGFsaWNlAHNlY3JldA==").Replace(text)
			b.WriteString(text + end)
		}
	}
	return b.Bytes()
}
