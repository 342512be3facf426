package store

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"dirpost/internal/message"
	"dirpost/internal/postgres"

	"github.com/emersion/go-imap/v2"
)

// Query is the part of a SEARCH that only the messages themselves can answer;
// all its conditions must hold. Text is compared without case, as substrings,
// decoded from MIME (RFC 9051 §6.4.4). OR and NOT are the caller's set
// operations.
type Query struct {
	UIDs   []imap.UID // candidates, ascending; nil: all
	Header []HeaderKey
	Body   []string // in the text of the body
	Text   []string // in header or body

	Larger, Smaller int64 // RFC822.SIZE is more, less than; 0: does not look

	// The dates are at midnight, Since included and Before not; zero does
	// not look. They are compared with INTERNALDATE and SAVEDATE in UTC, and
	// with the Date field as it is written, without time and zone.
	Since, Before           time.Time
	SavedSince, SavedBefore time.Time
	SentSince, SentBefore   time.Time
}

// HeaderKey is HEADER, SUBJECT, FROM, TO, CC, BCC of SEARCH. An empty Value
// matches every message that has the field.
type HeaderKey struct{ Name, Value string }

const searchSQL = `
select x.uid
  from unnest($3::bigint[], $4::bigint[]) r (lo, hi)
 cross join lateral (
       select y.uid, y.size, y.message_id, y.saved_at
         from mailbox_message y
        where y.account_id = $1 and y.mailbox_id = $2 and y.uid between r.lo and r.hi
       offset 0) x
 cross join lateral (
       select y.internal_date, y.subject, y.sender, y.recipients
         from message y
        where y.account_id = $1 and y.message_id = x.message_id
       offset 0) m
 where ($5 = 0 or x.size > $5)
   and ($6 = 0 or x.size < $6)
   and ($7::timestamptz is null or m.internal_date >= $7)
   and ($8::timestamptz is null or m.internal_date < $8)
   and ($9::timestamptz is null or x.saved_at >= $9)
   and ($10::timestamptz is null or x.saved_at < $10)
   and not exists (select from unnest($11::text[]) k where strpos(m.subject, k) = 0)
   and not exists (select from unnest($12::text[]) k where strpos(m.sender, k) = 0)
   and not exists (select from unnest($13::text[]) k where strpos(split_part(m.recipients, $16, 1), k) = 0)
   and not exists (select from unnest($14::text[]) k where strpos(split_part(m.recipients, $16, 2), k) = 0)
   and not exists (select from unnest($15::text[]) k where strpos(split_part(m.recipients, $16, 3), k) = 0)
 order by x.uid`

// Search returns the UIDs of the messages that match q, ascending. What the
// columns of the messages can answer is asked in one statement; what is left is
// looked for in the messages themselves, as a stream.
func (s *Store) Search(ctx context.Context, a AccountID, mb MailboxID, q *Query) ([]imap.UID, error) {
	if q.UIDs != nil && len(q.UIDs) == 0 {
		return nil, nil
	}
	plan := planOf(q)
	los, his := boundsOf(q.UIDs)
	rows, err := s.db.Query(ctx, postgres.Interactive, searchSQL, a, mb, los, his,
		q.Larger, q.Smaller, orNull(q.Since), orNull(q.Before), orNull(q.SavedSince), orNull(q.SavedBefore),
		plan.columns[0], plan.columns[1], plan.columns[2], plan.columns[3], plan.columns[4], message.IndexSeparator)
	if err != nil {
		return nil, wrap("search", err)
	}
	found, err := postgres.CollectValues[int64](rows)
	if err != nil {
		return nil, wrap("search", err)
	}
	uids := uidsOf(found)
	if plan.items == 0 || len(uids) == 0 {
		return uids, nil
	}
	var matches []imap.UID
	for m, err := range s.Messages(ctx, a, mb, uids, plan.items) {
		if err != nil {
			return nil, fmt.Errorf("search: %w", err)
		}
		ok, err := s.matches(ctx, a, m, plan)
		if err != nil {
			return nil, fmt.Errorf("search message %d: %w", m.UID, err)
		}
		if ok {
			matches = append(matches, m.UID)
		}
	}
	return matches, nil
}

// orNull makes the zero time null.
func orNull(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

// searchPlan is a Query, divided by who answers what.
type searchPlan struct {
	q       *Query
	columns [5][]string // keys for subject, from, to, cc, bcc
	header  []HeaderKey // keys for the header itself, values normalised
	body    []string    // normalised
	text    []string    // normalised
	items   Items       // what of a message is needed
}

func planOf(q *Query) *searchPlan {
	p := &searchPlan{q: q}
	for _, k := range q.Header {
		value := message.NormalizeKey(k.Value)
		column := -1
		switch strings.ToLower(k.Name) {
		case "subject":
			column = 0
		case "from":
			column = 1
		case "to":
			column = 2
		case "cc":
			column = 3
		case "bcc":
			column = 4
		}
		if column >= 0 && value != "" {
			p.columns[column] = append(p.columns[column], value)
			continue
		}
		p.header = append(p.header, HeaderKey{k.Name, value})
	}
	p.body, p.text = normalised(q.Body), normalised(q.Text)
	if len(p.header) > 0 || !q.SentSince.IsZero() || !q.SentBefore.IsZero() {
		p.items |= ItemHeader
	}
	if len(p.body) > 0 || len(p.text) > 0 {
		p.items |= ItemHeader | ItemStructure | ItemBody
	}
	return p
}

// normalised normalises keys, without those that every text holds.
func normalised(keys []string) []string {
	var all []string
	for _, k := range keys {
		if k = message.NormalizeKey(k); k != "" {
			all = append(all, k)
		}
	}
	return all
}

// matches looks at one message.
func (s *Store) matches(ctx context.Context, a AccountID, m *Message, p *searchPlan) (bool, error) {
	h := message.ParseHeader(m.Header)
	if !p.matchesHeader(h) {
		return false, nil
	}
	// TEXT is found in the header or in the body.
	text := newMatcher(p.text)
	if err := message.WriteHeaderText(text, h); err != nil && !errors.Is(err, errMatched) {
		return false, err
	}
	text.end()
	keys := append(text.missing(), p.body...)
	if len(keys) == 0 {
		return true, nil
	}
	r, err := s.OpenMessage(ctx, a, m)
	if err != nil {
		return false, err
	}
	defer r.Close()
	root, err := message.DecodeStructure(m.Structure)
	if err != nil { // written by another version: one text is better than nothing
		root = &message.Part{Type: "text", Subtype: "plain", Encoding: "7bit", BodySize: r.Body().Size()}
	}
	body := newMatcher(keys)
	if err := message.WriteText(body, root, r.Body(), 1<<62); err != nil && !errors.Is(err, errMatched) {
		return false, err
	}
	body.end()
	return len(body.missing()) == 0, nil
}

func (p *searchPlan) matchesHeader(h message.Header) bool {
	for _, k := range p.header {
		found := false
		for _, v := range h.Values(k.Name) {
			found = found || k.Value == "" || strings.Contains(message.Normalize(message.DecodeHeader(v)), k.Value)
		}
		if !found {
			return false
		}
	}
	if p.q.SentSince.IsZero() && p.q.SentBefore.IsZero() {
		return true
	}
	sent, err := h.Date()
	if err != nil {
		return false
	}
	y, m, d := sent.Date()
	sent = time.Date(y, m, d, 0, 0, 0, 0, time.UTC)
	return (p.q.SentSince.IsZero() || !sent.Before(p.q.SentSince)) && (p.q.SentBefore.IsZero() || sent.Before(p.q.SentBefore))
}
