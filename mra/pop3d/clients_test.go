package pop3d

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"dirpost/internal/testenv"
	"dirpost/mra"
)

// listeners are POP3 and POP3S on free ports of the loopback.
type listeners struct {
	*world
	port, securePort string
	caFile           string
}

// listen serves a world on real sockets.
func listen(t testing.TB, w *world) *listeners {
	t.Helper()
	cert := testenv.Certificate(t)
	server := mra.NewServer("pop3", mra.Config{}, &tls.Config{Certificates: []tls.Certificate{cert.TLS}}, w, slog.New(slog.DiscardHandler))
	ctx, cancel := context.WithCancel(context.Background())
	over := make(chan error, 2)
	var ports [2]string
	for i, implicit := range []bool{false, true} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		ports[i] = strconv.Itoa(l.Addr().(*net.TCPAddr).Port)
		go func() { over <- server.Serve(ctx, l, implicit) }()
	}
	t.Cleanup(func() {
		cancel()
		for range 2 {
			if err := <-over; err != nil {
				t.Errorf("serve: %v", err)
			}
		}
	})
	return &listeners{w, ports[0], ports[1], cert.CAFile}
}

// Python's poplib, in clear with STLS and over TLS, reads what was delivered and
// deletes it.
func TestPoplib(t *testing.T) {
	t.Parallel()
	l := listen(t, newWorld(t))
	if err := l.deliver("alice", "Subject: one\r\n\r\n.dot\r\n", "Subject: =?utf-8?q?zw=C3=B6lf?=\r\n\r\nbody\r\n", large(200_000)); err != nil {
		t.Fatal(err)
	}
	out := run(t, testenv.Need(t, "python3"), "testdata/poplib_session.py", l.port, l.securePort, l.caFile, password)
	if want := "ok\n"; out != want {
		t.Errorf("%s", out)
	}
}

func TestCurl(t *testing.T) {
	t.Parallel()
	curl := testenv.Need(t, "curl")
	l := listen(t, newWorld(t))
	message := "Subject: one\r\n\r\n.dot\r\n" + strings.Repeat("line\r\n", 1000)
	if err := l.deliver("alice", message, message); err != nil {
		t.Fatal(err)
	}
	for name, url := range map[string]string{
		"pop3 with STLS": "pop3://127.0.0.1:" + l.port + "/1",
		"pop3s":          "pop3s://127.0.0.1:" + l.securePort + "/1",
	} {
		for _, login := range []string{"AUTH=PLAIN", "AUTH=LOGIN", ""} {
			t.Run(name+login, func(t *testing.T) {
				args := []string{"-sS", "--ssl-reqd", "--cacert", l.caFile, "-u", "alice:" + password, url}
				if login != "" {
					args = append(args, "--login-options", login)
				}
				if got := run(t, curl, args...); got != message {
					t.Errorf("%q", got)
				}
			})
		}
	}
	if got := run(t, curl, "-sS", "-l", "--ssl-reqd", "--cacert", l.caFile, "-u", "alice:"+password, "pop3://127.0.0.1:"+l.port+"/"); got != fmt.Sprintf("1 %d\r\n2 %[1]d\r\n", len(message)) {
		t.Errorf("LIST: %q", got)
	}
	if out, err := exec.Command(curl, "-sS", "-u", "alice:wrong", "pop3s://127.0.0.1:"+l.securePort+"/", "--cacert", l.caFile).CombinedOutput(); err == nil {
		t.Errorf("wrong password: %s", out)
	}
}

func run(t *testing.T, name string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Env = append(os.Environ(), "NO_PROXY=*")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v: %s", filepath.Base(name), err, out)
	}
	return string(out)
}
