package main

import (
	"io"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestDemoRefuses: what cannot be meant is said before anything is made.
func TestDemoRefuses(t *testing.T) {
	t.Parallel()
	dir := shortDir(t)
	other := filepath.Join(dir, "other")
	if err := os.Mkdir(other, 0o755); err != nil {
		t.Fatal(err)
	}
	mustWrite(t, filepath.Join(other, "file"), "mine", 0o600)
	for _, c := range []struct{ args, want string }{
		{"--dir=" + dir + "/my demo", "' ' is not safe"},
		{"--dir=" + dir + "/$x", "'$' is not safe"},
		{"--dir=" + dir + "/it's", "is not safe"},
		{"--dir=" + other, "choose another directory with --dir"},
		{"--host=mail.example", "must be one IP address"},
		{"--host=0.0.0.0", "must be one IP address"},
		{"--host=192.0.2.77", "no address of this machine"},
		{"--port-base=70000", "must be between"},
		{"--port-base=1", "must be between"},
	} {
		var out strings.Builder
		code := run(t.Context(), []string{"dirpost", "demo", "--dir", filepath.Join(dir, "d"), c.args}, streams{nil, &out, &out})
		if code != 1 || !strings.Contains(out.String(), c.want) || strings.Count(out.String(), "\n") != 1 {
			t.Errorf("%s: exit status %d, %s; want %s", c.args, code, out.String(), c.want)
		}
	}
}

// TestDemoPrepare: whom others can reach has a password that nobody knows, the same at
// each start; a shell reads demo.env whatever the directory is called; what a killed
// start has left half made is made again.
func TestDemoPrepare(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(shortDir(t), "it's $HOME")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	prepare := func(host string) *demo {
		t.Helper()
		d := &demo{demoOptions: demoOptions{dir: dir, host: host, portBase: 10000}, out: io.Discard}
		d.directory = demoSlapd{d}
		if err := d.prepare(netip.MustParseAddr(host)); err != nil {
			t.Fatal(err)
		}
		return d
	}
	first := prepare("192.0.2.1")
	if len(first.password) < 16 || first.password == loopbackPassword {
		t.Errorf("the password of all is %q", first.password)
	}
	mustWrite(t, first.path("secrets", "ldap-admin.part"), "", 0o600)
	if again := prepare("192.0.2.1"); again.password != first.password || again.secrets != first.secrets {
		t.Error("other passwords at the second start")
	}
	for _, host := range []string{"127.0.0.1", "127.0.0.9", "::1"} {
		if d := prepare(host); d.password != loopbackPassword {
			t.Errorf("on %s the password is %q", host, d.password)
		}
	}
	if err := first.writeEnv(); err != nil {
		t.Fatal(err)
	}
	out, err := exec.CommandContext(t.Context(), "sh", "-euc", `. "$0"; printf '%s|%s' "$DIRPOST_DIR" "$DIRPOST_USER_PASSWORD"`, first.path("demo.env")).CombinedOutput()
	if want := dir + "|" + first.password; err != nil || string(out) != want {
		t.Errorf("a shell reads %q, %v, want %q", out, err, want)
	}
	for _, secret := range []string{"demo.env", "secrets/ldap-admin", "secrets/people", "secrets/sealing.key", "secrets/ca-key.pem"} {
		if st, err := os.Stat(first.path(strings.Split(secret, "/")...)); err != nil || st.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", secret, st, err)
		}
	}
}
