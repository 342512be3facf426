package ldap

import (
	"testing"
	"time"
)

// TestDeletionBudget: what DirSync does not explain is looked into at once, as far as
// that was saved for; comparisons take no more than their share over time, and none
// waits for ever.
func TestDeletionBudget(t *testing.T) {
	t.Parallel()
	const most = 30 * time.Second
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	d := deletions{usn: 10}
	check := func(what string, usn int64, want time.Duration, due bool) {
		t.Helper()
		if got, is := d.wait(now, usn, most); got != want || is != due {
			t.Errorf("%s: %v %v, want %v %v", what, got, is, want, due)
		}
	}
	check("nothing has changed", 10, 0, false)
	check("the first change", 11, 0, true)
	d.moved(1, 0)
	d.compared(now, 11, 1, 100*time.Millisecond)

	now = now.Add(50 * time.Millisecond)
	d.moved(1, 1)
	check("a change that is explained", 12, compareLeast-50*time.Millisecond, true)
	d.moved(2, 1)
	check("a deletion beside it", 14, 0, true)
	d.compared(now, 14, d.unexplained, 100*time.Millisecond)
	check("both are known", 14, 0, false)
	d.moved(1, 2) // the second is of a change whose number comes with the next question
	check("one more than was counted", 15, compareLeast, true)
	d.moved(1, 0)
	check("and here it is", 16, compareLeast, true)
	d.moved(1, 0)
	check("one more", 17, 0, true)

	// A deletion every 200 ms, in a directory that takes ten seconds.
	var spent time.Duration
	d = deletions{}
	began := now
	for usn := int64(1); now.Sub(began) < time.Hour; usn++ {
		d.moved(1, 0)
		if wait, due := d.wait(now, usn, most); due && wait <= 0 {
			now = now.Add(10 * time.Second)
			d.compared(now, usn, d.unexplained, 10*time.Second)
			spent += 10 * time.Second
		}
		now = now.Add(200 * time.Millisecond)
	}
	if share := float64(spent) / float64(now.Sub(began)); share > 0.30 { // 10 of most
		t.Errorf("share %v of the time", share)
	}
	// The same where that may wait as long as it takes.
	d, began, spent = deletions{}, now, 0
	for usn := int64(1); now.Sub(began) < time.Hour; usn++ {
		d.moved(1, 0)
		if wait, due := d.wait(now, usn, time.Hour); due && wait <= 0 {
			now = now.Add(10 * time.Second)
			d.compared(now, usn, d.unexplained, 10*time.Second)
			spent += 10 * time.Second
		}
		now = now.Add(200 * time.Millisecond)
	}
	if share := float64(spent) / float64(now.Sub(began)); share > 0.065 || share < 0.05 {
		t.Errorf("share %v of the time, want a twentieth and what was saved before", share)
	}
	d.told = true
	check("told", 1_000_000, 0, false)
}
