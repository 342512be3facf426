package store

import (
	"cmp"
	"slices"

	"github.com/emersion/go-imap/v2"
)

// delta is what the database says about a mailbox since a view.
type delta struct {
	modSeq      ModSeq
	uidNext     imap.UID
	uidValidity uint32
	logFloor    ModSeq
	unseen      int

	rows []entry    // new, or with another modseq
	gone []uidRange // expunged; may name what was never in the view
}

// size tells how much a packed index would spare the next reader.
func (d *delta) size() int { return len(d.rows) + len(d.gone) }

// emptyView is what the first view is built on.
var emptyView = &View{starts: []int32{0}}

// with returns the view after d. Pages that d does not touch are shared.
func (v *View) with(d *delta) *View {
	d.normalise()
	next := &View{modSeq: d.modSeq, uidNext: d.uidNext, uidValidity: d.uidValidity, unseen: d.unseen}
	if len(d.rows) == 0 && len(d.gone) == 0 {
		next.pages, next.starts = v.pages, v.starts
		return next
	}
	rows, gone := d.rows, d.gone
	b := builder{pages: make([]*page, 0, len(v.pages)+1+len(rows)/pageSize)}
	for n, p := range v.pages {
		first, last := p.uids[0], p.uids[len(p.uids)-1]
		for len(gone) > 0 && gone[0].hi < first {
			gone = gone[1:]
		}
		k := 0
		for k < len(rows) && rows[k].uid <= last {
			k++
		}
		if n == len(v.pages)-1 {
			k = len(rows) // what is new goes behind the last page
		}
		if k == 0 && (len(gone) == 0 || gone[0].lo > last) {
			b.share(p)
			continue
		}
		b.merge(p, rows[:k], gone)
		rows = rows[k:]
	}
	for _, e := range rows {
		b.add(e)
	}
	next.pages, next.starts = b.finish()
	return next
}

// normalise puts d in order, one row a message.
func (d *delta) normalise() {
	byUID := func(a, b entry) int { return cmp.Compare(a.uid, b.uid) }
	if !slices.IsSortedFunc(d.rows, byUID) {
		slices.SortFunc(d.rows, byUID)
	}
	d.rows = slices.CompactFunc(d.rows, func(a, b entry) bool { return a.uid == b.uid })
	slices.SortFunc(d.gone, func(a, b uidRange) int { return cmp.Compare(a.lo, b.lo) })
	merged := d.gone[:0]
	for _, r := range d.gone {
		if n := len(merged); n > 0 && r.lo <= merged[n-1].hi+1 {
			merged[n-1].hi = max(merged[n-1].hi, r.hi)
			continue
		}
		merged = append(merged, r)
	}
	d.gone = merged
}

// builder makes the pages of a view.
type builder struct {
	pages []*page
	open  *page // the page that fills; not in pages yet
}

// share takes a page as it is.
func (b *builder) share(p *page) {
	b.close()
	b.pages = append(b.pages, p)
}

// merge takes the messages of p that are not gone, with rows in place of those
// with the same UID. Both rows and gone ascend.
func (b *builder) merge(p *page, rows []entry, gone []uidRange) {
	for k, uid := range p.uids {
		for len(rows) > 0 && rows[0].uid < uid {
			b.add(rows[0])
			rows = rows[1:]
		}
		for len(gone) > 0 && gone[0].hi < uid {
			gone = gone[1:]
		}
		if len(gone) > 0 && gone[0].lo <= uid {
			continue
		}
		e := entry{uid, p.flags[k], p.modSeqs[k]}
		if len(rows) > 0 && rows[0].uid == uid {
			e = rows[0]
			rows = rows[1:]
		}
		b.add(e)
	}
	for _, e := range rows {
		b.add(e)
	}
}

// add adds one message to the page that fills.
func (b *builder) add(e entry) {
	if b.open == nil {
		b.open = &page{}
		// A small page next to what is rebuilt is rebuilt with it, so that
		// expunging does not leave a view of crumbs.
		if n := len(b.pages); n > 0 && len(b.pages[n-1].uids) < pageSize/4 {
			last := b.pages[n-1]
			b.pages = b.pages[:n-1]
			b.open.uids = append(b.open.uids, last.uids...)
			b.open.flags = append(b.open.flags, last.flags...)
			b.open.modSeqs = append(b.open.modSeqs, last.modSeqs...)
			b.open.unseen = last.unseen
		}
	}
	p := b.open
	p.uids, p.flags, p.modSeqs = append(p.uids, e.uid), append(p.flags, e.flags), append(p.modSeqs, e.modSeq)
	if e.flags&FlagSeen == 0 {
		p.unseen++
	}
	if len(p.uids) == pageSize {
		b.close()
	}
}

// close ends the page that fills, without spare room.
func (b *builder) close() {
	if p := b.open; p != nil {
		p.uids, p.flags, p.modSeqs = slices.Clip(p.uids), slices.Clip(p.flags), slices.Clip(p.modSeqs)
		if cap(p.uids) > len(p.uids) || cap(p.flags) > len(p.flags) {
			p.uids, p.flags, p.modSeqs = slices.Clone(p.uids), slices.Clone(p.flags), slices.Clone(p.modSeqs)
		}
		b.pages = append(b.pages, p)
		b.open = nil
	}
}

func (b *builder) finish() ([]*page, []int32) {
	b.close()
	starts := make([]int32, len(b.pages)+1)
	for i, p := range b.pages {
		starts[i+1] = starts[i] + int32(len(p.uids))
	}
	return b.pages, starts
}
