package permit

import (
	"time"

	"dirpost/directory"
)

// limits are how many wrong passwords of a person may be judged, and still be
// counted, when one more is.
type limits struct {
	strangers, everybody int
	span                 time.Duration // after which they count no more
	// counted says that a permit must be taken first. Otherwise the directory locks
	// nobody, and wrong passwords are counted once they have been wrong.
	counted bool
	wrong   int // how many the directory counts itself
}

const (
	// forever is the span where only a right password makes the directory forget.
	forever = 100 * 365 * 24 * time.Hour
	// spare is added to the window of the directory: it began to count a moment
	// before we did.
	spare = 2 * time.Second
)

// limitsFor turns the rule of the directory for a person into numbers.
func (c Config) limitsFor(l directory.Lockout) limits {
	threshold, window := l.Threshold, l.Window
	if threshold > 0 && window == 0 {
		window = forever
	}
	if l.Hidden && (threshold == 0 || threshold > c.Floor) {
		threshold, window = c.Floor, max(window, c.FloorWindow)
	}
	if threshold == 0 {
		return limits{strangers: c.Generous, everybody: c.Generous, span: c.FloorWindow}
	}
	out := limits{everybody: threshold - 1, span: window + spare, counted: true, wrong: l.Wrong}
	out.strangers = max(out.everybody-c.Reserve, min(1, out.everybody))
	return out
}
