package main

import (
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// A service manager opens the ports and hears of the server's state, by the
// protocols of sd_listen_fds(3) and sd_notify(3).
func TestSystemd(t *testing.T) {
	t.Parallel()
	s := newSystem(t, "")
	state, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: shortDir(t) + "/notify", Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer state.Close()

	// The process id must stand in the environment of the process: the shell becomes it.
	cmd := exec.Command("sh", "-c", `LISTEN_PID=$$ exec "$0" serve --config "$1"`, os.Args[0], s.config)
	cmd.Env = append(os.Environ(), asProgram+"=1", "NOTIFY_SOCKET="+state.LocalAddr().String())
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	var log strings.Builder
	cmd.Stderr = &log
	early := map[string]net.Conn{}
	for _, name := range []string{"smtp", "imap"} {
		early[name] = s.inherit(cmd, s.addr[name])
	}
	unused := s.inherit(cmd, "127.0.0.1:0")
	defer unused.Close()
	cmd.Env = append(cmd.Env, "LISTEN_FDS="+strconv.Itoa(len(cmd.ExtraFiles)))
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	for _, f := range cmd.ExtraFiles {
		f.Close() // the port is open as long as the process has it
	}
	hears := func(want string) {
		t.Helper()
		message := make([]byte, 512)
		state.SetReadDeadline(time.Now().Add(time.Minute))
		n, err := state.Read(message)
		if err != nil || string(message[:n]) != want {
			t.Fatalf("the service manager hears %q, %v; want %q\n%s", message[:n], err, want, log.String())
		}
	}

	hears("READY=1")
	for name, greeting := range map[string]string{"smtp": "220 ", "imap": "* OK "} {
		conn := early[name]
		line := make([]byte, 128)
		conn.SetReadDeadline(time.Now().Add(time.Minute))
		if n, err := conn.Read(line); err != nil || !strings.HasPrefix(string(line[:n]), greeting) {
			t.Errorf("who has connected to %s before the server was there is greeted with %q, %v", name, line[:n], err)
		}
		conn.Close()
	}
	s.eventually("mail is taken through the inherited port once the directory is read", func() bool {
		return s.deliver("ann@example.net", []string{"alice@corp.example"}, "Subject: x\r\n\r\nx\r\n") == nil
	})
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	hears("STOPPING=1")
	if err := cmd.Wait(); err != nil {
		t.Errorf("the server ends with %v", err)
	}
	if want := "no [[listener]] serves"; !strings.Contains(log.String(), want) {
		t.Errorf("the log does not say %q of the port that is too many:\n%s", want, log.String())
	}
}

// inherit opens a port that cmd will inherit, and a connection to it that waits.
func (s *system) inherit(cmd *exec.Cmd, address string) net.Conn {
	s.t.Helper()
	l, err := net.Listen("tcp", address)
	if err != nil {
		s.t.Fatal(err)
	}
	defer l.Close()
	f, err := l.(*net.TCPListener).File()
	if err != nil {
		s.t.Fatal(err)
	}
	cmd.ExtraFiles = append(cmd.ExtraFiles, f)
	conn, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		s.t.Fatal(err)
	}
	return conn
}

func TestSocketKey(t *testing.T) {
	t.Parallel()
	for address, want := range map[string]string{
		":25": "[::]:25", "[::]:25": "[::]:25", "[::]:smtp": "[::]:25", "0.0.0.0:25": "0.0.0.0:25", "127.0.0.1:10025": "127.0.0.1:10025", "nonsense": "nonsense",
	} {
		if got := socketKey(address); got != want {
			t.Errorf("socketKey(%q) = %q, want %q", address, got, want)
		}
	}
}
