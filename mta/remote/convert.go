package remote

import (
	"context"
	"fmt"
	"io"

	"dirpost/internal/message"
	"dirpost/mta/queue"
)

// Resigner renews our own signatures of a message that was converted for a next
// hop without 8BITMIME. body and converted write the octets after the empty line
// as they were and as they are sent. Errors are temporary.
type Resigner interface {
	Resign(ctx context.Context, before message.Header, body func(io.Writer) error, after message.Header, converted func(io.Writer) error) (message.Header, error)
}

// content is a message in one of the forms in which it may be sent.
type content struct {
	size     int64 // octets
	eightBit bool
	write    func(io.Writer) error
}

// original is m as it is.
func (t *Transport) original(ctx context.Context, m *queue.Message) *content {
	return &content{size: m.Size(), eightBit: m.Body8Bit, write: func(w io.Writer) error {
		if _, err := w.Write(m.Header); err != nil {
			return err
		}
		return t.body(ctx, m, w)
	}}
}

// body streams the body of m to w.
func (t *Transport) body(ctx context.Context, m *queue.Message, w io.Writer) error {
	r, err := t.blobs.Open(ctx, m.Body)
	if err != nil {
		return &sourceError{fmt.Errorf("open body: %w", err)}
	}
	defer r.Close()
	return stream(w, r)
}

// converted is m without octets above 127 (RFC 6152 §3), with signatures of ours
// made anew. The body is read several times and never held. The error is
// message.ErrSevenBit if that cannot be, else a trouble of ours.
func (t *Transport) converted(ctx context.Context, m *queue.Message) (*content, error) {
	body := func(w io.Writer) error { return t.body(ctx, m, w) }
	before := message.ParseHeader(m.Header)
	plan, err := message.PlanSevenBit(before, body)
	if err != nil {
		return nil, err
	}
	seven := func(w io.Writer) error {
		c := plan.Writer(w)
		if err := body(c); err != nil {
			return err
		}
		return c.Close()
	}
	header := plan.Header
	if t.config.Resigner != nil {
		if header, err = t.config.Resigner.Resign(ctx, before, body, header, seven); err != nil {
			return nil, err
		}
	}
	n := counter(len(header.Bytes()))
	if err := seven(&n); err != nil {
		return nil, err
	}
	return &content{size: int64(n), write: func(w io.Writer) error {
		if _, err := w.Write(header.Bytes()); err != nil {
			return err
		}
		return seven(w)
	}}, nil
}

// counter counts octets.
type counter int64

// Write implements io.Writer.
func (c *counter) Write(p []byte) (int, error) {
	*c += counter(len(p))
	return len(p), nil
}
