package imapd

import (
	"time"

	"dirpost/internal/store"
	"dirpost/mra/imapd/wire"
)

const day = 24 * time.Hour

// mergeable reports whether k can become a condition of q beside those that q
// has: texts are lists, of each bound there is one.
func mergeable(q *store.Query, k *wire.SearchKey) bool {
	switch k.Op {
	case wire.SearchHeader, wire.SearchBody, wire.SearchText:
		return true
	case wire.SearchLarger:
		return q.Larger == 0
	case wire.SearchSmaller:
		return q.Smaller == 0
	case wire.SearchBefore, wire.SearchOlder:
		return q.Before.IsZero()
	case wire.SearchSince, wire.SearchYounger:
		return q.Since.IsZero()
	case wire.SearchOn:
		return q.Since.IsZero() && q.Before.IsZero()
	case wire.SearchSentBefore:
		return q.SentBefore.IsZero()
	case wire.SearchSentSince:
		return q.SentSince.IsZero()
	case wire.SearchSentOn:
		return q.SentSince.IsZero() && q.SentBefore.IsZero()
	case wire.SearchSavedBefore:
		return q.SavedBefore.IsZero()
	case wire.SearchSavedSince:
		return q.SavedSince.IsZero()
	case wire.SearchSavedOn:
		return q.SavedSince.IsZero() && q.SavedBefore.IsZero()
	}
	return false
}

// addTo adds k to the conditions of q; empty says that nothing can match it.
func (p *program) addTo(q *store.Query, k *wire.SearchKey) (empty bool, err error) {
	next := k.Date.Add(day)
	switch k.Op {
	case wire.SearchHeader:
		q.Header = append(q.Header, store.HeaderKey{Name: k.Field, Value: k.Text})
	case wire.SearchBody:
		q.Body = append(q.Body, k.Text)
	case wire.SearchText:
		q.Text = append(q.Text, k.Text)
	case wire.SearchLarger:
		q.Larger = k.Number // LARGER 0 matches all, and so does no condition
	case wire.SearchSmaller:
		q.Smaller = k.Number
		return k.Number == 0, nil
	case wire.SearchBefore:
		q.Before = k.Date
	case wire.SearchSince:
		q.Since = k.Date
	case wire.SearchOn:
		q.Since, q.Before = k.Date, next
	case wire.SearchSentBefore:
		q.SentBefore = k.Date
	case wire.SearchSentSince:
		q.SentSince = k.Date
	case wire.SearchSentOn:
		q.SentSince, q.SentBefore = k.Date, next
	case wire.SearchSavedBefore:
		q.SavedBefore = k.Date
	case wire.SearchSavedSince:
		q.SavedSince = k.Date
	case wire.SearchSavedOn:
		q.SavedSince, q.SavedBefore = k.Date, next
	case wire.SearchOlder: // RFC 5032 §3: at least that many seconds old
		q.Before = p.now.Add(time.Second - time.Duration(k.Number)*time.Second)
	case wire.SearchYounger:
		q.Since = p.now.Add(-time.Duration(k.Number) * time.Second)
	default:
		return false, bad("Search key not supported")
	}
	return false, nil
}
