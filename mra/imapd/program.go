package imapd

import (
	"context"
	"iter"
	"math"
	"math/bits"
	"time"

	"dirpost/internal/store"
	"dirpost/mra/imapd/wire"

	"github.com/emersion/go-imap/v2"
)

// bitmap is a set of messages of a view, by index.
type bitmap []uint64

// allOf returns the set of the first n messages.
func allOf(n int) bitmap {
	b := make(bitmap, (n+63)/64)
	for i := range b {
		b[i] = math.MaxUint64
	}
	if n%64 != 0 {
		b[len(b)-1] = 1<<(n%64) - 1
	}
	return b
}

func (b bitmap) add(i int) { b[i/64] |= 1 << (i % 64) }

// all yields the members, ascending.
func (b bitmap) all() iter.Seq[int] {
	return func(yield func(int) bool) {
		for w, word := range b {
			for ; word != 0; word &= word - 1 {
				if !yield(w*64 + bits.TrailingZeros64(word)) {
					return
				}
			}
		}
	}
}

// bounds returns the first and the last member, and how many there are.
func (b bitmap) bounds() (first, last, n int) {
	first = -1
	for w, word := range b {
		if word == 0 {
			continue
		}
		if first < 0 {
			first = w*64 + bits.TrailingZeros64(word)
		}
		last = w*64 + 63 - bits.LeadingZeros64(word)
		n += bits.OnesCount64(word)
	}
	return first, last, n
}

// program evaluates search keys over the view of a session.
type program struct {
	c   *conn
	m   *mailbox
	now time.Time
	// queries counts what the store was asked.
	queries int
	// fresh are the keywords as of this search, nil until one is looked for
	// that the client was not told of.
	fresh *store.Keywords
}

// maxQueries bounds how often one search may make the store look through the
// mailbox. Keys that must all hold are one query.
const maxQueries = 100

// eval returns the messages among those of within that match k.
func (p *program) eval(ctx context.Context, k *wire.SearchKey, within bitmap) (bitmap, error) {
	switch k.Op {
	case wire.SearchAll:
		return within, nil
	case wire.SearchAnd:
		return p.evalAnd(ctx, k.Keys, within)
	case wire.SearchOr:
		return p.evalOr(ctx, k.Keys, within)
	case wire.SearchNot:
		matching, err := p.eval(ctx, &k.Keys[0], within)
		if err != nil {
			return nil, err
		}
		out := make(bitmap, len(within))
		for i := range out {
			out[i] = within[i] &^ matching[i]
		}
		return out, nil
	case wire.SearchSeq, wire.SearchUID:
		return p.evalSet(k, within)
	}
	match, ok, err := p.viewKey(ctx, k)
	if err != nil {
		return nil, err
	}
	if ok {
		out := make(bitmap, len(within))
		for i := range within.all() {
			if match(i) {
				out.add(i)
			}
		}
		return out, nil
	}
	q := &store.Query{}
	if empty, err := p.addTo(q, k); err != nil || empty {
		return make(bitmap, len(within)), err
	}
	return p.query(ctx, q, within)
}

// evalAnd narrows within by the keys that the view answers, then asks the store
// for all the others at once.
func (p *program) evalAnd(ctx context.Context, keys []wire.SearchKey, within bitmap) (bitmap, error) {
	var (
		q     store.Query
		asked bool
		later []*wire.SearchKey
		err   error
	)
	for i := range keys {
		k := &keys[i]
		switch {
		case k.Op == wire.SearchSeq || k.Op == wire.SearchUID || p.isViewKey(k):
			if within, err = p.eval(ctx, k, within); err != nil {
				return nil, err
			}
		case k.Op <= wire.SearchNot:
			later = append(later, k)
		default:
			if !mergeable(&q, k) {
				later = append(later, k)
				continue
			}
			empty, err := p.addTo(&q, k)
			if err != nil || empty {
				return make(bitmap, len(within)), err
			}
			asked = true
		}
	}
	if asked {
		if within, err = p.query(ctx, &q, within); err != nil {
			return nil, err
		}
	}
	for _, k := range later {
		if within, err = p.eval(ctx, k, within); err != nil {
			return nil, err
		}
	}
	return within, nil
}

func (p *program) evalOr(ctx context.Context, keys []wire.SearchKey, within bitmap) (bitmap, error) {
	out, err := p.eval(ctx, &keys[0], within)
	if err != nil {
		return nil, err
	}
	// The second key need not look at what the first has found.
	left := make(bitmap, len(within))
	for i := range left {
		left[i] = within[i] &^ out[i]
	}
	more, err := p.eval(ctx, &keys[1], left)
	if err != nil {
		return nil, err
	}
	both := make(bitmap, len(within))
	for i := range both {
		both[i] = out[i] | more[i]
	}
	return both, nil
}

// evalSet matches sequence numbers or UIDs. Numbers beyond the mailbox match
// nothing here.
func (p *program) evalSet(k *wire.SearchKey, within bitmap) (bitmap, error) {
	m, out := p.m, make(bitmap, len(within))
	set := k.Set
	if k.Op == wire.SearchSeq && !set.Saved {
		set = wire.Set{}
		for _, r := range k.Set.Resolve(m.count()) {
			if r.From <= m.count() {
				set.Ranges = append(set.Ranges, wire.Range{From: r.From, To: min(r.To, m.count())})
			}
		}
	}
	spans, _, err := m.resolve(set, k.Op == wire.SearchUID)
	if err != nil {
		return nil, err
	}
	for _, s := range spans {
		for i := s.from; i < s.to; i++ {
			out.add(i)
		}
	}
	for i := range out {
		out[i] &= within[i]
	}
	return out, nil
}

func (p *program) isViewKey(k *wire.SearchKey) bool {
	switch k.Op {
	case wire.SearchAll, wire.SearchFlag, wire.SearchRecent, wire.SearchModSeq:
		return true
	case wire.SearchNot:
		return p.isViewKey(&k.Keys[0])
	}
	return false
}

// viewKey returns how the view answers k, if it does.
func (p *program) viewKey(ctx context.Context, k *wire.SearchKey) (match func(i int) bool, ok bool, err error) {
	v := p.m.view
	switch k.Op {
	case wire.SearchFlag:
		bit, known, err := p.flag(ctx, k.Flag)
		return func(i int) bool { return known && v.Flags(i)&bit != 0 }, true, err
	case wire.SearchRecent:
		return func(i int) bool { return p.m.isRecent(v.UIDAt(i)) }, true, nil
	case wire.SearchModSeq:
		return func(i int) bool { return v.ModSeq(i) >= store.ModSeq(k.Number) }, true, nil
	}
	return nil, false, nil
}

// flag returns the bit of a flag. A keyword that the client was not told of may
// be there all the same: .SILENT makes them, and so do other sessions.
func (p *program) flag(ctx context.Context, f imap.Flag) (bit store.Flags, known bool, err error) {
	if bit, known = p.m.keywords.Lookup(f); known {
		return bit, true, nil
	}
	if p.fresh == nil {
		if p.fresh, err = p.c.srv.store.Keywords(ctx, p.m.key.Account); err != nil {
			return 0, false, err
		}
	}
	bit, known = p.fresh.Lookup(f)
	return bit, known, nil
}

// query asks the store for the messages among within that match q.
func (p *program) query(ctx context.Context, q *store.Query, within bitmap) (bitmap, error) {
	m := p.m
	_, _, n := within.bounds()
	out := make(bitmap, len(within))
	if n == 0 {
		return out, nil
	}
	if p.queries++; p.queries > maxQueries {
		return nil, no("LIMIT", "Search too complex")
	}
	if n < m.view.Len() {
		q.UIDs = make([]imap.UID, 0, n)
		for i := range within.all() {
			q.UIDs = append(q.UIDs, m.view.UIDAt(i))
		}
	}
	uids, err := p.c.srv.store.Search(ctx, m.key.Account, m.key.Mailbox, q)
	if err != nil {
		return nil, err
	}
	for _, uid := range uids {
		if i, ok := m.view.Index(uid); ok {
			out.add(i) // one that came since is not in the view, and waits
		}
	}
	for i := range out {
		out[i] &= within[i]
	}
	return out, nil
}
