package pop3d

import (
	"context"
	"crypto/tls"
	"io"
	"log/slog"
	"net"
	"testing"
	"time"

	"dirpost/internal/dialog"
	"dirpost/mra"
)

// A handshake that a shutdown finds under way comes to its end: behind it there is a
// place for words.
func TestShutdownWithinHandshake(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	server := mra.NewServer("pop3", mra.Config{ShutdownGrace: time.Hour}, w.serverTLS, w, slog.New(slog.DiscardHandler))
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	over := make(chan error, 1)
	go func() { over <- server.Serve(ctx, l, false) }()
	conn, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	dialog.Expect(t, conn, "+OK *")
	if _, err := io.WriteString(conn, "STLS\r\n"); err != nil {
		t.Fatal(err)
	}
	dialog.Expect(t, conn, "+OK *")
	cancel()
	secure := tls.Client(conn, w.tls)
	dialog.Expect(t, secure, "-ERR [SYS/TEMP] *")
	if rest, err := io.ReadAll(secure); err != nil || len(rest) > 0 {
		t.Errorf("then %q, %v", rest, err)
	}
	conn.Close()
	if err := <-over; err != nil {
		t.Error(err)
	}
}
