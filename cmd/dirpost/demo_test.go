package main

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"dirpost/internal/child"
	"dirpost/internal/testenv"
)

// A demoRun is a `dirpost demo` of its own.
type demoRun struct {
	cmd  *exec.Cmd
	out  *lockedBuffer
	done chan error
}

// startDemo starts the demo as a process.
func startDemo(t *testing.T, dir string, args ...string) *demoRun {
	t.Helper()
	r := &demoRun{cmd: exec.Command(os.Args[0], append([]string{"demo", "--dir", dir}, args...)...), out: new(lockedBuffer), done: make(chan error, 1)}
	r.cmd.Env = append(os.Environ(), asProgram+"=1", "LC_ALL=xx_XX.UTF-8") // a locale that is not there
	r.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	r.cmd.Stdout, r.cmd.Stderr = r.out, r.out
	if err := r.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { r.done <- r.cmd.Wait() }()
	t.Cleanup(func() { _ = r.cmd.Process.Kill() })
	return r
}

// env waits for demo.env, and reads it.
func (r *demoRun) env(t *testing.T, dir string) map[string]string {
	t.Helper()
	deadline := time.Now().Add(2 * time.Minute)
	for {
		b, err := os.ReadFile(filepath.Join(dir, "demo.env"))
		env := make(map[string]string)
		for _, m := range regexp.MustCompile(`(?m)^(DIRPOST_[A-Z0-9_]+)='(.*)'$`).FindAllStringSubmatch(string(b), -1) {
			env[m[1]] = m[2]
		}
		// One of another process was left by a run that was killed.
		if err == nil && env["DIRPOST_PID"] == fmt.Sprint(r.cmd.Process.Pid) {
			// A shell reads it too.
			if out, err := exec.Command("sh", "-eu", "-c", ". "+dir+`/demo.env; echo "$DIRPOST_HOST"`).CombinedOutput(); err != nil || strings.TrimSpace(string(out)) != env["DIRPOST_HOST"] {
				t.Errorf("a shell reads demo.env: %v: %s", err, out)
			}
			return env
		}
		select {
		case err := <-r.done:
			t.Fatalf("the demo ended: %v: %s", err, r.out.String())
		default:
		}
		if time.Now().After(deadline) {
			t.Fatal("the demo does not come up")
		}
		time.Sleep(20 * time.Millisecond) // a process of its own can only be asked
	}
}

// stop ends the demo and waits for it.
func (r *demoRun) stop(t *testing.T, sig syscall.Signal) error {
	t.Helper()
	if err := r.cmd.Process.Signal(sig); err != nil {
		t.Fatal(err)
	}
	return <-r.done
}

// portBase is such that all ports of a demo are free.
func portBase(t *testing.T, host string) int {
	t.Helper()
	for base := 10_000 + os.Getpid()%100*50; base < 21_000; base += 5000 { // below firstPort
		free := true
		for _, s := range append(append([]service(nil), services...), reserved...) {
			l, err := net.Listen("tcp", fmt.Sprintf("%s:%d", host, base+s.port))
			if err != nil {
				free = false
				break
			}
			_ = l.Close()
		}
		if free {
			return base
		}
	}
	t.Fatal("no free ports")
	return 0
}

// processes returns the command lines that name dir.
func processes(dir string) (found []string) {
	all, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, p := range all {
		if b, err := os.ReadFile(p); err == nil && bytes.Contains(b, []byte(dir+"/")) {
			found = append(found, strings.ReplaceAll(string(b), "\x00", " "))
		}
	}
	return found
}

// TestDemo: comes up, says what it promises, ends without a trace, comes up again
// with its mail, also after kill -9; a second one is told what is in its way.
func TestDemo(t *testing.T) {
	t.Parallel()
	testenv.Need(t, "slapd")
	dir := filepath.Join(shortDir(t), "d")
	if err := os.Chmod(filepath.Dir(dir), 0o755); err != nil {
		t.Fatal(err)
	}
	host := "127.0.0.1"
	base := fmt.Sprint(portBase(t, host))

	first := startDemo(t, dir, "--port-base", base, "--users", "3")
	env := first.env(t, dir)
	for _, key := range strings.Fields(`HOST SMTP_PORT SUBMISSION_PORT SUBMISSIONS_PORT IMAP_PORT IMAPS_PORT POP3_PORT POP3S_PORT LDAP_PORT HTTP_PORT HTTPS_PORT
		MANAGESIEVE_PORT LMTP_PORT CA_FILE DOMAIN LDAP_ADMIN_DN LDAP_ADMIN_PASSWORD LDAP_BASE USER_PASSWORD DATABASE_URL DIR PID CONFIG LDAP_URL`) {
		if env["DIRPOST_"+key] == "" {
			t.Errorf("demo.env has no DIRPOST_%s", key)
		}
	}
	if len(env) != 24 {
		t.Errorf("demo.env has %d values, want 24: %v", len(env), env)
	}
	if out, err := exec.Command("curl", "-sS", "--cacert", env["DIRPOST_CA_FILE"], "-u", "u00003:"+env["DIRPOST_USER_PASSWORD"],
		"imaps://"+host+":"+env["DIRPOST_IMAPS_PORT"]+"/INBOX", "-X", "STATUS INBOX (MESSAGES)").CombinedOutput(); err != nil || !strings.Contains(string(out), "MESSAGES 0") {
		t.Errorf("u00003 logs in: %v: %s", err, out)
	}

	// In its way: the same directory, the same ports.
	if err := <-startDemo(t, dir, "--port-base", "20000").done; err == nil {
		t.Error("two demos in one directory")
	}
	other := startDemo(t, dir+"2", "--port-base", base)
	if err := <-other.done; err == nil || !strings.Contains(other.out.String(), "--port-base") || !strings.Contains(other.out.String(), base[:2]) {
		t.Errorf("two demos on the same ports: %v: %s", err, other.out.String())
	}

	// kill -9 leaves nothing that stops the next start.
	if err := first.stop(t, syscall.SIGKILL); err == nil {
		t.Error("killed, and ended well")
	}
	second := startDemo(t, dir, "--port-base", base, "--users", "5")
	env = second.env(t, dir)
	if out, err := exec.Command("curl", "-sS", "--cacert", env["DIRPOST_CA_FILE"], "-u", "u00005:"+env["DIRPOST_USER_PASSWORD"],
		"imaps://"+host+":"+env["DIRPOST_IMAPS_PORT"]+"/INBOX", "-X", "STATUS INBOX (MESSAGES)").CombinedOutput(); err != nil || !strings.Contains(string(out), "MESSAGES 0") {
		t.Errorf("u00005, who came later, logs in: %v: %s", err, out)
	}
	if out, err := exec.Command("curl", "-sS", "--cacert", env["DIRPOST_CA_FILE"], "-u", "alice:"+env["DIRPOST_USER_PASSWORD"],
		"imaps://"+host+":"+env["DIRPOST_IMAPS_PORT"]+"/INBOX", "-X", "STATUS INBOX (MESSAGES)").CombinedOutput(); err != nil || !strings.Contains(string(out), "MESSAGES 2") {
		t.Errorf("alice has the mail of both self-checks: %v: %s", err, out)
	}
	managePage(t, env, false)

	// SIGTERM ends all of it.
	if err := second.stop(t, syscall.SIGTERM); err != nil {
		t.Errorf("ended with %v: %s", err, second.out.String())
	}
	if left := processes(dir); len(left) != 0 {
		t.Errorf("processes left behind: %q", left)
	}
	if _, err := os.Stat(filepath.Join(dir, "demo.env")); err == nil {
		t.Error("demo.env is left behind")
	}
}

// TestDemoAD: the same company on an Active Directory; the states of accounts that
// only a domain has, each with its answer; a change in the domain is followed.
func TestDemoAD(t *testing.T) {
	t.Parallel()
	if err := child.CanBeController(); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(shortDir(t), "d")
	if err := os.Chmod(filepath.Dir(dir), 0o755); err != nil {
		t.Fatal(err)
	}
	const host = "127.0.0.3" // TestDemo has the ports of 127.0.0.1
	args := []string{"--ad", "--ad-address", testenv.ADAddress(t), "--host", host, "--port-base", fmt.Sprint(portBase(t, host)), "--users", "2"}
	run := startDemo(t, dir, args...)
	env := run.env(t, dir)
	for _, key := range strings.Fields(`LDAP_PORT CA_FILE LDAP_ADMIN_DN LDAP_ADMIN_PASSWORD LDAP_BASE LDAP_URL AD_ADDRESS AD_HOST AD_REALM AD_DOMAIN AD_ADMIN KRB5_CONFIG AD_SMB_CONF`) {
		if env["DIRPOST_"+key] == "" {
			t.Errorf("demo.env has no DIRPOST_%s", key)
		}
	}
	curl := func(args ...string) string {
		out, _ := exec.Command("curl", append([]string{"-sSv", "--cacert", env["DIRPOST_CA_FILE"]}, args...)...).CombinedOutput()
		return string(out)
	}
	imap := "imaps://" + host + ":" + env["DIRPOST_IMAPS_PORT"] + "/"
	for who, want := range map[string]string{
		"alice": "Shared/office@corp.example", `CORP\bob`: "INBOX", "u00002@corp.example": "INBOX",
		"lola": "[AUTHENTICATIONFAILED]", "eve": "[CONTACTADMIN]", "mia": "[EXPIRED]", "dave": "[CONTACTADMIN]", "office": "[AUTHENTICATIONFAILED]",
	} {
		if out := curl("-u", who+":"+env["DIRPOST_USER_PASSWORD"], imap, "-X", `LIST "" "*"`); !strings.Contains(out, want) {
			t.Errorf("%s: want %s: %s", who, want, out)
		}
	}
	if out := command(t, env, "explain", "noor"); !strings.Contains(out, "1.0 GiB") {
		t.Errorf("noor's quota by a policy group: %s", out)
	}
	if out := command(t, env, "join", "status"); !strings.Contains(out, "MAIL$") {
		t.Errorf("join status: %s", out)
	}
	// The command of the report gives bob another address.
	_, alias, _ := strings.Cut(run.out.String(), "another address; mail for it is accepted at once\n")
	alias, _, _ = strings.Cut(alias, "\nCtrl-C")
	if out, err := exec.Command("sh", "-euc", alias).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v: %s", alias, err, out)
	}
	mail := filepath.Join(dir, "mail.eml")
	if err := os.WriteFile(mail, []byte("From: f@partner.example\r\nSubject: hi\r\n\r\nhi\r\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	deadline := time.Now().Add(time.Minute)
	for {
		out := curl("--mail-from", "f@partner.example", "--mail-rcpt", "builder@corp.example", "-T", mail, "smtp://"+host+":"+env["DIRPOST_SMTP_PORT"])
		if strings.Contains(out, "250 2.0.0") {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("the alias is not seen: %s", out)
		}
		time.Sleep(50 * time.Millisecond) // a process of its own can only be asked
	}
	managePage(t, env, true)
	if err := run.stop(t, syscall.SIGTERM); err != nil {
		t.Errorf("ended with %v: %s", err, run.out.String())
	}
	if left := processes(dir); len(left) != 0 {
		t.Errorf("processes left behind: %q", left)
	}
	again := startDemo(t, dir, args[:len(args)-2]...)
	again.env(t, dir)
	if err := again.stop(t, syscall.SIGTERM); err != nil {
		t.Errorf("ended again with %v: %s", err, again.out.String())
	}
}

// command runs dirpost on the configuration of a demo.
func command(t *testing.T, env map[string]string, args ...string) string {
	t.Helper()
	var out lockedBuffer
	if code := run(t.Context(), append([]string{"dirpost", "--config", env["DIRPOST_CONFIG"]}, args...), streams{strings.NewReader(""), &out, &out}); code != 0 {
		t.Errorf("dirpost %s: exit %d: %s", strings.Join(args, " "), code, out.String())
	}
	return out.String()
}
