package main

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"dirpost/internal/testenv"
)

// TestFileAccess: what a configuration needs, and nothing that it does not name.
func TestFileAccess(t *testing.T) {
	t.Parallel()
	all := strings.NewReplacer(
		`#sealing_key = "file:/etc/dirpost/sealing.key"`, `sealing_key = "file:/srv/keys/sealing.key"`,
		`bind_password = "file:/etc/dirpost/ldap.password"`, `bind_password = "credential:ldap"`,
		`#ca = "/etc/dirpost/ldap-ca.pem"`, `ca = "/srv/ca/ldap.pem"`,
		"/etc/dirpost/tls/fullchain.pem", "/etc/letsencrypt/live/mail/fullchain.pem",
		"/etc/dirpost/tls/key.pem", "/key.pem",
		`user=dirpost_serve"`, `user=dirpost_serve&passfile=/srv/db/pass"`,
		`#path = "/var/spool/postfix/dirpost/auth"`, `path = "/var/spool/postfix/dirpost/auth"`,
	).Replace(exampleTOML)
	f, err := parseConfig([]byte(all))
	if err != nil {
		t.Fatal(err)
	}
	env := map[string]string{"CREDENTIALS_DIRECTORY": "/run/credentials/dirpost.service", "HOME": "/var/lib/dirpost", "SSL_CERT_DIR": "/srv/roots:/srv/more"}
	links := map[string]string{"/etc/letsencrypt/live/mail/fullchain.pem": "/etc/letsencrypt/archive/mail/fullchain7.pem", "/etc/resolv.conf": "/run/systemd/resolve/stub-resolv.conf"}
	got := f.fileAccess("/srv/config/dirpost.toml", host{func(k string) string { return env[k] }, func(p string) (string, error) {
		if to := links[p]; to != "" {
			return to, nil
		}
		return "", fs.ErrNotExist
	}})
	is := func(what string, got []string, want ...string) {
		t.Helper()
		slices.Sort(want)
		if !slices.Equal(got, want) {
			t.Errorf("%s: %q, want %q", what, got, want)
		}
	}
	is("directories", got.read, append([]string{
		"/srv/config", "/srv/keys", "/srv/ca", "/srv/db", "/srv/roots", "/srv/more", "/run/credentials/dirpost.service", "/var/lib/dirpost/.postgresql",
		"/etc/letsencrypt/live/mail", "/etc/letsencrypt/archive/mail", "/run/systemd/resolve",
	}, systemDirs...)...)
	is("files", got.files, "/key.pem", "/srv/db/pass", "/var/lib/dirpost/.pgpass", "/dev/urandom")
	is("sockets", got.sockets, "/run/dirpost", "/var/spool/postfix/dirpost")
	closed := f.fileAccess("/srv/config/dirpost.toml", host{func(k string) string { return env[k] }, func(string) (string, error) { return "", fs.ErrPermission }})
	if slices.Contains(closed.files, "/var/lib/dirpost/.pgpass") || slices.Contains(closed.read, "/var/lib/dirpost/.postgresql") {
		t.Errorf("access to a home that may not be entered: %q, %q", closed.files, closed.read)
	}
	is("written", got.write)
	if err := (SystemSection{Landlock: "yes"}).validate(); err == nil {
		t.Error("landlock = \"yes\" is taken")
	}
}

// TestFileAccessIsComplete: whatever file a key of the configuration names, a confined
// node can read it, or make its socket there.
func TestFileAccessIsComplete(t *testing.T) {
	t.Parallel()
	var dirs []string
	all := regexp.MustCompile(`(?m)^#([a-z_]+ = |\[\[)`).ReplaceAllString(exampleTOML, "$1")
	all = regexp.MustCompile(`(?m)^urls = .*\n`).ReplaceAllString(all, "")                                // discover stands for it
	all += "\n[directory.branch]\nurls = [\"ldaps://branch.example\"]\nbase = \"dc=branch,dc=example\"\n" // which directories names
	all = regexp.MustCompile(`(?m)^([a-z_]+ = .*?)"(file:)?/[^"]*"`).ReplaceAllStringFunc(all, func(line string) string {
		key, _, _ := strings.Cut(line, " =")
		dir := fmt.Sprintf("/srv/%d-%s", len(dirs), key)
		dirs = append(dirs, dir)
		return regexp.MustCompile(`"(file:)?/[^"]*"`).ReplaceAllString(line, `"${1}`+dir+`/file"`)
	})
	if len(dirs) < 15 {
		t.Fatalf("the example names %d files only: %q", len(dirs), dirs)
	}
	f, err := parseConfig([]byte(all))
	if err != nil {
		t.Fatal(err)
	}
	a := f.fileAccess("/etc/dirpost/dirpost.toml", host{func(string) string { return "" }, func(string) (string, error) { return "", fs.ErrNotExist }})
	for _, dir := range dirs {
		if !slices.Contains(a.read, dir) && !slices.Contains(a.sockets, dir) {
			t.Errorf("a confined node can do nothing in %s, which a key names", dir)
		}
	}
}

// TestUnitAllowsLandlock: the system calls of Landlock are in no group of the filter
// that every systemd has, so the unit must name them.
func TestUnitAllowsLandlock(t *testing.T) {
	t.Parallel()
	b, err := os.ReadFile("../../deploy/deb/dirpost.service")
	if err != nil {
		t.Fatal(err)
	}
	allowed := map[string]bool{}
	for line := range strings.Lines(string(b)) {
		list, ok := strings.CutPrefix(strings.TrimSpace(line), "SystemCallFilter=")
		for call := range strings.FieldsSeq(strings.TrimPrefix(list, "~")) {
			allowed[call] = ok && !strings.HasPrefix(list, "~")
		}
	}
	for _, call := range []string{"landlock_create_ruleset", "landlock_add_rule", "landlock_restrict_self"} {
		if !allowed[call] {
			t.Errorf("the unit does not allow %s", call)
		}
	}
}

// confinedChild makes a run of the test binary the process that TestConfine looks
// at: it is told in it which directory is its own.
const confinedChild = "DIRPOST_TEST_CONFINED"

// TestConfine: what a confined process can do, and what not, root included.
func TestConfine(t *testing.T) {
	if dir := os.Getenv(confinedChild); dir != "" {
		confinedSteps(dir)
		return
	}
	t.Parallel()
	if landlockVersion() == 0 {
		t.Skip("the kernel has no Landlock (lsm=landlock on its command line switches it on): the rules are tested by TestFileAccess alone")
	}
	dir := shortDir(t)
	for _, d := range []string{"config", "sock", "write", "secret"} {
		if err := os.Mkdir(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"config/a", "secret/a", "write/a"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	outside, err := net.Listen("unix", filepath.Join(dir, "secret", "postgres"))
	if err != nil {
		t.Fatal(err)
	}
	defer outside.Close()
	cmd := exec.Command(os.Args[0], "-test.run=^TestConfine$")
	cmd.Env = append(os.Environ(), confinedChild+"="+dir)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	want := `read a file of the configuration: done
read another file: refused
list another directory: refused
write into the configuration: refused
make a socket: done
replace it: done
make a file beside it: refused
write where it may: done
delete there: done
write elsewhere: refused
connect to a socket elsewhere: done
listen on a port: done
start a program: refused
`
	if got, _, _ := strings.Cut(string(out), "PASS"); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// confinedSteps confines this process and tries what should and should not go.
func confinedSteps(dir string) {
	at := func(name string) string { return filepath.Join(dir, name) }
	a := fileAccess{read: []string{at("config"), "/nowhere"}, sockets: []string{at("sock")}, write: []string{at("write")}}
	if v, err := (SystemSection{Landlock: landlockRequired}).confine(a); err != nil || v == 0 {
		fmt.Println("confine:", v, err)
		return
	}
	say := func(what string, err error) {
		switch {
		case err == nil:
			fmt.Println(what + ": done")
		case errors.Is(err, fs.ErrPermission):
			fmt.Println(what + ": refused")
		default:
			fmt.Println(what+":", err)
		}
	}
	read := func(name string) error { _, err := os.ReadFile(at(name)); return err }
	say("read a file of the configuration", read("config/a"))
	say("read another file", read("secret/a"))
	_, err := os.ReadDir(at("secret"))
	say("list another directory", err)
	say("write into the configuration", os.WriteFile(at("config/b"), []byte("x"), 0o600))
	for _, what := range []string{"make a socket", "replace it"} {
		l, err := listenUnix(at("sock/local"), socketAccess{mode: 0o666, uid: -1, gid: -1})
		if err == nil {
			err = l.Close()
		}
		say(what, err)
	}
	say("make a file beside it", os.WriteFile(at("sock/file"), []byte("x"), 0o600))
	say("write where it may", os.WriteFile(at("write/a"), []byte("y"), 0o600))
	say("delete there", os.Remove(at("write/a")))
	say("write elsewhere", os.WriteFile(at("secret/b"), []byte("x"), 0o600))
	conn, err := net.Dial("unix", at("secret/postgres"))
	if err == nil {
		err = conn.Close()
	}
	say("connect to a socket elsewhere", err)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err == nil {
		err = l.Close()
	}
	say("listen on a port", err)
	say("start a program", exec.Command("/bin/true").Run())
}

// TestServeConfined: a node that has given up its rights takes and hands out mail, by
// its socket too, and reads configuration and certificates again that others have put
// in the place of those it has started with. A directory that it did not know then it
// cannot read, and says why.
func TestServeConfined(t *testing.T) {
	t.Parallel()
	if landlockVersion() == 0 {
		t.Skip("the kernel has no Landlock (lsm=landlock on its command line switches it on)")
	}
	s := newSystem(t, "")
	s.change("[log]", "[system]\nlandlock = \"required\"\n[log]")
	p := s.confined()
	p.await("access to files is restricted by Landlock")
	if !strings.Contains(p.metrics(), landlockMetric+" ") || strings.Contains(p.metrics(), landlockMetric+" 0\n") {
		t.Error("the metric does not say that Landlock is in force")
	}
	if out := s.command(0, "doctor", "--only=system"); !strings.Contains(out, "restricts the node that runs here") {
		t.Errorf("doctor says %s", out)
	}
	awaitTaken(t, func() error { return s.deliver("friend@partner.example", []string{"bob@corp.example"}, plain) })
	if code := sendmail(t.Context(), []string{"sendmail", "-C", s.config, "bob@corp.example"}, streams{strings.NewReader("Subject: from cron\n\nx\n"), p.out, p.out}); code != 0 {
		t.Errorf("sendmail ends with %d: %s", code, p.out.String())
	}
	s.await("bob", "INBOX", 2)

	replace := func(path string, text []byte) {
		t.Helper()
		if err := os.WriteFile(path+".new", text, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(path+".new", path); err != nil {
			t.Fatal(err)
		}
	}
	next := testenv.Certificate(t, "localhost", "127.0.0.1", "new.corp.example")
	for from, to := range map[string]string{next.CertFile: s.cert.CertFile, next.KeyFile: s.cert.KeyFile} {
		b, err := os.ReadFile(from)
		if err != nil {
			t.Fatal(err)
		}
		replace(to, b)
	}
	text, err := os.ReadFile(s.config)
	if err != nil {
		t.Fatal(err)
	}
	replace(s.config, []byte(strings.Replace(string(text), "[mra]", "", 1)+"[mra]\nmax_per_person = 7\n"))
	p.hup()
	p.await("configuration reloaded")
	if c := s.login("bob"); c.Noop().Wait() != nil {
		t.Error("nobody can log in after the reload")
	}
	if code := sendmail(t.Context(), []string{"sendmail", "-C", s.config, "bob@corp.example"}, streams{strings.NewReader("Subject: again\n\nx\n"), p.out, p.out}); code != 0 {
		t.Errorf("sendmail after the reload ends with %d: %s", code, p.out.String())
	}

	elsewhere := testenv.Certificate(t)
	replace(s.config, []byte(strings.Replace(string(text), s.cert.CertFile, elsewhere.CertFile, 1)))
	p.hup()
	p.await("restart it for others")
	if c := s.login("bob"); c.Noop().Wait() != nil {
		t.Error("nobody can log in after a reload that failed")
	}
}

// confinedNode is a node in a process of its own.
type confinedNode struct {
	s   *system
	cmd *exec.Cmd
	out *lockedBuffer
}

func (s *system) confined() *confinedNode {
	s.t.Helper()
	p := &confinedNode{s: s, cmd: exec.Command(os.Args[0], "serve", "--config", s.config), out: new(lockedBuffer)}
	p.cmd.Env = append(os.Environ(), asProgram+"=1")
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	p.cmd.Stderr = p.out
	if err := p.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() {
		_ = p.cmd.Process.Kill()
		_ = p.cmd.Wait()
	})
	awaitTaken(s.t, func() error {
		conn, err := net.Dial("tcp", s.addr["smtp"])
		if err != nil {
			return fmt.Errorf("%w: %s", err, p.out.String())
		}
		return conn.Close()
	})
	return p
}

func (p *confinedNode) hup() {
	p.s.t.Helper()
	if err := p.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		p.s.t.Fatal(err)
	}
}

// await waits for a line of the log.
func (p *confinedNode) await(text string) {
	p.s.t.Helper()
	awaitTaken(p.s.t, func() error {
		if !strings.Contains(p.out.String(), text) {
			return fmt.Errorf("the log does not say %q: %s", text, p.out.String())
		}
		return nil
	})
}

// metrics is what the node measures.
func (p *confinedNode) metrics() string {
	p.s.t.Helper()
	text, err := readMetrics(p.s.t.Context(), p.s.file)
	if err != nil {
		p.s.t.Fatal(err)
	}
	return text
}

// awaitTaken waits until f has no error.
func awaitTaken(t *testing.T, f func() error) {
	t.Helper()
	deadline := time.Now().Add(time.Minute)
	for {
		err := f()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
		time.Sleep(20 * time.Millisecond) // a process of its own can only be asked
	}
}
