//go:build acceptance

package main

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"dirpost/internal/testenv"
)

// previousCommit is the last commit whose schema is the beginning of this one: what a
// site has that upgrades to this version.
func previousCommit(t *testing.T) string {
	t.Helper()
	schema := func(commit string) map[string]string {
		files := map[string]string{}
		for line := range strings.Lines(output(t, "git", "-C", "../..", "ls-tree", commit, "schema/postgres/")) {
			if f := strings.Fields(line); strings.HasSuffix(f[3], ".sql") {
				files[f[3]] = f[2]
			}
		}
		return files
	}
	now := schema("HEAD")
	for _, c := range strings.Fields(output(t, "git", "-C", "../..", "log", "--format=%H", "--", "schema/postgres")) {
		before := schema(c + "^")
		same := len(before) > 0 && len(before) < len(now)
		for name, blob := range before {
			same = same && now[name] == blob
		}
		if same {
			return c + "^"
		}
	}
	t.Fatal("no commit has the schema of a previous version: the test needs the history of the repository")
	return ""
}

// previousProgram builds the program of the previous version.
func previousProgram(t *testing.T) string {
	t.Helper()
	commit, dir := previousCommit(t), t.TempDir()
	output(t, "sh", "-c", `git -C ../.. archive "$0" | tar -x -C "$1"`, commit, dir)
	path := filepath.Join(dir, "dirpost-before")
	output(t, "go", "build", "-C", dir, "-buildvcs=false", "-o", path, "./cmd/dirpost")
	t.Logf("the previous version is %s", strings.TrimSpace(output(t, "git", "-C", "../..", "log", "-1", "--format=%h of %ci: %s", commit)))
	return path
}

// unit is a node as systemd runs it: the ports were opened before, and stay open while
// its program is replaced.
type unit struct {
	*system
	files   []*os.File // sockets that listen
	state   *net.UnixConn
	program *exec.Cmd
	log     *lockedBuffer
}

// newUnit opens the ports of a system.
func newUnit(s *system) *unit {
	s.t.Helper()
	u := &unit{system: s, log: new(lockedBuffer)}
	for _, addr := range s.addr {
		l, err := net.Listen("tcp", addr)
		if err != nil {
			s.t.Fatal(err)
		}
		f, err := l.(*net.TCPListener).File()
		if err != nil {
			s.t.Fatal(err)
		}
		_ = l.Close() // f is another name of it
		u.files = append(u.files, f)
		s.t.Cleanup(func() { _ = f.Close() })
	}
	var err error
	if u.state, err = net.ListenUnixgram("unixgram", &net.UnixAddr{Name: filepath.Join(s.dir, "notify"), Net: "unixgram"}); err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { _ = u.state.Close() })
	return u
}

// run starts a program with a configuration, and returns when it says that it serves.
func (u *unit) run(program, config string) {
	u.t.Helper()
	cmd := exec.Command("sh", "-c", `LISTEN_PID=$$ exec "$0" serve --config "$1"`, program, config)
	cmd.Env = append(os.Environ(), asProgram+"=1", "NOTIFY_SOCKET="+u.state.LocalAddr().String(), "LISTEN_FDS="+strconv.Itoa(len(u.files)))
	cmd.ExtraFiles, cmd.Stderr = u.files, u.log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		u.t.Fatal(err)
	}
	u.program = cmd
	u.t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	u.hear("READY=1")
}

// hear waits for what the program tells its service manager.
func (u *unit) hear(want string) {
	u.t.Helper()
	message := make([]byte, 512)
	_ = u.state.SetReadDeadline(time.Now().Add(time.Minute))
	if n, err := u.state.Read(message); err != nil || string(message[:n]) != want {
		u.t.Fatalf("the service manager hears %q, %v; want %q\n%s", message[:n], err, want, u.log.String())
	}
}

// end tells the program to end, calls meanwhile when it has begun to, and waits.
func (u *unit) end(meanwhile func()) {
	u.t.Helper()
	if err := u.program.Process.Signal(syscall.SIGTERM); err != nil {
		u.t.Fatal(err)
	}
	u.hear("STOPPING=1")
	meanwhile()
	start := time.Now()
	if err := u.program.Wait(); err != nil {
		u.t.Errorf("the program ends with %v\n%s", err, u.log.String())
	}
	u.t.Logf("it has ended %v later", time.Since(start).Round(time.Millisecond))
}

var unknownKey = regexp.MustCompile(`line (\d+): there is no key`)

// configFor is the configuration of s without what the program does not know.
func (s *system) configFor(program string) string {
	s.t.Helper()
	path := filepath.Join(s.dir, "before.toml")
	lines := strings.Split(mustRead(s.t, s.config), "\n")
	for range 20 {
		mustWrite(s.t, path, strings.Join(lines, "\n"), 0o600)
		out, err := exec.Command(program, "config", "check", "--offline", "--config", path).CombinedOutput()
		if err == nil {
			return path
		}
		unknown := unknownKey.FindAllSubmatch(out, -1)
		if unknown == nil {
			s.t.Fatalf("config check of the previous version: %s", out)
		}
		for _, m := range unknown {
			n, _ := strconv.Atoi(string(m[1]))
			lines[n-1] = ""
		}
	}
	s.t.Fatal("the previous version takes no configuration of this one")
	return ""
}

// TestAcceptanceUpgrade: two nodes of the previous version are replaced by this one,
// one after the other, while mail comes in and is read. Every message that was
// answered with 250 is found exactly once. No client is refused a connection, and none
// is cut off by this version in the middle of a message or an answer, when both nodes
// are restarted at the end.
func TestAcceptanceUpgrade(t *testing.T) {
	before := previousProgram(t)
	url := testenv.DurablePostgresURL(t)
	s := newSystemOn(t, strings.Replace(url, "postgres://postgres@", "postgres://dirpost_serve@", 1), "")
	s.change("[database]\n", fmt.Sprintf("[database]\nowner_url = %q\n", url))
	sibling := s.sibling()
	nodes := [2]*unit{newUnit(s), newUnit(sibling)}
	configs := [2]string{s.configFor(before), sibling.configFor(before)}
	output(t, before, "migrate", "--config", configs[0])
	for i, u := range nodes {
		u.run(before, configs[i])
	}
	s.eventually("the administrator has looked", func() bool {
		return exec.Command(before, "directory", "check", "--accept", "--config", configs[0]).Run() == nil
	})
	l := startLoad(t, nodes)
	l.previous.Store(true)
	l.until(t, 200)

	plan := s.command(0, "migrate", "--plan")
	t.Logf("dirpost migrate --plan:\n%s", plan)
	if n := strings.Count(plan, "nodes of the version before go on working\n"); n == 0 || n != strings.Count(plan, "\n") {
		t.Errorf("the schema of this version is not for nodes of the version before")
	}
	s.command(0, "migrate")
	l.until(t, 200) // by nodes of the previous version on the schema of this one

	now := os.Args[0]
	if err := exec.Command(before, "config", "check", "--config", configs[0]).Run(); err == nil {
		t.Log("a node of the previous version is started again, on the schema of this one")
		l.replace(t, nodes[0], before, configs[0])
	}
	for i, u := range nodes {
		t.Logf("node %d gets this version", i+1)
		l.replace(t, u, now, u.config)
	}
	l.until(t, 200)
	l.previous.Store(false)
	for i, u := range nodes {
		t.Logf("node %d is restarted", i+1)
		l.replace(t, u, now, u.config)
	}
	l.finish(t)
}
