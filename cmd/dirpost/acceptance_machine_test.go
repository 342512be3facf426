//go:build acceptance

package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// A machine is a Debian of its own below a directory, with processes and mounts of its
// own and the network of whoever starts it. No service manager runs in it: its first
// process does nothing.
type machine struct {
	t    *testing.T
	root string
	pid  int // of its first process
}

// newMachine starts the Debian below root. What runs in it ends with the test.
func newMachine(t *testing.T, root string) *machine {
	t.Helper()
	first := exec.Command("unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", "-euc", `
mount --make-rprivate /
mount --rbind /dev "$0/dev"
mount -t proc proc "$0/proc"
mount -t tmpfs tmpfs "$0/run"
mount -t tmpfs tmpfs "$0/tmp"
chmod 1777 "$0/tmp"
exec chroot "$0" sleep infinity`, root)
	begin(t, first)
	m := &machine{t: t, root: root}
	children := fmt.Sprintf("/proc/%d/task/%[1]d/children", first.Process.Pid)
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
		b, err := os.ReadFile(children)
		if m.pid, _ = strconv.Atoi(strings.TrimSpace(string(b))); m.pid != 0 {
			if name, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", m.pid)); err == nil && string(name) == "sleep\n" {
				return m
			}
		}
		if time.Now().After(deadline) {
			t.Fatalf("the machine does not start: %v", err)
		}
	}
}

// command is a command line of root's in the machine.
func (m *machine) command(line string) *exec.Cmd {
	return exec.CommandContext(m.t.Context(), "nsenter", "--target", strconv.Itoa(m.pid), "--mount", "--pid", "--root", "--wd",
		"env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "LANG=C.UTF-8", "DEBIAN_FRONTEND=noninteractive", "bash", "-c", line)
}

// run runs a command line that must succeed, shows it, and says how long it took.
func (m *machine) run(line string) (out string, took time.Duration) {
	m.t.Helper()
	cmd := m.command(line)
	var all bytes.Buffer
	cmd.Stdout, cmd.Stderr = &all, &all
	began := time.Now()
	err := cmd.Run()
	took = time.Since(began)
	m.t.Logf("# %s\n%s(%.1f s)", line, all.String(), took.Seconds())
	if err != nil {
		m.t.Fatalf("%s: %v", line, err)
	}
	return all.String(), took
}

// serve starts a command line that goes on until the test ends.
func (m *machine) serve(line string, log io.Writer) {
	m.t.Helper()
	m.t.Logf("# %s &", line)
	cmd := m.command(line)
	cmd.Stdout, cmd.Stderr = log, log
	begin(m.t, cmd)
}

// write writes a file of the machine.
func (m *machine) write(file, text string, mode os.FileMode) {
	m.t.Helper()
	path := filepath.Join(m.root, file)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		m.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		m.t.Fatal(err)
	}
}

// likeHere makes a new Debian use the archive, the proxies and the authorities of this
// one.
func likeHere(t *testing.T, root string) {
	t.Helper()
	output(t, "sh", "-euc", `
if ls /etc/apt/sources.list.d/* >/dev/null 2>&1; then rm -f "$0/etc/apt/sources.list"; fi
cp -a /etc/apt/sources.list* "$0/etc/apt/" 2>/dev/null || true
cp -a /etc/apt/apt.conf.d/. "$0/etc/apt/apt.conf.d/"
cp -a /usr/share/keyrings/. "$0/usr/share/keyrings/"
if [ -d /etc/apt/keyrings ]; then cp -a /etc/apt/keyrings "$0/etc/apt/"; fi
mkdir -p "$0/etc/ssl/certs"
cp -aL /etc/ssl/certs/. "$0/etc/ssl/certs/" 2>/dev/null || true
cp /etc/resolv.conf "$0/etc/resolv.conf"
cp /etc/hosts "$0/etc/hosts"`, root)
}
