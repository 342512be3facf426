package pop3d

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"dirpost/internal/store"
)

// Limits of what is read ahead for a client that retrieves in order.
const (
	aheadMessages = 64
	aheadOctets   = 512 << 10
	// aheadCost is the most that one message costs: larger bodies are not read
	// ahead but streamed.
	aheadCost = 24 << 10
)

// errGone reports a message that another session has removed since the login.
var errGone = errors.New("removed by another session")

// drop is the INBOX as it was at login. Index i is message number i+1.
type drop struct {
	store   *store.Store
	account store.AccountID
	*store.Drop
	deleted bitmap // by DELE
	seen    bitmap // by RETR
	count   int    // not deleted
	octets  int64  // likewise

	ahead []*store.Message // read already, in order
	items store.Items      // which parts of them
	page  int              // how many were read at last
	next  int              // index that a client that goes on in order asks for
}

// bitmap is a set of indexes.
type bitmap []uint64

func (b bitmap) has(i int) bool { return b[i/64]&(1<<(i%64)) != 0 }
func (b bitmap) add(i int)      { b[i/64] |= 1 << (i % 64) }

func newDrop(st *store.Store, a store.AccountID, listing *store.Drop) *drop {
	words := (len(listing.UIDs) + 63) / 64
	d := &drop{store: st, account: a, Drop: listing, deleted: make(bitmap, words), seen: make(bitmap, words)}
	d.reset()
	return d
}

// reset takes back all that DELE and RETR have noted.
func (d *drop) reset() {
	clear(d.deleted)
	clear(d.seen)
	d.count, d.octets = len(d.UIDs), 0
	for _, n := range d.Sizes {
		d.octets += n
	}
}

// delete notes that message i is to be removed.
func (d *drop) delete(i int) {
	d.deleted.add(i)
	d.count--
	d.octets -= d.Sizes[i]
}

// String says how much there is, for people.
func (d *drop) String() string { return fmt.Sprintf("%d messages (%d octets)", d.count, d.octets) }

// uid is the unique id of message i (RFC 1939 §7): 16 hexadecimal digits.
func (d *drop) uid(i int) string { return fmt.Sprintf("%08x%08x", d.UIDValidity, uint32(d.UIDs[i])) }

// hasAhead reports whether memory is used for messages read ahead.
func (d *drop) hasAhead() bool { return len(d.ahead) > 0 }

// forget gives up what was read ahead.
func (d *drop) forget() { d.ahead, d.page = nil, 0 }

// message returns message i with the parts that items names. A client that goes
// on in order has the next ones read with it: 8 times more each time.
func (d *drop) message(ctx context.Context, i int, items store.Items) (*store.Message, error) {
	if m := d.take(i, items); m != nil {
		return m, nil
	}
	n := 1
	if i == d.next && i > 0 {
		n = min(max(d.page, 1)*8, aheadMessages)
	}
	d.ahead, d.items, d.page, d.next = d.ahead[:0], items, n, i+1
	ctx, cancel := context.WithTimeout(ctx, lookTime)
	defer cancel()
	uids := d.UIDs[:0:0]
	for k, octets := i, int64(0); k < len(d.UIDs) && len(uids) < n && octets < aheadOctets; k++ {
		if k == i || !d.deleted.has(k) {
			uids = append(uids, d.UIDs[k])
			octets += min(d.Sizes[k], aheadCost)
		}
	}
	for m, err := range d.store.Messages(ctx, d.account, store.Inbox, uids, items) {
		if err != nil {
			d.forget()
			return nil, fmt.Errorf("read message: %w", err)
		}
		d.ahead = append(d.ahead, m)
	}
	if m := d.take(i, items); m != nil {
		return m, nil
	}
	return nil, errGone
}

// take removes message i, and those before it, from what was read ahead.
func (d *drop) take(i int, items store.Items) *store.Message {
	if len(d.ahead) == 0 || d.items&items != items {
		return nil
	}
	k := slices.IndexFunc(d.ahead, func(m *store.Message) bool { return m.UID >= d.UIDs[i] })
	if k < 0 || d.ahead[k].UID != d.UIDs[i] {
		return nil
	}
	m := d.ahead[k]
	clear(d.ahead[:k+1]) // let the collector have them
	d.ahead = d.ahead[k+1:]
	d.next = i + 1
	return m
}

// update carries out what was noted: the UPDATE state (RFC 1939 §6). It returns
// how many messages were removed. Removing happens in one transaction or not at
// all; that messages could not be marked \Seen is no reason for the client to
// retrieve them again, so seenErr is for the log.
func (d *drop) update(ctx context.Context, leaveUnseen bool) (removed int, seenErr, err error) {
	gone, seen := d.UIDs[:0:0], d.UIDs[:0:0]
	for i, uid := range d.UIDs {
		switch {
		case d.deleted.has(i):
			gone = append(gone, uid)
		case d.seen.has(i):
			seen = append(seen, uid)
		}
	}
	if len(gone) > 0 {
		res, err := d.store.Remove(ctx, d.account, store.Inbox, gone)
		if err != nil {
			return 0, nil, fmt.Errorf("remove messages: %w", err)
		}
		removed = len(res.UIDs)
	}
	if len(seen) > 0 && !leaveUnseen {
		if _, err := d.store.StoreFlags(ctx, d.account, store.Inbox, seen, store.FlagChange{Add: store.FlagSeen}); err != nil {
			return removed, fmt.Errorf("mark messages as seen: %w", err), nil
		}
	}
	return removed, nil, nil
}
