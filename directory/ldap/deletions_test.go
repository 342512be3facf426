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

// TestDeletionsSeen: numbers of changes that are those of visible entries are no reason
// to compare anything, and others are one to compare members first.
func TestDeletionsSeen(t *testing.T) {
	t.Parallel()
	const most = 30 * time.Second
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	d := deletions{usn: 10}
	check := func(what string, usn int64, due, links bool) {
		t.Helper()
		if _, is := d.wait(now, usn, most); is != due {
			t.Errorf("%s: identifiers %v, want %v", what, is, due)
		}
		if _, is := d.waitLinks(now, most); is != links {
			t.Errorf("%s: members %v, want %v", what, is, links)
		}
	}
	d.looked(10, 15, 5)
	check("all are seen", 15, false, false)
	d.looked(15, 18, 2)
	check("one is not", 18, true, true)
	d.links.unseen--
	d.links.spend(now, time.Second/2)
	check("members were compared", 18, true, false)
	d.looked(18, 20, 2)
	check("two more that are seen", 20, true, false)
	d.looked(20, 21, 0)
	if w, _ := d.waitLinks(now, most); w != 0 {
		t.Errorf("members after %v, and there is something saved", w)
	}
	d.links.spend(now, 10*time.Second)
	if w, _ := d.waitLinks(now, most); w != most {
		t.Errorf("members after %v, and nothing is saved", w)
	}
	if w, _ := d.wait(now, 21, most); w != 0 {
		t.Errorf("identifiers after %v, and they were never compared", w)
	}
	d.compared(now, 21, d.unexplained, time.Second)
	check("identifiers were compared", 21, false, true)
	d.looked(21, 22, 3) // an entry of both
	check("more than there are", 22, false, true)
	d.told = true
	check("told", 30, false, false)
}
