package logging

import (
	"context"
	"io"
	"log/slog"
	"sync"
	"time"
)

const (
	// together is how long a line may wait for others.
	together = 20 * time.Millisecond
	// maxBatch is how many lines are written at once.
	maxBatch = 256
)

// Batch writes the lines of a busy server together. A line that comes after some
// silence is written at once; those that follow within 20 ms are one write. At a
// thousand messages a second that is fifty system calls instead of two thousand,
// and as many wake-ups of whoever reads the log. Records of a logger of New are
// rendered only then, so that no client waits for the wording of the log. A
// process that is killed takes at most 20 ms of its log with it; a logger of New
// writes warnings and errors at once, with everything before them.
//
// It may be used by any number of goroutines.
type Batch struct {
	w io.Writer

	mu    sync.Mutex // guards what follows
	lines []line
	last  time.Time   // of a write
	later *time.Timer // writes lines; nil: nothing waits

	// writing is held from the taking of lines until they are written, so that
	// they are written in their order.
	writing sync.Mutex
	spare   []line // lines has its memory in turn
	text    text   // what lines say
}

// line is one that waits: its text, or the record that it will be made of.
type line struct {
	text    []byte
	handler slog.Handler // writes to Batch.text
	record  slog.Record
}

// text collects what the handlers of a Batch write.
type text []byte

// Write implements io.Writer.
func (t *text) Write(p []byte) (int, error) {
	*t = append(*t, p...)
	return len(p), nil
}

// NewBatch returns a Batch that writes to w. Its owner calls Flush at the end.
func NewBatch(w io.Writer) *Batch { return &Batch{w: w} }

// Write takes whole lines. It reports no error: nobody could be told.
func (b *Batch) Write(p []byte) (int, error) {
	b.add(line{text: append([]byte{}, p...)})
	return len(p), nil
}

// add takes a line.
func (b *Batch) add(l line) {
	b.mu.Lock()
	b.lines = append(b.lines, l)
	now := b.later == nil && time.Since(b.last) >= together || len(b.lines) >= maxBatch
	if !now && b.later == nil {
		b.later = time.AfterFunc(together, b.Flush)
	}
	b.mu.Unlock()
	if now {
		b.Flush()
	}
}

// Flush writes what waits.
func (b *Batch) Flush() {
	b.writing.Lock()
	defer b.writing.Unlock()
	lines := b.take()
	if len(lines) == 0 {
		return
	}
	for i := range lines {
		if l := &lines[i]; l.handler != nil {
			// There is nobody to tell that it cannot be rendered.
			_ = l.handler.Handle(context.Background(), l.record)
		} else {
			b.text = append(b.text, l.text...)
		}
	}
	_, _ = b.w.Write(b.text)
	clear(lines)
	b.spare, b.text = lines[:0], b.text[:0]
}

// take returns what waits.
func (b *Batch) take() []line {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.later != nil {
		b.later.Stop()
		b.later = nil
	}
	lines := b.lines
	if len(lines) > 0 {
		b.lines, b.last = b.spare, time.Now()
	}
	return lines
}

// settle makes the values of r ones that do not change any more: a record is
// rendered after the event.
func settle(r slog.Record) slog.Record {
	plain := true
	r.Attrs(func(a slog.Attr) bool {
		plain = isPlain(a.Value)
		return plain
	})
	if plain {
		return r.Clone()
	}
	s := slog.NewRecord(r.Time, r.Level, r.Message, r.PC)
	r.Attrs(func(a slog.Attr) bool {
		s.AddAttrs(slog.Attr{Key: a.Key, Value: settled(a.Value)})
		return true
	})
	return s
}

// isPlain reports whether v refers to nothing.
func isPlain(v slog.Value) bool {
	k := v.Kind()
	return k != slog.KindAny && k != slog.KindLogValuer && k != slog.KindGroup
}

// settled is v without references, as the handlers would write it.
func settled(v slog.Value) slog.Value {
	switch v = v.Resolve(); v.Kind() {
	case slog.KindGroup:
		group := make([]slog.Attr, 0, len(v.Group()))
		for _, a := range v.Group() {
			group = append(group, slog.Attr{Key: a.Key, Value: settled(a.Value)})
		}
		return slog.GroupValue(group...)
	case slog.KindAny:
		if err, ok := v.Any().(error); ok {
			return slog.StringValue(err.Error())
		}
	}
	return v
}
