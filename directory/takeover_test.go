package directory

import (
	"context"
	"log/slog"
	"os"
	"os/exec"
	"testing"
	"time"

	"dirpost/internal/testenv"
)

// feedURL is the database of TestFeedUntilKilled.
const feedURL = "DIRPOST_TEST_FEED"

// TestFeedUntilKilled is a process that feeds a directory until it is killed.
// TestTakeover runs it.
func TestFeedUntilKilled(t *testing.T) {
	url := os.Getenv(feedURL)
	if url == "" {
		t.Skip("the other process of TestTakeover")
	}
	s := newScript("a")
	f := NewFeeder(testenv.OpenDatabase(t, url), Open(Rules{}), []Source{s}, &topics{}, "victim", slog.New(slog.DiscardHandler))
	go func() {
		s.batches <- Batch{Begin: true, Changes: named("a", "one"), Complete: true, Vanish: true, At: time.Now()}
	}()
	_ = f.Run(t.Context())
}

// TestTakeover: a process that feeds is killed, and another one, which was waiting,
// feeds within ten seconds. Nobody told it.
func TestTakeover(t *testing.T) {
	t.Parallel()
	if leaseTime+takeEvery >= 10*time.Second {
		t.Fatalf("a lease of %v that is asked for every %v", leaseTime, takeEvery)
	}
	url := testenv.DatabaseURL(t)
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestFeedUntilKilled$")
	cmd.Env = append(os.Environ(), feedURL+"="+url)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	s := newScript("a")
	_, wait, _ := fed(t, testenv.OpenDatabase(t, url), &topics{})
	wait("the other process feeds", has("a:one"))
	_, wait, _ = fed(t, testenv.OpenDatabase(t, url), &topics{}, s)
	wait("this one follows", has("a:one"))
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	killed := time.Now()
	_ = cmd.Wait()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	select {
	case <-s.cookies:
		t.Logf("replaced after %v", time.Since(killed).Round(time.Millisecond))
	case <-ctx.Done():
		t.Fatal("not replaced after ten seconds")
	}
	s.batches <- Batch{Changes: named("a", "two")}
	wait("it feeds", has("a:one", "a:two"))
}
