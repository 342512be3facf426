package logging

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestBatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var w bytes.Buffer
		b := NewBatch(&w)
		log, _, err := New(b, Config{})
		if err != nil {
			t.Fatal(err)
		}
		lines := func(step string, want int) {
			t.Helper()
			synctest.Wait()
			b.mu.Lock()
			defer b.mu.Unlock()
			if got := strings.Count(w.String(), "\n"); got != want {
				t.Errorf("%s: %d lines are written, want %d", step, got, want)
			}
		}
		log.Info("one")
		lines("after silence", 1)
		log.Info("two")
		log.Info("three")
		lines("at once behind it", 1)
		time.Sleep(together)
		lines("20 ms later", 3)
		log.Info("four")
		log.Warn("five")
		lines("at a warning", 5)
		log.With("session", "x").Info("six")
		log.With("session", "x").Error("seven")
		lines("at an error of a narrowed logger", 7)
		log.Info("eight")
		b.Flush()
		lines("at the end", 8)
		time.Sleep(10 * together)
		log.Info("nine")
		lines("after silence again", 9)
		for range maxBatch - 1 {
			log.Info("more")
		}
		lines("before there is much", 9)
		log.Info("too much")
		lines("when there is much", 9+maxBatch)
		time.Sleep(10 * together)
		lines("with nothing to write", 9+maxBatch)
	})
}

// A record says what was so when it was logged, though it is rendered later.
func TestBatchSettles(t *testing.T) {
	var w bytes.Buffer
	b := NewBatch(&w)
	log, _, err := New(b, Config{})
	if err != nil {
		t.Fatal(err)
	}
	log.Info("first")
	reason := &changing{"before"}
	log.Info("second", slog.Any("err", reason), slog.Group("group", slog.Any("err", reason)), slog.Any("secret", Secret("x")))
	reason.text = "after"
	b.Write([]byte("raw\n"))
	b.Flush()
	if got := w.String(); !strings.Contains(got, " err=before group.err=before secret=[redacted]\nraw\n") {
		t.Errorf("the lines are\n%s", got)
	}
}

type changing struct{ text string }

func (c *changing) Error() string { return c.text }

// Order and wholeness of lines do not depend on how many write.
func TestBatchConcurrent(t *testing.T) {
	t.Parallel()
	var w bytes.Buffer
	b := NewBatch(&w)
	done := make(chan struct{})
	for range 4 {
		go func() {
			defer func() { done <- struct{}{} }()
			for i := range 500 {
				b.Write([]byte("a line\n"))
				if i%100 == 0 {
					b.Flush()
				}
			}
		}()
	}
	for range 4 {
		<-done
	}
	b.Flush()
	if got, want := w.String(), strings.Repeat("a line\n", 2000); got != want {
		t.Errorf("%d octets are written, want %d, or others", len(got), len(want))
	}
}

func BenchmarkBatch(b *testing.B) {
	log, _, err := New(NewBatch(discard{}), Config{})
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		log.Info("delivery", slog.String("queue_id", "x"))
	}
}

type discard struct{}

func (discard) Write(p []byte) (int, error) { return len(p), nil }
