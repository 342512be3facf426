package smtpd

import (
	"net"
	"path/filepath"
	"strings"
	"testing"

	"dirpost/internal/dialog"
)

func TestDialogs(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/*.dialog")
	if err != nil || len(files) == 0 {
		t.Fatalf("no dialogues: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".dialog"), func(t *testing.T) {
			t.Parallel()
			playDialog(t, file)
		})
	}
}

// playDialog plays file against a server made as its "given" lines say.
func playDialog(t *testing.T, file string) {
	var (
		role Role
		sets []func(*Config, *Deps)
		srv  *server
	)
	r := dialog.Runner{
		Given: func(text string) error { return given(text, &role, &sets) },
		Do:    func(text string) error { return srv.check(text) },
	}
	r.Dial = func(int) (net.Conn, error) {
		if srv == nil {
			srv = newServer(t, role, func(c *Config, d *Deps) {
				for _, set := range sets {
					set(c, d)
				}
			})
			r.TLS = srv.clientTLS()
		}
		return srv.pipe(t), nil
	}
	t.Cleanup(func() { // after the connections, which end later than the dialogue
		if n := srv.door.unfinished(); n != 0 {
			t.Errorf("%d transactions left open", n)
		}
	})
	r.Run(t, file)
}
