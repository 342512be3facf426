package store

import (
	"errors"
	"math/rand/v2"
	"strings"
	"testing"

	"dirpost/internal/message"

	"github.com/emersion/go-imap/v2"
)

// found reports whether a matcher finds key in text that comes in pieces of
// size.
func found(t *testing.T, text, key string, size int) bool {
	t.Helper()
	m := newMatcher([]string{key})
	for rest := []byte(text); len(rest) > 0; {
		k := min(len(rest), size)
		n, err := m.Write(rest[:k])
		if errors.Is(err, errMatched) {
			break
		}
		if n != k || err != nil {
			t.Fatalf("wrote %d of %d: %v", n, k, err)
		}
		rest = rest[k:]
	}
	m.end()
	return len(m.missing()) == 0
}

func TestMatcher(t *testing.T) {
	t.Parallel()
	spaces := strings.Repeat(" ", matchPiece-3)
	words := strings.Repeat("word ", matchPiece/5)
	solid := strings.Repeat("x", matchPiece-4)
	han := strings.Repeat("紫", matchPiece/3-1)
	for _, c := range []struct {
		name, text, key string
		want            bool
	}{
		{"at once", "Hello World", "hello world", true},
		{"not there", "Hello World", "hello  worlds", false},
		{"across the end of a piece", words + "needle here", "word needle", true},
		{"in a long word", solid + "needle", "xneedle", true},
		{"white space at the end of a piece is one space", "a" + spaces + spaces + "b", "a b", true},
		{"and not none", "a" + spaces + spaces + "b", "ab", false},
		{"without white space", han + "檀香" + han, "檀香", true},
		{"other white space", han + "紫紫\u3000" + strings.Repeat("檀", matchPiece/3), "紫 檀", true},
		{"other white space is not none", strings.Repeat(han+"\u3000"+strings.Repeat("檀", 100), 3), "紫檀", false},
		{"composed over the end of a piece", solid + "abcde\u0301f", "d\u00e9f", true},
		{"space behind a word", "the art of war", "art ", true},
		{"space before a word", "the art of war", " art", true},
		{"no space behind", "the party", "art ", false},
		{"no space before", "start", " art", false},
		{"end of a line", "the art\r\nof war", "art ", true},
		{"space at the end of a piece", words + "needle here", "word ", true},
		{"space behind the end of a piece", words + "needle here", " needle", true},
		{"spaces only", "a b", "  ", true},
		{"spaces only, and none there", "ab", " ", false},
		{"long key", words + words, message.Normalize(words)[:9000], true},
	} {
		for _, size := range []int{1, 7, 4096, 1 << 20} {
			if size == 1 && len(c.text) > 3*matchPiece {
				continue
			}
			if got := found(t, c.text, message.NormalizeKey(c.key), size); got != c.want {
				t.Errorf("%s, by %d: %v, want %v", c.name, size, got, c.want)
			}
		}
	}
}

// Whatever comes in whatever pieces: a key is found if and only if the
// normalised text holds it.
func FuzzMatcher(f *testing.F) {
	f.Add("Hello \r\n World", "o w", uint16(3), uint16(1))
	f.Add("会议 紫檀 cafe\u0301", "议紫", uint16(5), uint16(20000))
	f.Add("\xff\xfe e\u0301\u0301", "\u00e9", uint16(1), uint16(9000))
	f.Add("the art of war", "art ", uint16(3), uint16(9000))
	f.Add("the art of war", " ", uint16(3), uint16(2))
	f.Fuzz(func(t *testing.T, text, key string, size, times uint16) {
		key = message.NormalizeKey(key)
		if key == "" || !strings.Contains(text, " ") {
			return
		}
		// Long enough for several pieces, in units that end with white space.
		long := strings.Repeat(text+" ", min(int(times), 3*matchPiece/(len(text)+1)+1)+1)
		want := strings.Contains(message.Normalize(long), key)
		if got := found(t, long, key, int(size)+1); got != want {
			t.Errorf("found %v, want %v", got, want)
		}
	})
}

// A view built from deltas is the view built at once.
func TestViewWithDeltas(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(1, 2))
	truth := map[uint32]entry{}
	v, next := emptyView, uint32(1)
	for step := range 300 {
		d := &delta{modSeq: ModSeq(step + 1)}
		for uid, e := range truth {
			switch r.IntN(40) {
			case 0:
				d.gone = append(d.gone, uidRange{e.uid, e.uid})
				delete(truth, uid)
			case 1:
				e.flags, e.modSeq = Flags(r.IntN(32)), d.modSeq
				truth[uid] = e
				d.rows = append(d.rows, e, e)
			}
		}
		for range r.IntN(60) {
			e := entry{uid: imap.UID(next), flags: Flags(r.IntN(32)), modSeq: d.modSeq}
			truth[next] = e
			d.rows = append(d.rows, e)
			next++
		}
		if step%50 == 49 { // most of it goes
			for uid, e := range truth {
				if r.IntN(10) > 0 {
					d.gone = append(d.gone, uidRange{e.uid, e.uid})
					d.rows = deleteEntry(d.rows, e)
					delete(truth, uid)
				}
			}
		}
		old := v
		v = v.with(d)
		if v.Len() != len(truth) {
			t.Fatalf("step %d: %d messages, want %d", step, v.Len(), len(truth))
		}
		for i, e := range v.All() {
			if want := truth[uint32(e.UID)]; want != (entry{e.UID, e.Flags, e.ModSeq}) {
				t.Fatalf("step %d, message %d: %+v, want %+v", step, i, e, want)
			}
			if i != v.Search(e.UID) || v.UIDAt(i) != e.UID || v.Flags(i) != e.Flags || v.ModSeq(i) != e.ModSeq {
				t.Fatalf("step %d, message %d is found elsewhere", step, i)
			}
		}
		if same := v.with(&delta{modSeq: v.modSeq, uidNext: v.uidNext}); len(same.Diff(v).Changed)+len(same.Diff(v).New)+len(same.Diff(v).Vanished) > 0 {
			t.Fatalf("step %d: nothing has changed, but Diff says so", step)
		}
		if n, most := len(v.pages), 2+4*v.Len()/pageSize+len(old.pages)/2; n > most+v.Len()/(pageSize/4) {
			t.Errorf("step %d: %d pages for %d messages", step, n, v.Len())
		}
	}
}

func deleteEntry(rows []entry, e entry) []entry {
	var left []entry
	for _, r := range rows {
		if r.uid != e.uid {
			left = append(left, r)
		}
	}
	return left
}
