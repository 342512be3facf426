package imapd

import (
	"context"
	"slices"
	"strconv"

	"dirpost/internal/store"
	"dirpost/mra/imapd/wire"

	"github.com/emersion/go-imap/v2"
)

func storeFlags(ctx context.Context, c *conn, dec *wire.Decoder) error {
	return c.storeFlags(ctx, dec, false)
}

func uidStore(ctx context.Context, c *conn, dec *wire.Decoder) error {
	return c.storeFlags(ctx, dec, true)
}

// storeArgs are the arguments of STORE.
type storeArgs struct {
	set            wire.Set
	conditional    bool
	unchangedSince int64
	sign           byte // '+', '-' or 0
	silent         bool
	flags          []imap.Flag
}

// parseStore takes sequence-set [modifiers] ["+"/"-"] "FLAGS" [".SILENT"] flags
// (RFC 9051 §9, store; RFC 7162 §3.1.3).
func parseStore(dec *wire.Decoder) (a storeArgs, err error) {
	dec.Space()
	a.set = dec.Set()
	dec.Space()
	if dec.Peek() == '(' {
		dec.List(func() {
			if string(dec.Word()) != "UNCHANGEDSINCE" {
				dec.Fail("unknown STORE modifier")
			}
			dec.Space()
			a.conditional, a.unchangedSince = true, dec.Number63()
		})
		dec.Space()
	}
	if c := dec.Peek(); c == '+' || c == '-' {
		a.sign = c
		dec.Skip(c)
	}
	switch string(dec.Word()) {
	case "FLAGS":
	case "FLAGS.SILENT":
		a.silent = true
	default:
		dec.Fail("unknown data item of STORE")
	}
	dec.Space()
	a.flags = dec.Flags()
	return a, dec.End()
}

// storeFlags changes flags and tells the new ones of every message of the set,
// also of those that had them before (RFC 9051 §6.4.6).
func (c *conn) storeFlags(ctx context.Context, dec *wire.Decoder, byUID bool) error {
	a, err := parseStore(dec)
	if err != nil {
		return err
	}
	m := c.sel
	if m.readOnly {
		return errReadOnly
	}
	if a.conditional {
		c.enableCondstore() // RFC 7162 §3.1
	}
	spans, missing, err := m.resolve(a.set, byUID)
	if err != nil {
		return err
	}
	if missing {
		c.code, c.text = "EXPUNGEISSUED", "Some of the messages are gone already"
	}
	if len(spans) == 0 {
		return nil
	}
	f, err := c.srv.store.FlagsOf(ctx, m.key.Account, a.flags)
	if err != nil {
		return err
	}
	uids := m.uids(spans)
	var r store.StoreResult
	err = c.patiently(func() error {
		r, err = c.srv.store.StoreFlags(ctx, m.key.Account, m.key.Mailbox, uids, a.change(f))
		return err
	})
	if err != nil {
		return err
	}
	return c.answerStore(ctx, a, f, uids, r, byUID)
}

// change is what the store is asked for.
func (a *storeArgs) change(f store.Flags) store.FlagChange {
	var ch store.FlagChange
	switch a.sign {
	case '+':
		ch.Add = f
	case '-':
		ch.Remove = f
	default:
		ch.Add, ch.Replace = f, true
	}
	if a.conditional {
		if ch.UnchangedSince = store.ModSeq(a.unchangedSince); a.unchangedSince == 0 {
			ch.UnchangedSince = -1
		}
	}
	return ch
}

// after is what the flags old become.
func (a *storeArgs) after(old, f store.Flags) store.Flags {
	switch a.sign {
	case '+':
		return old | f
	case '-':
		return old &^ f
	}
	return f
}

// answerStore brings the view up to date and sends the flags: unless silent, of
// every message of the set; if silent, only of those that somebody else has
// changed too, so that the client knows them all (RFC 9051 §6.4.6), or with
// their new modseq (RFC 7162 §3.1.3).
func (c *conn) answerStore(ctx context.Context, a storeArgs, f store.Flags, uids []imap.UID, r store.StoreResult, byUID bool) error {
	old := c.sel.view
	view, err := c.look(ctx)
	if err != nil {
		return err
	}
	if err := c.announce(ctx, view, announcement{handled: uids}); err != nil {
		return err
	}
	for _, uid := range uids {
		now, ok := view.Index(uid)
		if !ok {
			continue
		}
		before, _ := old.Index(uid)
		tell := !a.silent || c.condstore || view.Flags(now) != a.after(old.Flags(before), f)
		if _, failed := slices.BinarySearch(r.Modified, uid); failed {
			tell = view.ModSeq(now) != old.ModSeq(before)
		}
		if tell {
			if err := c.putFlags(ctx, now, uid, byUID); err != nil {
				return err
			}
		}
	}
	if len(r.Modified) > 0 {
		c.code, c.text = "MODIFIED "+c.modifiedSet(r.Modified, byUID), "Conditional STORE failed for some"
	}
	return c.broken
}

// modifiedSet is the set of what UNCHANGEDSINCE kept from being changed, in the
// numbers of the command (RFC 7162 §3.1.3).
func (c *conn) modifiedSet(uids []imap.UID, byUID bool) string {
	set := wire.NewSetBuilder(nil)
	for _, uid := range uids {
		if byUID {
			set.Add(uint32(uid))
		} else if i, ok := c.sel.view.Index(uid); ok {
			set.Add(c.sel.seqAt(i, uid))
		}
	}
	return string(set.Bytes())
}

// highestModSeq is the response code of that name.
func highestModSeq(n store.ModSeq) string { return "HIGHESTMODSEQ " + strconv.FormatInt(int64(n), 10) }
