package imapd

import (
	"context"
	"slices"
	"strconv"

	"dirpost/internal/store"
	"dirpost/mra/imapd/wire"
)

func search(ctx context.Context, c *conn, dec *wire.Decoder) error { return c.search(ctx, dec, false) }

func uidSearch(ctx context.Context, c *conn, dec *wire.Decoder) error {
	return c.search(ctx, dec, true)
}

// search is SEARCH and UID SEARCH (RFC 9051 §6.4.4).
func (c *conn) search(ctx context.Context, dec *wire.Decoder, byUID bool) error {
	dec.Space()
	s := dec.Search()
	if err := dec.End(); err != nil {
		return err
	}
	if err := recode(s); err != nil {
		c.forget(s.Return, err)
		return err
	}
	if usesModSeq(&s.Key) {
		c.enableCondstore() // RFC 7162 §3.1
	}
	var found bitmap
	err := c.patiently(func() error {
		var err error
		p := &program{c: c, m: c.sel, now: c.srv.clock.Now()}
		found, err = p.eval(ctx, &s.Key, allOf(c.sel.view.Len()))
		return err
	})
	if err != nil {
		c.forget(s.Return, err)
		return err
	}
	if s.Return&wire.ReturnSave != 0 {
		c.save(s.Return, found)
	}
	if s.Return&wire.ReturnExtended != 0 {
		c.putESearch(s, found, byUID)
	} else {
		c.putSearch(s, found, byUID)
	}
	return nil
}

// putSearch writes the SEARCH response of RFC 3501 §7.2.5.
func (c *conn) putSearch(s *wire.Search, found bitmap, byUID bool) {
	m := c.sel
	c.put(append(c.buf(), "* SEARCH"...))
	any := false
	for i := range found.all() {
		any = true
		c.makeRoom()
		b := append(c.buf(), ' ')
		c.put(strconv.AppendUint(b, uint64(m.number(i, byUID)), 10))
	}
	b := c.buf()
	if any && usesModSeq(&s.Key) {
		b = append(b, " (MODSEQ "...)
		b = append(strconv.AppendInt(b, int64(m.maxModSeq(found)), 10), ')')
	}
	c.put(append(b, "\r\n"...))
}

// putESearch writes the ESEARCH response (RFC 4731 §3.1). Nothing but SAVE asks
// for no response at all (RFC 5182 §2.1).
func (c *conn) putESearch(s *wire.Search, found bitmap, byUID bool) {
	m := c.sel
	if s.Return == wire.ReturnExtended|wire.ReturnSave {
		return
	}
	b := append(c.buf(), `* ESEARCH (TAG `...)
	b = append(wire.AppendString(b, c.tag), ')')
	if byUID {
		b = append(b, " UID"...)
	}
	first, last, n := found.bounds()
	if s.Return&wire.ReturnMin != 0 && n > 0 {
		b = append(b, " MIN "...)
		b = strconv.AppendUint(b, uint64(m.number(first, byUID)), 10)
	}
	if s.Return&wire.ReturnMax != 0 && n > 0 {
		b = append(b, " MAX "...)
		b = strconv.AppendUint(b, uint64(m.number(last, byUID)), 10)
	}
	if s.Return&wire.ReturnAll != 0 && n > 0 {
		b = append(b, " ALL "...)
		set := wire.NewSetBuilder(b)
		for i := range found.all() {
			set.Add(m.number(i, byUID))
		}
		b = set.Bytes()
	}
	if s.Return&wire.ReturnCount != 0 {
		b = append(b, " COUNT "...)
		b = strconv.AppendInt(b, int64(n), 10)
	}
	if n > 0 && usesModSeq(&s.Key) {
		b = append(b, " MODSEQ "...) // RFC 7162 §3.1.10
		b = strconv.AppendInt(b, int64(m.maxModSeqOf(s.Return, found)), 10)
	}
	c.put(append(b, "\r\n"...))
}

// number is the number by which the command names message i.
func (m *mailbox) number(i int, byUID bool) uint32 {
	uid := m.view.UIDAt(i)
	if byUID {
		return uint32(uid)
	}
	return m.seqAt(i, uid)
}

// maxModSeq is the highest modseq of found.
func (m *mailbox) maxModSeq(found bitmap) store.ModSeq {
	var highest store.ModSeq
	for i := range found.all() {
		highest = max(highest, m.view.ModSeq(i))
	}
	return highest
}

// maxModSeqOf is the same of what is returned: with MIN or MAX alone, of these
// (RFC 7162 §3.1.10).
func (m *mailbox) maxModSeqOf(r wire.SearchReturn, found bitmap) store.ModSeq {
	if r&(wire.ReturnAll|wire.ReturnCount) != 0 {
		return m.maxModSeq(found)
	}
	first, last, _ := found.bounds()
	var highest store.ModSeq
	if r&wire.ReturnMin != 0 {
		highest = m.view.ModSeq(first)
	}
	if r&wire.ReturnMax != 0 {
		highest = max(highest, m.view.ModSeq(last))
	}
	return highest
}

// save keeps the result for "$": of MIN and MAX alone only these (RFC 5182
// §2.4).
func (c *conn) save(r wire.SearchReturn, found bitmap) {
	m := c.sel
	m.saved = nil
	if r&(wire.ReturnMin|wire.ReturnMax) != 0 && r&(wire.ReturnAll|wire.ReturnCount) == 0 {
		first, last, n := found.bounds()
		if n > 0 && r&wire.ReturnMin != 0 {
			m.saved = append(m.saved, m.view.UIDAt(first))
		}
		if n > 0 && r&wire.ReturnMax != 0 {
			m.saved = append(m.saved, m.view.UIDAt(last))
		}
		m.saved = slices.Compact(m.saved)
		return
	}
	for i := range found.all() {
		m.saved = append(m.saved, m.view.UIDAt(i))
	}
}

// forget drops the saved result when a search that was to save one is answered
// NO; after BAD it stays (RFC 5182 §2.1).
func (c *conn) forget(r wire.SearchReturn, err error) {
	if r&wire.ReturnSave != 0 && c.problemOf(err).status == "NO" {
		c.sel.saved = nil
	}
}

// usesModSeq reports whether k asks for a modseq anywhere.
func usesModSeq(k *wire.SearchKey) bool {
	return k.Op == wire.SearchModSeq || slices.ContainsFunc(k.Keys, func(k wire.SearchKey) bool { return usesModSeq(&k) })
}
