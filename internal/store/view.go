package store

import (
	"iter"
	"slices"

	"github.com/emersion/go-imap/v2"
)

// View is a mailbox at one moment: UID, flags and modseq of its messages in UID
// order, as they were together in the database. It is immutable.
//
// Its messages stand in pages that views of different moments share, so that a
// view costs little more than what has changed since the one before.
type View struct {
	pages  []*page
	starts []int32 // index of the first message of each page, and Len

	modSeq      ModSeq
	uidNext     imap.UID
	uidValidity uint32
	unseen      int
}

// page is a run of messages; never empty, never changed.
type page struct {
	uids    []imap.UID
	flags   []Flags
	modSeqs []ModSeq
	unseen  int
}

// pageSize is the largest number of messages of a page.
const pageSize = 512

// entry is one message of a mailbox.
type entry struct {
	uid    imap.UID
	flags  Flags
	modSeq ModSeq
}

// uidRange is the UIDs from lo to hi.
type uidRange struct{ lo, hi imap.UID }

// Len returns the number of messages: EXISTS.
func (v *View) Len() int { return int(v.starts[len(v.pages)]) }

// HighestModSeq is HIGHESTMODSEQ (RFC 7162 §3.1.2.1).
func (v *View) HighestModSeq() ModSeq { return v.modSeq }

// UIDNext is UIDNEXT.
func (v *View) UIDNext() imap.UID { return v.uidNext }

// UIDValidity is UIDVALIDITY.
func (v *View) UIDValidity() uint32 { return v.uidValidity }

// Unseen is the number of messages without \Seen.
func (v *View) Unseen() int { return v.unseen }

// FirstUnseen returns the index of the first message without \Seen.
func (v *View) FirstUnseen() (i int, ok bool) {
	for n, p := range v.pages {
		if p.unseen == 0 {
			continue
		}
		for k, f := range p.flags {
			if f&FlagSeen == 0 {
				return int(v.starts[n]) + k, true
			}
		}
	}
	return 0, false
}

// at returns the page of message i and its place there.
func (v *View) at(i int) (*page, int) {
	n, exact := slices.BinarySearch(v.starts, int32(i))
	if !exact {
		n--
	}
	return v.pages[n], i - int(v.starts[n])
}

// UIDAt returns the UID of message i, counted from 0.
func (v *View) UIDAt(i int) imap.UID {
	p, k := v.at(i)
	return p.uids[k]
}

// Flags returns the flags of message i.
func (v *View) Flags(i int) Flags {
	p, k := v.at(i)
	return p.flags[k]
}

// ModSeq returns the modseq of message i.
func (v *View) ModSeq(i int) ModSeq {
	p, k := v.at(i)
	return p.modSeqs[k]
}

// Search returns the index of the first message whose UID is at least uid, Len
// if there is none.
func (v *View) Search(uid imap.UID) int {
	n, found := slices.BinarySearchFunc(v.pages, uid, func(p *page, uid imap.UID) int {
		if p.uids[len(p.uids)-1] < uid {
			return -1
		}
		if p.uids[0] > uid {
			return 1
		}
		return 0
	})
	if !found {
		return int(v.starts[n])
	}
	k, _ := slices.BinarySearch(v.pages[n].uids, uid)
	return int(v.starts[n]) + k
}

// Index returns the index of the message with uid.
func (v *View) Index(uid imap.UID) (i int, ok bool) {
	i = v.Search(uid)
	return i, i < v.Len() && v.UIDAt(i) == uid
}

// All yields the messages in order, by index.
func (v *View) All() iter.Seq2[int, Entry] { return v.Range(0, v.Len()) }

// Entry is one message of a View.
type Entry struct {
	UID    imap.UID
	Flags  Flags
	ModSeq ModSeq
}

// Range yields the messages from index lo to before hi. It is quicker than a
// look-up of each.
func (v *View) Range(lo, hi int) iter.Seq2[int, Entry] {
	return func(yield func(int, Entry) bool) {
		hi := min(hi, v.Len())
		if lo >= hi {
			return
		}
		n, exact := slices.BinarySearch(v.starts, int32(lo))
		if !exact {
			n--
		}
		for i, k := lo, lo-int(v.starts[n]); i < hi; n, k = n+1, 0 {
			p := v.pages[n]
			for ; k < len(p.uids) && i < hi; i, k = i+1, k+1 {
				if !yield(i, Entry{p.uids[k], p.flags[k], p.modSeqs[k]}) {
					return
				}
			}
		}
	}
}

// Diff is what happened to a mailbox between two views. Each list ascends.
type Diff struct {
	Vanished, New, Changed []imap.UID
}

// Diff returns what has happened since old, a view of the same mailbox. It looks
// only at the pages that the two do not share.
func (v *View) Diff(old *View) Diff {
	var d Diff
	a, b := cursor{v: old}, cursor{v: v}
	for {
		if a.skipShared(&b) {
			continue
		}
		switch was, is := a.entry(), b.entry(); {
		case was == nil && is == nil:
			return d
		case was == nil || is != nil && is.uid < was.uid:
			d.New = append(d.New, is.uid)
			b.next()
		case is == nil || was.uid < is.uid:
			d.Vanished = append(d.Vanished, was.uid)
			a.next()
		default:
			if was.modSeq != is.modSeq {
				d.Changed = append(d.Changed, is.uid)
			}
			a.next()
			b.next()
		}
	}
}

// cursor walks through a view.
type cursor struct {
	v     *View
	n, k  int
	holds entry
}

// skipShared steps over a page that both cursors begin, if it is the same.
func (c *cursor) skipShared(other *cursor) bool {
	if c.k != 0 || other.k != 0 || c.n == len(c.v.pages) || other.n == len(other.v.pages) || c.v.pages[c.n] != other.v.pages[other.n] {
		return false
	}
	c.n++
	other.n++
	return true
}

// entry returns the current message, nil at the end.
func (c *cursor) entry() *entry {
	if c.n == len(c.v.pages) {
		return nil
	}
	p := c.v.pages[c.n]
	c.holds = entry{p.uids[c.k], p.flags[c.k], p.modSeqs[c.k]}
	return &c.holds
}

func (c *cursor) next() {
	if c.k++; c.k == len(c.v.pages[c.n].uids) {
		c.n, c.k = c.n+1, 0
	}
}

// bytes is about what the view holds in memory, shared pages included.
func (v *View) bytes() int64 {
	return 160 + 20*int64(v.Len()) + 120*int64(len(v.pages))
}
