package logging

import (
	"io"
	"sync"
	"time"
)

const (
	// together is how long a line may wait for others.
	together = 20 * time.Millisecond
	// maxBatch is how many octets are written at once, about.
	maxBatch = 32 << 10
)

// Batch writes the lines of a busy server together. A line that comes after some
// silence is written at once; those that follow within 20 ms are one write. At a
// thousand messages a second that is fifty system calls instead of two thousand,
// and as many wake-ups of whoever reads the log. A process that is killed takes
// at most 20 ms of its log with it; a logger of New writes warnings and errors at
// once, with everything before them.
//
// It may be used by any number of goroutines.
type Batch struct {
	w io.Writer

	mu    sync.Mutex // guards what follows
	lines []byte
	last  time.Time   // of a write
	later *time.Timer // writes lines; nil: nothing waits
}

// NewBatch returns a Batch that writes to w. Its owner calls Flush at the end.
func NewBatch(w io.Writer) *Batch { return &Batch{w: w} }

// Write takes whole lines. It reports no error: nobody could be told.
func (b *Batch) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.lines = append(b.lines, p...)
	switch {
	case b.later == nil && time.Since(b.last) >= together, len(b.lines) >= maxBatch:
		b.flushLocked()
	case b.later == nil:
		b.later = time.AfterFunc(together, b.Flush)
	}
	return len(p), nil
}

// Flush writes what waits.
func (b *Batch) Flush() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.flushLocked()
}

func (b *Batch) flushLocked() {
	if b.later != nil {
		b.later.Stop()
		b.later = nil
	}
	if len(b.lines) > 0 {
		_, _ = b.w.Write(b.lines)
		b.lines, b.last = b.lines[:0], time.Now()
	}
}
