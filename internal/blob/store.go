package blob

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"dirpost/internal/postgres"

	"github.com/klauspost/compress/s2"
	"github.com/klauspost/compress/zstd"
)

// ChunkSize is how many octets of a body one row of a blob holds.
const ChunkSize = 256 << 10

// The ages of a blob that decide whether it is written to or collected.
const (
	touchAfter = time.Hour      // a younger touch is not repeated
	grace      = 24 * time.Hour // what was touched within it is not collected
)

// ErrDamaged reports a blob with a missing or unreadable chunk.
var ErrDamaged = errors.New("blob is damaged")

// Store keeps bodies.
type Store struct {
	db      *postgres.DB
	encoder *zstd.Encoder
	decoder *zstd.Decoder
	buffers sync.Pool // *[]byte for a chunk, encoded or not
	small   sync.Pool // *[]byte for a small body
}

// New returns the Store on db.
func New(db *postgres.DB) *Store {
	encoder, err := zstd.NewWriter(nil,
		zstd.WithEncoderLevel(zstd.SpeedFastest),
		// Base64 has no repeated strings: without this option an
		// attachment would not shrink at all.
		zstd.WithAllLitEntropyCompression(true),
		zstd.WithEncoderCRC(false), // pages and log have checksums
		zstd.WithWindowSize(ChunkSize),
		zstd.WithLowerEncoderMem(true))
	if err != nil {
		panic("zstd options: " + err.Error())
	}
	// The message store keeps packed indexes of large mailboxes in this form.
	decoder, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(0), zstd.WithDecoderMaxMemory(256<<20))
	if err != nil {
		panic("zstd options: " + err.Error())
	}
	s := &Store{db: db, encoder: encoder, decoder: decoder}
	s.buffers.New = func() any { b := make([]byte, 0, s2.MaxEncodedLen(ChunkSize)); return &b }
	s.small.New = func() any { b := make([]byte, 0, SmallBody); return &b }
	return s
}

// Encode compresses p, of any size, for one who will look after the result: the
// octets and their codec. Where it does not pay they are p itself.
func (s *Store) Encode(p []byte) ([]byte, int16) {
	if len(p) < minCompress {
		return p, CodecRaw
	}
	z := s.encoder.EncodeAll(p, make([]byte, 0, len(p)*5/8))
	if len(z) >= len(p)-len(p)/16 {
		return p, CodecRaw
	}
	return z, CodecZstd
}

// compress compresses a small body or a chunk of a large one into dst, whose
// octets are lost. Text and HTML often shrink well with S2, which costs an eighth
// of the time that zstd takes for it; what has fewer repeated strings, as base64,
// still loses a quarter or more by zstd's coding of single octets. The result may
// be p itself.
func (s *Store) compress(p, dst []byte) ([]byte, int16) {
	if len(p) < minCompress {
		return p, CodecRaw
	}
	if z := s2.Encode(dst[:cap(dst)], p); len(z) <= len(p)*5/8 {
		return z, CodecS2
	}
	if z := s.encoder.EncodeAll(p, dst[:0]); len(z) < len(p)-len(p)/16 {
		return z, CodecZstd
	}
	return p, CodecRaw
}

// Decode appends to dst what p was before Encode.
func (s *Store) Decode(p []byte, codec int16, dst []byte) ([]byte, error) {
	switch codec {
	case CodecRaw:
		return append(dst, p...), nil
	case CodecZstd:
		out, err := s.decoder.DecodeAll(p, dst)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrDamaged, err)
		}
		return out, nil
	case CodecS2:
		n, err := s2.DecodedLen(p)
		if err != nil || n > ChunkSize {
			return nil, fmt.Errorf("%w: %d octets in a chunk: %w", ErrDamaged, n, err)
		}
		dst = slices.Grow(dst, n)
		if _, err := s2.Decode(dst[len(dst):len(dst)+n], p); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrDamaged, err)
		}
		return dst[:len(dst)+n], nil
	}
	return nil, fmt.Errorf("%w: codec %d", ErrDamaged, codec)
}

// newID returns a UUIDv7 (RFC 9562 §5.7) by the database's clock.
func (s *Store) newID() ID {
	var id ID
	rand.Read(id[:])
	binary.BigEndian.PutUint64(id[:8], uint64(s.db.Now().UnixMilli())<<16|0x7000|uint64(binary.BigEndian.Uint16(id[6:8])&0x0fff))
	id[8] = id[8]&0x3f | 0x80
	return id
}

const touchSQL = `
with touched as (
  update blob
     set last_use = $2::bigint
   where blob_id = $1
     and last_use < $2::bigint - $3::bigint
)
select exists (select from blob where blob_id = $1)`

// Touch says that a reference to the blob id is about to be made. It comes
// before the transaction that makes it.
func (s *Store) Touch(ctx context.Context, id ID) error {
	var exists bool
	err := s.db.QueryRow(ctx, postgres.Delivery, touchSQL, id, s.db.Now().Unix(), int64(touchAfter/time.Second)).Scan(&exists)
	if err != nil {
		return fmt.Errorf("touch blob: %w", err)
	}
	if !exists {
		return fmt.Errorf("touch blob %x: %w: it is gone", id, ErrDamaged)
	}
	return nil
}

// EnsureBlob returns b with its octets in a blob.
func (s *Store) EnsureBlob(ctx context.Context, b Body) (Body, error) {
	if !b.IsInline() {
		return b, s.Touch(ctx, b.Blob)
	}
	id, err := s.put(ctx, s.newID(), b.Hash, b.Size, b.Codec, b.Inline)
	if err != nil {
		return Body{}, err
	}
	b.Blob, b.Codec, b.Inline = id, CodecRaw, nil
	return b, nil
}

const putSQL = `
select put_blob($1, $2, $3, $4, $5, $6)
  from set_config('synchronous_commit', 'off', true)`

// put makes the blob of a hash; data is its only chunk, nil if the chunks were
// written under id before. It does not wait for the disk: a blob is nothing
// before somebody refers to it, and the commit of that reference, later in the
// same log, waits for both.
func (s *Store) put(ctx context.Context, id ID, hash [32]byte, size int64, codec int16, data []byte) (ID, error) {
	var known ID
	err := s.db.QueryRow(ctx, postgres.Delivery, putSQL, id, hash[:], size, s.db.Now().Unix(), codec, data).Scan(&known)
	if err != nil {
		return ID{}, fmt.Errorf("write blob: %w", err)
	}
	return known, nil
}
