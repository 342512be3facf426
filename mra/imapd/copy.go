package imapd

import (
	"context"
	"errors"
	"strconv"

	"dirpost/internal/store"
	"dirpost/mra/imapd/wire"

	"github.com/emersion/go-imap/v2"
)

func copyMessages(ctx context.Context, c *conn, dec *wire.Decoder) error {
	return c.copyOrMove(ctx, dec, transfer{})
}

func uidCopy(ctx context.Context, c *conn, dec *wire.Decoder) error {
	return c.copyOrMove(ctx, dec, transfer{byUID: true})
}

func move(ctx context.Context, c *conn, dec *wire.Decoder) error {
	return c.copyOrMove(ctx, dec, transfer{move: true})
}

func uidMove(ctx context.Context, c *conn, dec *wire.Decoder) error {
	return c.copyOrMove(ctx, dec, transfer{move: true, byUID: true})
}

// transfer says which of COPY, UID COPY, MOVE and UID MOVE is meant.
type transfer struct{ move, byUID bool }

// copyOrMove copies all messages of the set or none (RFC 9051 §6.4.7).
func (c *conn) copyOrMove(ctx context.Context, dec *wire.Decoder, t transfer) error {
	dec.Space()
	set := dec.Set()
	dec.Space()
	name := dec.Mailbox()
	if err := dec.End(); err != nil {
		return err
	}
	m := c.sel
	if t.move && m.readOnly {
		return errReadOnly
	}
	spans, missing, err := m.resolve(set, t.byUID)
	if err != nil {
		return err
	}
	dst, mb, err := c.open(ctx, name, errTryCreate)
	if err != nil {
		return err
	}
	if len(spans) == 0 {
		return nil // UIDs that do not exist are no error (RFC 9051 §6.4.9)
	}
	to := store.MailboxKey{Account: dst.account.ID, Mailbox: mb.ID}
	uids := m.uids(spans)
	var r store.CopyResult
	err = c.patiently(func() error {
		if t.move {
			r, err = c.srv.store.Move(ctx, m.key, uids, to, c.quota(dst))
		} else {
			r, err = c.srv.store.Copy(ctx, m.key, uids, to, c.quota(dst))
		}
		return err
	})
	if errors.Is(err, store.ErrNotFound) {
		return errTryCreate // it was deleted in between
	}
	if err != nil {
		return err
	}
	code := copyUID(r)
	switch {
	case code == "":
	case t.move:
		// Before the EXPUNGE responses, while the client still knows the
		// messages (RFC 6851 §4.3).
		c.untagged("OK [" + code + "] Moved")
	default:
		c.code = code
	}
	if missing || len(r.Source) < len(uids) {
		c.text = "Some of the messages are gone already"
	}
	return nil
}

// copyUID is the response code of COPY and MOVE (RFC 4315 §3), "" when nothing
// was copied.
func copyUID(r store.CopyResult) string {
	if len(r.Source) == 0 {
		return ""
	}
	b := append(make([]byte, 0, 64), "COPYUID "...)
	b = strconv.AppendUint(b, uint64(r.UIDValidity), 10)
	b = appendUIDs(append(b, ' '), r.Source)
	b = appendUIDs(append(b, ' '), r.Dest)
	return string(b)
}

// appendUIDs appends a set of ascending UIDs.
func appendUIDs(b []byte, uids []imap.UID) []byte {
	set := wire.NewSetBuilder(b)
	for _, uid := range uids {
		set.Add(uint32(uid))
	}
	return set.Bytes()
}
