package store

import (
	"context"
	"iter"
	"slices"

	"dirpost/internal/blob"
	"dirpost/internal/postgres"

	"github.com/emersion/go-imap/v2"
)

// A page of messages ends with the first of these limits.
const (
	pageMessages = 500
	pageOctets   = 2 << 20
)

// The sub-selects with their limits hold the planner to index look-ups: without
// statistics of a mailbox that was just filled it would read all messages of the
// account for each page.
const messagesSQL = `
select x.uid, x.flags, x.modseq, x.message_id, m.size, m.size - m.body_size, m.internal_date, x.saved_at,
       m.body_size, m.body_lines, m.blob_id, m.body_codec, m.header_codec,
       case when $5 & 1 <> 0 then m.envelope end,
       case when $5 & 2 <> 0 then m.structure end,
       case when $5 & 4 <> 0 then m.prepend end,
       case when $5 & 4 <> 0 then m.header end,
       case when $5 & 8 <> 0 then m.body end
  from unnest($3::bigint[], $4::bigint[]) with ordinality r (lo, hi, i)
 cross join lateral (
       select uid, flags, modseq, message_id, saved_at
         from mailbox_message
        where account_id = $1 and mailbox_id = $2 and uid between r.lo and r.hi
        order by uid
        limit $6) x
 cross join lateral (
       select size, body_size, body_lines, internal_date, blob_id, body_codec, header_codec,
              envelope, structure, prepend, header, body
         from message
        where account_id = $1 and message_id = x.message_id
        limit 1) m
 order by r.i, x.uid
 limit $6`

// allUIDs stands for every UID.
var allUIDs = []uidRange{{1, 1<<32 - 1}}

// Messages yields the messages of uids, which must ascend; nil is all. Those
// that have been expunged are left out. It holds neither connection nor lock
// while the caller handles a message, so the caller may write to a slow client.
// A yielded Message belongs to the caller.
func (s *Store) Messages(ctx context.Context, a AccountID, mb MailboxID, uids []imap.UID, items Items) iter.Seq2[*Message, error] {
	return func(yield func(*Message, error) bool) {
		if uids != nil && len(uids) == 0 {
			return
		}
		left := uids
		next := imap.UID(1)
		for {
			ranges := []uidRange{{next, 1<<32 - 1}}
			if uids != nil {
				ranges = rangesOf(left[:min(len(left), pageMessages)])
			}
			page, err := s.readPage(ctx, a, mb, ranges, items)
			if err != nil {
				yield(nil, err)
				return
			}
			for _, m := range page.messages {
				if !yield(m, nil) {
					return
				}
			}
			switch {
			case uids == nil && page.whole, next == 1<<32-1:
				return
			case uids == nil:
				next = page.last + 1
			case page.whole:
				left = left[min(len(left), pageMessages):]
			default:
				n, found := slices.BinarySearch(left, page.last)
				if found {
					n++
				}
				left = left[n:]
			}
			if uids != nil && len(left) == 0 {
				return
			}
		}
	}
}

// messagePage is what one statement gave.
type messagePage struct {
	messages []*Message
	last     imap.UID
	whole    bool // there is nothing more in the ranges
}

// readPage reads messages of ranges until a limit of a page.
func (s *Store) readPage(ctx context.Context, a AccountID, mb MailboxID, ranges []uidRange, items Items) (messagePage, error) {
	var page messagePage
	los, his := bounds(ranges)
	rows, err := s.db.Query(ctx, postgres.Interactive, messagesSQL, a, mb, los, his, int32(items), pageMessages)
	if err != nil {
		return page, wrap("read messages", err)
	}
	defer rows.Close()
	octets := 0
	page.whole = true
	for rows.Next() {
		if octets > pageOctets {
			page.whole = false // Close skips the rest
			return page, nil
		}
		m, err := s.scanMessage(rows)
		if err != nil {
			return page, wrap("read messages", err)
		}
		octets += 200 + len(m.Envelope) + len(m.Structure) + len(m.Header) + len(m.Body.Inline)
		page.messages, page.last = append(page.messages, m), m.UID
	}
	if len(page.messages) == pageMessages {
		page.whole = false
	}
	return page, wrap("read messages", rows.Err())
}

// scanMessage reads one row of messagesSQL.
func (s *Store) scanMessage(rows postgres.Rows) (*Message, error) {
	var (
		m               Message
		uid             int64
		lines           int32
		id              postgres.UUID
		codec           int16
		prepend, header postgres.Bytes
	)
	err := rows.Scan(&uid, (*int64)(&m.Flags), (*int64)(&m.ModSeq), (*int64)(&m.ID), &m.Size, &m.HeaderSize, &m.InternalDate, &m.SavedAt,
		&m.Body.Size, &lines, &id, &m.Body.Codec, &codec, &m.Envelope, &m.Structure, &prepend, &header, &m.Body.Inline)
	if err != nil {
		return nil, err
	}
	m.UID, m.Body.Lines, m.Body.Blob = imap.UID(uid), int64(lines), blob.ID(id.Bytes)
	if header != nil {
		m.Header = append(make([]byte, 0, m.HeaderSize), prepend...)
		if m.Header, err = s.blobs.Decode(header, codec, m.Header); err != nil {
			return nil, err
		}
	}
	return &m, nil
}

// rangesOf joins ascending UIDs that follow each other.
func rangesOf(uids []imap.UID) []uidRange {
	var ranges []uidRange
	for _, u := range uids {
		if n := len(ranges); n > 0 && ranges[n-1].hi+1 == u {
			ranges[n-1].hi = u
			continue
		}
		ranges = append(ranges, uidRange{u, u})
	}
	return ranges
}

// bounds are ranges as the statements take them.
func bounds(ranges []uidRange) (los, his []int64) {
	los, his = make([]int64, len(ranges)), make([]int64, len(ranges))
	for i, r := range ranges {
		los[i], his[i] = int64(r.lo), int64(r.hi)
	}
	return los, his
}

// boundsOf is bounds of UIDs; nil is all.
func boundsOf(uids []imap.UID) (los, his []int64) {
	if uids == nil {
		return bounds(allUIDs)
	}
	if !slices.IsSorted(uids) {
		uids = slices.Clone(uids)
		slices.Sort(uids)
	}
	return bounds(rangesOf(slices.Compact(uids)))
}
