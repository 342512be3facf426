package blob

import (
	"context"
	"errors"
	"fmt"
	"io"

	"dirpost/internal/postgres"
)

// Reader reads a body, at any offset or as a stream. Between two chunks it
// holds no connection, so its user may be a slow client.
type Reader struct {
	store *Store
	ctx   context.Context // of the command: io.ReaderAt has none
	body  Body
	chunk []byte  // decoded
	seq   int64   // of chunk, -1 for none
	large *[]byte // what chunk is from
}

// Open returns a Reader of b. ctx bounds all its reading.
func (s *Store) Open(ctx context.Context, b Body) (*Reader, error) {
	r := &Reader{store: s, ctx: ctx, body: b, seq: -1}
	if b.IsInline() {
		r.seq = 0
		if b.Codec == CodecRaw {
			r.chunk = b.Inline
		} else {
			var err error
			r.chunk, err = s.Decode(b.Inline, b.Codec, make([]byte, 0, min(b.Size, ChunkSize)))
			if err != nil {
				return nil, err
			}
		}
		if int64(len(r.chunk)) != b.Size {
			return nil, fmt.Errorf("%w: %d octets instead of %d", ErrDamaged, len(r.chunk), b.Size)
		}
	}
	return r, nil
}

// Size returns the number of octets of the body.
func (r *Reader) Size() int64 { return r.body.Size }

// ReadAt is io.ReaderAt, for one goroutine at a time.
func (r *Reader) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, errors.New("negative offset")
	}
	n := 0
	for n < len(p) && off < r.body.Size {
		if err := r.load(off / ChunkSize); err != nil {
			return n, err
		}
		k := copy(p[n:], r.chunk[off%ChunkSize:])
		n += k
		off += int64(k)
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// WriteTo writes the whole body to w.
func (r *Reader) WriteTo(w io.Writer) (int64, error) {
	var n int64
	for n < r.body.Size {
		if err := r.load(n / ChunkSize); err != nil {
			return n, err
		}
		k, err := w.Write(r.chunk)
		n += int64(k)
		if err != nil {
			return n, err
		}
	}
	return n, nil
}

const readSQL = `
select codec, data
  from blob_chunk
 where blob_id = $1
   and seq = $2`

// load makes chunk number seq the current one.
func (r *Reader) load(seq int64) error {
	if r.seq == seq {
		return nil
	}
	if r.large == nil {
		r.large = r.store.buffers.Get().(*[]byte)
	}
	r.seq = -1
	rows, err := r.store.db.Query(r.ctx, postgres.Interactive, readSQL, r.body.Blob, int32(seq))
	if err != nil {
		return fmt.Errorf("read chunk %d: %w", seq, err)
	}
	defer rows.Close()
	if !rows.Next() {
		if err := rows.Err(); err != nil {
			return postgres.Classify(fmt.Errorf("read chunk %d: %w", seq, err))
		}
		return fmt.Errorf("%w: chunk %d of %x is missing", ErrDamaged, seq, r.body.Blob)
	}
	var codec int16
	var data postgres.Bytes // stays in the connection's buffer: decoded before the rows are closed
	if err := rows.Scan(&codec, &data); err != nil {
		return postgres.Classify(fmt.Errorf("read chunk %d: %w", seq, err))
	}
	r.chunk, err = r.store.Decode(data, codec, (*r.large)[:0])
	if err != nil {
		return err
	}
	if want := min(ChunkSize, r.body.Size-seq*ChunkSize); int64(len(r.chunk)) != want {
		return fmt.Errorf("%w: chunk %d of %x has %d octets instead of %d", ErrDamaged, seq, r.body.Blob, len(r.chunk), want)
	}
	r.seq = seq
	return nil
}

// Close gives the buffer back. A Reader that is not closed costs only the
// buffer.
func (r *Reader) Close() error {
	if r.large != nil {
		r.store.buffers.Put(r.large)
	}
	r.large, r.chunk, r.seq = nil, nil, -1
	r.body = Body{}
	return nil
}
