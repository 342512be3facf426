package testenv

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// scratchPrefix begins the names of our directories in the directory for
// temporary files. They are short: Unix sockets live in them.
const scratchPrefix = "dptest-"

// scratch makes the directory of this test binary. It is locked as long as we
// live, and removed by a reaper when we do not: a test binary has no end of its
// own where it could clean up, least of all when it is killed.
var scratch = sync.OnceValues(func() (string, error) {
	base := os.TempDir()
	if len(base) > 40 {
		base = "/tmp"
	}
	removeStale(base)
	dir, err := os.MkdirTemp(base, scratchPrefix)
	if err != nil {
		return "", err
	}
	if err := os.Chmod(dir, 0o755); err != nil { // children of other users pass through
		return "", err
	}
	// The lock gets its name when it is held: a test binary that starts in this moment
	// would take one that is not for that of a dead one.
	lock, err := os.OpenFile(filepath.Join(dir, "unlocked"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return "", err
	}
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		return "", err
	}
	if err := os.Rename(lock.Name(), filepath.Join(dir, "lock")); err != nil {
		return "", err
	}
	if err := startReaper(dir); err != nil {
		return "", err
	}
	keep(lock) // the lock is held until the process is gone
	return dir, nil
})

// kept holds what must not be closed by the garbage collector.
var kept struct {
	sync.Mutex
	files []*os.File
}

func keep(f *os.File) {
	kept.Lock()
	defer kept.Unlock()
	kept.files = append(kept.files, f)
}

// reaperScript waits for the end of its input, which is our end, kills what
// still runs from the directory (the children have had their signal already)
// and removes it. Samba writes a title over its command line: the files that it
// has open must tell.
const reaperScript = `trap '' HUP INT TERM
ours() {
	tr '\0' ' ' 2>/dev/null <"/proc/$1/cmdline" | grep -q -F "$dir/" ||
		{ grep -q '^samba' "/proc/$1/comm" && ls -l "/proc/$1/fd" | grep -q -F "$dir/"; } 2>/dev/null
}
dir=$1
read -r _
for f in "$1"/*/data/postmaster.pid "$1"/*/slapd.pid "$1"/*/run/samba.pid; do
	[ -r "$f" ] || continue
	pid=$(head -n 1 "$f")
	n=0
	while ours "$pid" && [ $n -lt 50 ]; do sleep 0.05; n=$((n+1)); done
	ours "$pid" && kill -9 "$pid"
done
rm -rf "$1" || { sleep 1; rm -rf "$1"; }`

// startReaper starts the process that outlives us just long enough.
func startReaper(dir string) error {
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	cmd := exec.Command("/bin/sh", "-c", reaperScript, "sh", dir)
	cmd.Stdin = r
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // the terminal's Ctrl-C is not for it
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start the reaper of %s: %w", dir, err)
	}
	keep(w)
	_ = r.Close()
	go func() { _ = cmd.Wait() }()
	return nil
}

// removeStale removes the directories of test binaries that are gone, should
// their reaper have been killed too.
func removeStale(base string) {
	dirs, err := filepath.Glob(filepath.Join(base, scratchPrefix+"*"))
	if err != nil {
		return
	}
	for _, dir := range dirs {
		lock, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_RDWR, 0)
		if err != nil {
			continue // not ours, or being made this moment
		}
		if syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) == nil {
			killStale(dir)
			_ = os.RemoveAll(dir)
		}
		_ = lock.Close()
	}
}

// killStale kills processes whose command line names dir, and those of Samba
// that have files open there.
func killStale(dir string) {
	procs, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, p := range procs {
		b, err := os.ReadFile(p)
		if err != nil || !strings.Contains(string(b), dir+"/") && !(strings.HasPrefix(string(b), "samba: ") && worksIn(filepath.Dir(p), dir)) {
			continue
		}
		var pid int
		if _, err := fmt.Sscanf(p, "/proc/%d/cmdline", &pid); err == nil && pid != os.Getpid() {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
	}
}

// worksIn reports whether the process proc, such as /proc/1, has a file below dir
// open.
func worksIn(proc, dir string) bool {
	links, _ := filepath.Glob(proc + "/fd/*")
	return slices.ContainsFunc(links, func(l string) bool {
		to, err := os.Readlink(l)
		return err == nil && strings.HasPrefix(to, dir+"/")
	})
}

// Need fails the test when a program is missing, with the line that installs
// it. It returns the program's path. Tests are never skipped for want of a peer.
func Need(t testing.TB, program string) string {
	t.Helper()
	for _, dir := range []string{"", "/usr/sbin/", "/sbin/", "/usr/local/sbin/"} {
		if path, err := exec.LookPath(dir + program); err == nil {
			return path
		}
	}
	t.Fatalf("the program %s is missing; deploy/install-packages.sh run test installs it", program)
	return ""
}
