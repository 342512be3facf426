package directory

import (
	"context"
	"sync/atomic"
	"testing"

	"dirpost/internal/testenv"
)

// fragile panics at its first entry, and then does what its script says.
type fragile struct {
	*script
	fell atomic.Bool
}

func (f *fragile) Follow(ctx context.Context, cookie []byte, emit func(context.Context, Batch) error) error {
	if !f.fell.Swap(true) {
		var e *Entry
		_ = e.Key // a bug that an entry brings out
	}
	return f.script.Follow(ctx, cookie, emit)
}

// TestPanic: a bug while a directory is followed neither ends the node nor what it
// knows of the others, and is tried again.
func TestPanic(t *testing.T) {
	t.Parallel()
	bad, good := &fragile{script: newScript("bad")}, newScript("good")
	_, wait, _ := fed(t, testenv.Database(t), &topics{}, bad, good)
	good.batches <- Batch{Begin: true, Changes: named("good", "alice"), Complete: true, Vanish: true}
	wait("alice, of the good directory", has("good:alice"))
	<-bad.cookies // it is followed again
	bad.batches <- Batch{Begin: true, Changes: named("bad", "bob"), Complete: true, Vanish: true}
	wait("bob, of the other one", has("bad:bob", "good:alice"))
}
