package imapd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"time"

	"dirpost/internal/blob"
	"dirpost/internal/envelope"
	"dirpost/internal/message"
	"dirpost/internal/store"
	"dirpost/mra/imapd/wire"

	"github.com/emersion/go-imap/v2"
)

// maxAppended is how many messages one APPEND may bring (RFC 3502).
const maxAppended = 100

// errTooBig refuses a message by its announced size: a client that waits for
// leave never sends it (RFC 7889 §4).
var errTooBig = no("TOOBIG", "Message too big")

// appendMessages is APPEND: all messages or none (RFC 3502 §6.3.11). Each one is
// streamed; the mailbox is looked for before the client is asked to send.
func appendMessages(ctx context.Context, c *conn, dec *wire.Decoder) error {
	dec.Space()
	name := dec.Mailbox()
	if err := dec.Err(); err != nil {
		return err
	}
	var (
		dst   place
		mb    store.Mailbox
		found error
		all   []store.Appended
		room  int64 // for what is announced
	)
	for first := true; first || !dec.AtEnd(); first = false {
		dec.Space()
		head := parseAppend(dec)
		if err := dec.Err(); err != nil {
			return err
		}
		if first {
			if dst, mb, found = c.open(ctx, name, errTryCreate); found != nil {
				return found
			}
			if room, found = c.room(ctx, dst); found != nil {
				return found
			}
		}
		if head.literal.Size > c.srv.config.MaxMessage {
			return errTooBig
		}
		if room -= head.literal.Size; room < 0 {
			return envelope.ErrOverQuota
		}
		if len(all) == maxAppended {
			return no("LIMIT", "Too many messages at once")
		}
		content, err := c.receive(ctx, dec, head)
		if err != nil {
			return err
		}
		if content == nil { // RFC 3502 §6.3.11: an empty literal cancels
			return no("", "APPEND cancelled")
		}
		all = append(all, store.Appended{Content: content, Flags: head.flags})
	}
	if err := dec.End(); err != nil {
		return err
	}
	copies, err := c.srv.store.Append(ctx, dst.account.ID, mb.ID, all, c.quota(dst))
	if errors.Is(err, store.ErrNotFound) {
		return errTryCreate // it was deleted in between
	}
	if err != nil {
		return err
	}
	c.code = appendUID(copies)
	return nil
}

// room is how many octets the account of p may still take. Whether a message fits is
// decided when it is stored; this spares both sides to transfer what does not.
func (c *conn) room(ctx context.Context, p place) (int64, error) {
	if c.quota(p) == 0 {
		return math.MaxInt64, nil
	}
	used, err := c.srv.store.Usage(ctx, p.account.ID)
	return c.quota(p) - used.Bytes, err
}

// appendUID is the response code of APPEND (RFC 4315 §3).
func appendUID(copies []store.Copy) string {
	b := append(make([]byte, 0, 40), "APPENDUID "...)
	b = strconv.AppendUint(b, uint64(copies[0].UIDValidity), 10)
	b = append(b, ' ')
	set := wire.NewSetBuilder(b)
	for _, cp := range copies {
		set.Add(uint32(cp.UID))
	}
	return string(set.Bytes())
}

// appendHead is what stands before a message.
type appendHead struct {
	flags   []imap.Flag
	date    time.Time
	literal wire.Literal
}

// parseAppend takes [flags SP] [date-time SP] and the announcement of the
// literal.
func parseAppend(dec *wire.Decoder) appendHead {
	var h appendHead
	if dec.Peek() == '(' {
		h.flags = dec.FlagList()
		dec.Space()
	}
	if dec.Peek() == '"' {
		h.date = dec.DateTime()
		dec.Space()
	}
	h.literal = dec.AnnouncedLiteral()
	if h.literal.Binary {
		dec.Fail("literal8 is not supported")
	}
	return h
}

// receive streams one message into the store's content. It is nil for an empty
// literal. Clients send bare LF at times; what is stored has CRLF only, since
// what leaves later by SMTP must have (RFC 5321 §2.3.8).
func (c *conn) receive(ctx context.Context, dec *wire.Decoder, h appendHead) (*store.Content, error) {
	in := &intake{scanner: message.NewScanner(message.DefaultLimits()), body: c.srv.blobs.NewWriter(ctx)}
	defer in.body.Abort()
	canonical := message.NewCanonicalWriter(in)
	n, err := io.CopyBuffer(struct{ io.Writer }{io.MultiWriter(canonical, &in.last)}, dec.OpenLiteral(h.literal), make([]byte, 32<<10))
	if c.mc.Reader().Buffered() == 0 {
		c.mc.QuickAck() // imaplib and others send the end of the line apart
	}
	dec.CloseLiteral()
	if derr := dec.Err(); derr != nil {
		return nil, derr
	}
	if err == nil && in.last.octet == '\r' {
		err = canonical.Close()
	}
	if err != nil {
		return nil, fmt.Errorf("take message: %w", err)
	}
	if n == 0 {
		return nil, nil
	}
	return c.content(ctx, in, h.date)
}

// content describes a message that was received.
func (c *conn) content(ctx context.Context, in *intake, date time.Time) (*store.Content, error) {
	parsed := in.scanner.Close()
	if parsed.Defects&message.DefectHeaderTooBig != 0 && parsed.HeaderSize >= int64(message.DefaultLimits().MaxHeader) {
		return nil, no("TOOBIG", "Message header too big")
	}
	body, err := in.body.Finish(ctx, false)
	if err != nil {
		return nil, fmt.Errorf("store body: %w", err)
	}
	if date.IsZero() {
		date = c.srv.clock.Now()
	}
	return &store.Content{
		QueueID:      envelope.QueueID(c.srv.clock.NewID()),
		InternalDate: date,
		Header:       parsed.Header.Bytes(),
		Body:         body,
		Envelope:     parsed.Header.Envelope(nil),
		Structure:    message.EncodeStructure(parsed.Root),
		Index:        store.Index(message.IndexOf(parsed.Header)),
	}, nil
}

// intake takes the octets of a message: all of them to the scanner, those of the
// body to the blob as well.
type intake struct {
	scanner *message.Scanner
	body    *blob.Writer
	last    lastOctet
}

// Write implements io.Writer.
func (in *intake) Write(p []byte) (int, error) {
	if body := in.scanner.Scan(p); len(body) > 0 {
		if _, err := in.body.Write(body); err != nil {
			return 0, err
		}
	}
	return len(p), nil
}

// lastOctet remembers the last octet written. A message that ends without a line
// end is kept so; one that ends in CR has its line ended.
type lastOctet struct{ octet byte }

// Write implements io.Writer.
func (l *lastOctet) Write(p []byte) (int, error) {
	if len(p) > 0 {
		l.octet = p[len(p)-1]
	}
	return len(p), nil
}
