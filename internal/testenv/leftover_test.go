package testenv_test

import (
	"bufio"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"dirpost/internal/child"
	"dirpost/internal/testenv"
)

// asVictim makes the test binary one that starts servers and waits to be killed.
const asVictim = "DIRPOST_TEST_VICTIM"

// TestVictim is the other process of TestNothingIsLeft.
func TestVictim(t *testing.T) {
	if os.Getenv(asVictim) == "" {
		return
	}
	url := testenv.PostgresURL(t)
	s := testenv.Slapd(t)
	if child.CanBeController() == nil {
		testenv.AD(t)
	}
	_, dir, _ := strings.Cut(url, "host=")
	dir, _, _ = strings.Cut(dir, "&")
	_, _ = os.Stdout.WriteString("up " + filepath.Dir(strings.ReplaceAll(dir, "%2F", "/")) + " " + s.URL + "\n")
	time.Sleep(time.Minute)
}

// TestNothingIsLeft: a test binary that is killed leaves neither processes nor a
// directory.
func TestNothingIsLeft(t *testing.T) {
	t.Parallel()
	cmd := exec.Command(os.Args[0], "-test.run=^TestVictim$", "-test.v")
	cmd.Env = append(os.Environ(), asVictim+"=1")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	dir := ""
	for lines := bufio.NewScanner(out); dir == "" && lines.Scan(); {
		if rest, ok := strings.CutPrefix(lines.Text(), "up "); ok {
			dir, _, _ = strings.Cut(rest, " ")
		}
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	if dir == "" || !strings.Contains(dir, "dptest-") {
		t.Fatalf("the other process did not come up: %q", dir)
	}
	deadline := time.Now().Add(30 * time.Second)
	for {
		left := running(dir)
		_, err := os.Stat(dir)
		if len(left) == 0 && os.IsNotExist(err) {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("left behind: %s (%v), %q", dir, err, left)
		}
		time.Sleep(20 * time.Millisecond) // they end by themselves, and can only be watched
	}
}

// running returns the command lines of processes that name dir, and those of
// Samba, which are titles, of processes that have files open there.
func running(dir string) (found []string) {
	all, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, p := range all {
		b, err := os.ReadFile(p)
		if err == nil && (strings.Contains(string(b), dir+"/") || strings.HasPrefix(string(b), "samba: ") && hasOpen(filepath.Dir(p), dir)) {
			found = append(found, strings.ReplaceAll(string(b), "\x00", " "))
		}
	}
	return found
}

func hasOpen(proc, dir string) bool {
	links, _ := filepath.Glob(proc + "/fd/*")
	return slices.ContainsFunc(links, func(l string) bool {
		to, err := os.Readlink(l)
		return err == nil && strings.HasPrefix(to, dir+"/")
	})
}
