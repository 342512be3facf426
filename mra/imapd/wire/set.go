package wire

import (
	"slices"
	"strconv"
)

// Range is a range of numbers, both ends included. 0 stands for "*", the
// largest number in use; the ends may stand in either order (RFC 9051 §9,
// seq-range).
type Range struct{ From, To uint32 }

// Set is a sequence-set as the client wrote it: message sequence numbers or
// UIDs. The zero Set is none.
type Set struct {
	Ranges []Range
	Saved  bool // "$": the result saved by a search (RFC 5182 §2)
}

// Set takes a sequence-set. Its length is bounded by that of a line.
func (d *Decoder) Set() Set {
	if d.Skip('$') {
		return Set{Saved: true}
	}
	var s Set
	for d.err == nil {
		r := Range{From: d.setNumber()}
		r.To = r.From
		if d.Skip(':') {
			r.To = d.setNumber()
		}
		s.Ranges = append(s.Ranges, r)
		if !d.Skip(',') {
			break
		}
	}
	return s
}

func (d *Decoder) setNumber() uint32 {
	if d.Skip('*') {
		return 0
	}
	if c := d.Peek(); c < '1' || c > '9' {
		d.Fail("invalid sequence set")
		return 0
	}
	return d.Number()
}

// Resolve returns the ranges in ascending order, apart from each other, with
// "*" replaced by largest. "n:*" always holds the largest number, even when n
// is above it (RFC 9051 §6.4.9). The result shares no memory with s.
func (s Set) Resolve(largest uint32) []Range {
	out := make([]Range, 0, len(s.Ranges))
	for _, r := range s.Ranges {
		if r.From == 0 {
			r.From = largest
		}
		if r.To == 0 {
			r.To = largest
		}
		if r.From > r.To {
			r.From, r.To = r.To, r.From
		}
		if r.To == 0 {
			continue // "*" of an empty mailbox
		}
		r.From = max(r.From, 1)
		out = append(out, r)
	}
	slices.SortFunc(out, func(a, b Range) int {
		switch {
		case a.From < b.From:
			return -1
		case a.From > b.From:
			return 1
		}
		return 0
	})
	n := 0
	for _, r := range out {
		if n > 0 && (r.From <= out[n-1].To || r.From == out[n-1].To+1) {
			out[n-1].To = max(out[n-1].To, r.To)
			continue
		}
		out[n] = r
		n++
	}
	return out[:n]
}

// Within reports whether every number that s names, "*" too, is at most
// largest. Sequence numbers beyond the mailbox are an error of the client
// (RFC 9051 §9, seq-number); UIDs are not.
func (s Set) Within(largest uint32) bool {
	for _, r := range s.Ranges {
		if r.From > largest || r.To > largest || largest == 0 {
			return false
		}
	}
	return true
}

// SetBuilder makes a sequence-set of numbers that come in ascending order.
type SetBuilder struct {
	dst         []byte
	first, last uint32
	empty       bool
}

// NewSetBuilder returns a SetBuilder that appends to dst.
func NewSetBuilder(dst []byte) SetBuilder { return SetBuilder{dst: dst, empty: true} }

// Add adds n, which must be larger than all before it.
func (b *SetBuilder) Add(n uint32) { b.AddRange(n, n) }

// AddRange adds the numbers from first to last, which must be larger than all
// before them.
func (b *SetBuilder) AddRange(first, last uint32) {
	if b.last != 0 && first == b.last+1 {
		b.last = last
		return
	}
	b.flush()
	b.first, b.last = first, last
}

// Empty reports whether nothing was added.
func (b *SetBuilder) Empty() bool { return b.empty && b.last == 0 }

func (b *SetBuilder) flush() {
	if b.last == 0 {
		return
	}
	if !b.empty {
		b.dst = append(b.dst, ',')
	}
	b.empty = false
	b.dst = strconv.AppendUint(b.dst, uint64(b.first), 10)
	if b.last != b.first {
		b.dst = append(b.dst, ':')
		b.dst = strconv.AppendUint(b.dst, uint64(b.last), 10)
	}
}

// Bytes ends the set and returns dst with it.
func (b *SetBuilder) Bytes() []byte {
	b.flush()
	b.first, b.last = 0, 0
	return b.dst
}
