package store

import (
	"context"
	"errors"
	"fmt"
	"io"

	"dirpost/internal/blob"
	"dirpost/internal/envelope"
	"dirpost/internal/postgres"
)

// Reader is a whole message, header and body, at any offset or as a stream. It
// holds no connection while its user is busy. It serves one goroutine.
type Reader struct {
	header []byte
	body   *blob.Reader
}

const contentSQL = `
select m.prepend, m.header, m.header_codec, m.body_size, m.body_lines, m.blob_id, m.body_codec, m.body
  from message m
 where m.account_id = $1
   and m.message_id = $2`

// OpenMessage returns a Reader of m, which Messages has given; what it lacks of
// header and body is read. ctx bounds all its reading.
func (s *Store) OpenMessage(ctx context.Context, a AccountID, m *Message) (*Reader, error) {
	header, body := m.Header, m.Body
	if header == nil || body.IsInline() && body.Inline == nil {
		var (
			prepend postgres.Bytes
			stored  []byte
			codec   int16
			lines   int32
			id      postgres.UUID
		)
		body = blob.Body{}
		rows, err := s.db.Query(ctx, postgres.Interactive, contentSQL, a, m.ID)
		if err != nil {
			return nil, wrap("open message", err)
		}
		defer rows.Close()
		if !rows.Next() {
			if err := rows.Err(); err != nil {
				return nil, wrap("open message", err)
			}
			return nil, envelope.Because(envelope.StatusNotFound, fmt.Errorf("message %d: %w", m.ID, ErrNotFound))
		}
		if err := rows.Scan(&prepend, &stored, &codec, &body.Size, &lines, &id, &body.Codec, &body.Inline); err != nil {
			return nil, wrap("open message", err)
		}
		body.Lines, body.Blob = int64(lines), blob.ID(id.Bytes)
		if header, err = s.blobs.Decode(stored, codec, append([]byte(nil), prepend...)); err != nil {
			return nil, fmt.Errorf("header of message %d: %w", m.ID, err)
		}
	}
	r, err := s.blobs.Open(ctx, body)
	if err != nil {
		return nil, fmt.Errorf("body of message %d: %w", m.ID, err)
	}
	return &Reader{header, r}, nil
}

// Size returns the octets of header and body: RFC822.SIZE.
func (r *Reader) Size() int64 { return int64(len(r.header)) + r.body.Size() }

// HeaderSize returns the octets of the header with its empty line.
func (r *Reader) HeaderSize() int64 { return int64(len(r.header)) }

// Header returns the header with its empty line, to be read only.
func (r *Reader) Header() []byte { return r.header }

// Body returns the reader of what stands behind the header.
func (r *Reader) Body() *blob.Reader { return r.body }

// ReadAt is io.ReaderAt.
func (r *Reader) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, errors.New("negative offset")
	}
	n := 0
	if off < int64(len(r.header)) {
		n = copy(p, r.header[off:])
		off += int64(n)
		if n == len(p) {
			return n, nil
		}
	}
	k, err := r.body.ReadAt(p[n:], off-int64(len(r.header)))
	return n + k, err
}

// WriteTo writes the whole message to w.
func (r *Reader) WriteTo(w io.Writer) (int64, error) {
	n, err := w.Write(r.header)
	if err != nil {
		return int64(n), err
	}
	k, err := r.body.WriteTo(w)
	return int64(n) + k, err
}

// Close gives the buffers back.
func (r *Reader) Close() error { return r.body.Close() }
