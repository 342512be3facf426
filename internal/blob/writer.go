package blob

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"sync"

	"dirpost/internal/postgres"
)

// minCompress is the smallest number of octets that is compressed: below it
// the processor time costs more than the octets.
const minCompress = 512

// Writer takes the octets of one body. It ends with Finish or Abort.
type Writer struct {
	store *Store
	ctx   context.Context // of the SMTP transaction: io.Writer has none
	buf   []byte          // the chunk that fills
	room  *[]byte         // what buf is from
	pool  *sync.Pool      // what room is from
	hash  hash.Hash
	size  int64
	lines int64
	id    ID  // of the blob, zero while everything is in buf
	seq   int // chunks written
	err   error
}

// errFinished reports a write after the end.
var errFinished = errors.New("body is finished")

// NewWriter returns a Writer for one body. ctx bounds the writing of chunks.
func (s *Store) NewWriter(ctx context.Context) *Writer {
	return &Writer{store: s, ctx: ctx, hash: sha256.New()}
}

// Write takes the next octets. Once it has failed it fails for good.
func (w *Writer) Write(p []byte) (int, error) {
	if w.err != nil {
		return 0, w.err
	}
	w.hash.Write(p)
	w.lines += int64(bytes.Count(p, []byte{'\n'}))
	n := len(p)
	w.size += int64(n)
	for len(p) > 0 {
		if len(w.buf) == ChunkSize {
			if w.err = w.flush(); w.err != nil {
				return 0, w.err
			}
		}
		w.reserve(len(p))
		k := min(len(p), ChunkSize-len(w.buf))
		w.buf = append(w.buf, p[:k]...)
		p = p[k:]
	}
	return n, nil
}

// reserve makes room for n more octets, or for a whole chunk once the body is not
// small.
func (w *Writer) reserve(n int) {
	pool := &w.store.small
	if len(w.buf)+n > SmallBody {
		pool = &w.store.buffers
	}
	if pool == w.pool || w.pool == &w.store.buffers {
		return
	}
	room := pool.Get().(*[]byte)
	buf := append((*room)[:0], w.buf...)
	w.release()
	w.buf, w.room, w.pool = buf, room, pool
}

const (
	asyncSQL  = `set local synchronous_commit = off`
	uploadSQL = `
insert into blob_upload (blob_id, started_at)
values ($1, $2)`
	chunkSQL = `
insert into blob_chunk (blob_id, seq, codec, data)
values ($1, $2, $3, $4)`
)

// flush writes the full chunk. It does not wait for the disk: the commit of a
// reference to the blob does.
func (w *Writer) flush() error {
	scratch := w.store.buffers.Get().(*[]byte)
	defer w.store.buffers.Put(scratch)
	data, codec := w.store.compress(w.buf, *scratch)
	var b postgres.Batch
	b.Queue(asyncSQL)
	if w.id == (ID{}) {
		w.id = w.store.newID()
		b.Queue(uploadSQL, w.id, w.store.db.Now().Unix())
	}
	b.Queue(chunkSQL, w.id, w.seq, codec, data)
	if err := w.store.db.SendBatch(w.ctx, postgres.Delivery, &b).Close(); err != nil {
		return postgres.Classify(fmt.Errorf("write chunk %d: %w", w.seq, err))
	}
	w.seq++
	w.buf = w.buf[:0]
	return nil
}

// Finish ends the body and returns where it is: a value when it is small and no
// queue row will need it, else a blob. The blob may have been there before.
func (w *Writer) Finish(ctx context.Context, needBlob bool) (Body, error) {
	if w.err != nil {
		return Body{}, w.err
	}
	w.err = errFinished
	defer w.release()
	b := Body{Size: w.size, Lines: w.lines}
	w.hash.Sum(b.Hash[:0])
	if w.seq == 0 {
		scratch := w.store.buffers.Get().(*[]byte)
		defer w.store.buffers.Put(scratch)
		data, codec := w.store.compress(w.buf, *scratch)
		if b.Size <= SmallBody && !needBlob {
			b.Inline, b.Codec = bytes.Clone(data), codec // the buffers go back
			return b, nil
		}
		id, err := w.store.put(ctx, w.store.newID(), b.Hash, b.Size, codec, nonNil(data))
		b.Blob = id
		return b, err
	}
	if len(w.buf) > 0 {
		w.ctx = ctx
		if err := w.flush(); err != nil {
			return Body{}, err
		}
	}
	id, err := w.store.put(ctx, w.id, b.Hash, b.Size, CodecRaw, nil)
	b.Blob = id
	return b, err
}

// nonNil gives an empty body a chunk, too.
func nonNil(p []byte) []byte {
	if p == nil {
		return []byte{}
	}
	return p
}

// Size returns the number of octets so far.
func (w *Writer) Size() int64 { return w.size }

// Abort drops the body. Chunks that were written are collected after a day. It
// may follow Finish.
func (w *Writer) Abort() {
	w.err = errFinished
	w.release()
}

// release gives the buffer back.
func (w *Writer) release() {
	if w.room != nil {
		*w.room = w.buf[:0]
		w.pool.Put(w.room)
	}
	w.buf, w.room, w.pool = nil, nil, nil
}
