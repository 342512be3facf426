package nonblock

import (
	"io"
	"net"
	"testing"
	"time"
)

// The last words arrive, although the other side was in the middle of a sentence.
func TestHangUp(t *testing.T) {
	t.Parallel()
	for _, network := range []string{"tcp", "unix"} {
		client, server := pair(t, network)
		server = Conn(server)
		if _, err := client.Write(make([]byte, 10_000)); err != nil {
			t.Fatal(err)
		}
		over := make(chan struct{})
		go func() {
			defer close(over)
			if _, err := io.WriteString(server, "bye"); err != nil {
				t.Error(err)
			}
			HangUp(server, time.Minute)
			if err := server.Close(); err != nil {
				t.Error(err)
			}
		}()
		if _, err := client.Write(make([]byte, 10_000)); err != nil {
			t.Fatal(err)
		}
		if b, err := io.ReadAll(client); err != nil || string(b) != "bye" {
			t.Errorf("%s: %q, %v", network, b, err)
		}
		client.Close()
		<-over
	}
	a, b := net.Pipe()
	defer b.Close()
	HangUp(a, time.Minute) // has no halves
	a.Close()
}
