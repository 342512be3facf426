package blob_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"runtime"
	"sync"
	"testing"
	"time"

	"dirpost/internal/blob"
	"dirpost/internal/envelope"
	"dirpost/internal/postgres"
	"dirpost/internal/testenv"
)

// octets returns n octets, text or noise.
func octets(n int, seed uint64, noise bool) []byte {
	r := rand.New(rand.NewPCG(seed, 1))
	p := make([]byte, n)
	for i := range p {
		p[i] = byte(r.UintN(256))
		if !noise {
			p[i] = "the quick brown fox\r\n"[i%21]&0x7f ^ p[i]&1
		}
	}
	return p
}

func write(t testing.TB, s *blob.Store, p []byte, needBlob bool) blob.Body {
	t.Helper()
	w := s.NewWriter(t.Context())
	defer w.Abort()
	for rest := p; len(rest) > 0; {
		k := min(len(rest), 7001)
		if _, err := w.Write(rest[:k]); err != nil {
			t.Fatal(err)
		}
		rest = rest[k:]
	}
	b, err := w.Finish(t.Context(), needBlob)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func read(t testing.TB, s *blob.Store, b blob.Body) []byte {
	t.Helper()
	r, err := s.Open(t.Context(), b)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	var out bytes.Buffer
	if n, err := r.WriteTo(&out); err != nil || n != b.Size {
		t.Fatalf("read %d octets of %d: %v", n, b.Size, err)
	}
	return out.Bytes()
}

func TestWriteAndRead(t *testing.T) {
	t.Parallel()
	s := blob.New(testenv.Database(t))
	for _, size := range []int{0, 1, 100, 511, 512, 4096, blob.SmallBody, blob.SmallBody + 1, blob.ChunkSize - 1, blob.ChunkSize, blob.ChunkSize + 1, 3*blob.ChunkSize + 17} {
		for _, noise := range []bool{false, true} {
			for _, needBlob := range []bool{false, true} {
				t.Run(fmt.Sprintf("%d octets, noise %v, blob %v", size, noise, needBlob), func(t *testing.T) {
					p := octets(size, uint64(size), noise)
					b := write(t, s, p, needBlob)
					if want := size <= blob.SmallBody && !needBlob; b.IsInline() != want {
						t.Errorf("inline %v, want %v", b.IsInline(), want)
					}
					if b.Size != int64(size) || b.Lines != int64(bytes.Count(p, []byte("\n"))) || b.Hash != sha256.Sum256(p) {
						t.Errorf("size %d, lines %d, hash %x", b.Size, b.Lines, b.Hash)
					}
					if !bytes.Equal(read(t, s, b), p) {
						t.Error("what was read is not what was written")
					}
					r, err := s.Open(t.Context(), b)
					if err != nil {
						t.Fatal(err)
					}
					defer r.Close()
					got, err := io.ReadAll(io.NewSectionReader(r, int64(size/3), int64(size/2)))
					if err != nil || !bytes.Equal(got, p[size/3:size/3+size/2]) {
						t.Errorf("part: %d octets, %v", len(got), err)
					}
				})
			}
		}
	}
}

// The same octets are stored once.
func TestSingleInstance(t *testing.T) {
	t.Parallel()
	db := testenv.Database(t)
	s := blob.New(db)
	for _, size := range []int{100, 2*blob.ChunkSize + 5} {
		p := octets(size, 1, true)
		first, second := write(t, s, p, true), write(t, s, p, true)
		inline := write(t, s, p, false)
		third, err := s.EnsureBlob(t.Context(), inline)
		if err != nil {
			t.Fatal(err)
		}
		if first.Blob != second.Blob || first.Blob != third.Blob {
			t.Errorf("%d octets: blobs %x, %x, %x", size, first.Blob, second.Blob, third.Blob)
		}
	}
	var blobs, chunks, uploads int
	err := db.QueryRow(t.Context(), postgres.Background, `select (select count(*) from blob), (select count(*) from blob_chunk), (select count(*) from blob_upload)`).Scan(&blobs, &chunks, &uploads)
	if err != nil || blobs != 2 || chunks != 4 || uploads != 0 {
		t.Errorf("%d blobs, %d chunks, %d uploads (%v), want 2, 4, 0", blobs, chunks, uploads, err)
	}
}

func TestDamage(t *testing.T) {
	t.Parallel()
	db := testenv.Database(t)
	s := blob.New(db)
	b := write(t, s, octets(3*blob.ChunkSize, 1, false), false)
	for _, sql := range []string{`update blob_chunk set data = 'xx' where seq = 2`, `delete from blob_chunk where seq = 1`} {
		if _, err := db.Exec(t.Context(), postgres.Background, sql); err != nil {
			t.Fatal(err)
		}
		r, err := s.Open(t.Context(), b)
		if err != nil {
			t.Fatal(err)
		}
		if _, err = r.WriteTo(io.Discard); !errors.Is(err, blob.ErrDamaged) || !envelope.StatusOf(err).IsTemporary() {
			t.Errorf("after %s: %v", sql, err)
		}
		if _, err := r.ReadAt(make([]byte, 10), 5); err != nil {
			t.Errorf("the first chunk is good: %v", err)
		}
	}
	if err := s.Touch(t.Context(), blob.ID{1}); !errors.Is(err, blob.ErrDamaged) {
		t.Errorf("touch what is not there: %v", err)
	}
}

func TestCollect(t *testing.T) {
	t.Parallel()
	db := testenv.Database(t)
	s := blob.New(db)
	old := func() {
		t.Helper()
		for _, sql := range []string{`update blob set last_use = last_use - 90000`, `update blob_upload set started_at = started_at - 90000`} {
			if _, err := db.Exec(t.Context(), postgres.Background, sql); err != nil {
				t.Fatal(err)
			}
		}
	}
	var kept []blob.ID
	refers := func(_ context.Context, ids []blob.ID) ([]blob.ID, error) { return kept, nil }
	keep, touch, drop := write(t, s, octets(20_000, 1, true), false), write(t, s, octets(20_000, 2, true), false), write(t, s, octets(600_000, 3, true), false)
	kept = []blob.ID{keep.Blob}
	broken := s.NewWriter(t.Context())
	if _, err := broken.Write(octets(600_000, 4, true)); err != nil {
		t.Fatal(err)
	}
	broken.Abort()
	if n, err := s.Collect(t.Context(), refers); n != 0 || err != nil {
		t.Errorf("collected %d that are fresh, %v", n, err)
	}
	old()
	if err := s.Touch(t.Context(), touch.Blob); err != nil {
		t.Fatal(err)
	}
	if n, err := s.Collect(t.Context(), refers); n != 2 || err != nil {
		t.Errorf("collected %d, %v, want 2: one blob, one upload", n, err)
	}
	read(t, s, keep)
	read(t, s, touch)
	var chunks int
	if err := db.QueryRow(t.Context(), postgres.Background, `select count(*) from blob_chunk`).Scan(&chunks); err != nil || chunks != 2 {
		t.Errorf("%d chunks left (%v), want 2", chunks, err)
	}
	// The same octets again are another blob.
	if again := write(t, s, octets(600_000, 3, true), false); again.Blob == drop.Blob {
		t.Error("a collected blob came back")
	}
}

// Writers, a clock that makes everything old, and a collector: what was referred
// to after a touch is never collected.
func TestCollectRace(t *testing.T) {
	t.Parallel()
	db := testenv.Database(t)
	s := blob.New(db)
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	var (
		mu   sync.Mutex // guards used
		used = map[blob.ID]bool{}
		wg   sync.WaitGroup
	)
	for i := range 4 {
		wg.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				w := s.NewWriter(context.Background())
				if _, err := w.Write(octets(20_000, uint64((i+n)%5), true)); err != nil {
					t.Error(err)
				}
				b, err := w.Finish(context.Background(), true)
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				used[b.Blob] = true
				mu.Unlock()
				if _, err := s.Open(context.Background(), b); err != nil {
					t.Error(err)
				}
				mu.Lock()
				delete(used, b.Blob) // the reference is gone again
				mu.Unlock()
			}
		})
	}
	wg.Go(func() {
		for ctx.Err() == nil {
			// Only what nobody has touched for a while grows old.
			if _, err := db.Exec(context.Background(), postgres.Background, `update blob set last_use = last_use - 86300 where last_use > extract(epoch from now()) - 3600`); err != nil {
				t.Error(err)
			}
			_, err := s.Collect(context.Background(), func(_ context.Context, ids []blob.ID) (refers []blob.ID, err error) {
				mu.Lock()
				defer mu.Unlock()
				for _, id := range ids {
					if used[id] {
						refers = append(refers, id)
					}
				}
				return refers, nil
			})
			if err != nil {
				t.Error(err)
			}
		}
	})
	wg.Wait()
	var dangling int
	if err := db.QueryRow(t.Context(), postgres.Background, `select count(*) from blob b where not exists (select from blob_chunk c where c.blob_id = b.blob_id)`).Scan(&dangling); err != nil || dangling > 0 {
		t.Errorf("%d blobs without content, %v", dangling, err)
	}
}

// A body of 50 MiB is written and read in the memory of a few chunks.
func TestLargeBodyNeedsLittleMemory(t *testing.T) {
	s := blob.New(testenv.Database(t))
	piece := octets(1<<20, 1, true)
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	peak := uint64(0)
	sample := func() {
		runtime.ReadMemStats(&after)
		peak = max(peak, after.HeapInuse)
	}
	w := s.NewWriter(t.Context())
	for i := range 50 {
		piece[0] = byte(i)
		if _, err := w.Write(piece); err != nil {
			t.Fatal(err)
		}
		sample()
	}
	b, err := w.Finish(t.Context(), false)
	if err != nil {
		t.Fatal(err)
	}
	r, err := s.Open(t.Context(), b)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	n := 0
	if _, err := r.WriteTo(writerFunc(func(p []byte) (int, error) {
		if n += len(p); n%(1<<20) == 0 {
			sample()
		}
		return len(p), nil
	})); err != nil || n != 50<<20 {
		t.Fatalf("read %d octets, %v", n, err)
	}
	if grown := int64(peak) - int64(before.HeapInuse); grown > 10<<20 {
		t.Errorf("heap grew by %d KiB", grown>>10)
	} else {
		t.Logf("heap grew by %d KiB", grown>>10)
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

func BenchmarkEncode(b *testing.B) {
	s := blob.New(nil)
	for _, size := range []int{1 << 10, 2 << 10, 4 << 10, 16 << 10} {
		p := octets(size, 1, false)
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(size))
			var z []byte
			for b.Loop() {
				z, _ = s.Encode(p)
			}
			b.ReportMetric(float64(len(z)), "octets")
		})
	}
}

// A body that was returned is nobody else's: not the next writer's, which gets the
// buffer, whether the octets could be compressed or not.
func TestBodyIsKept(t *testing.T) {
	t.Parallel()
	s := blob.New(testenv.Database(t))
	for _, noise := range []bool{false, true} {
		for _, size := range []int{1, 300, 4000, blob.SmallBody, blob.SmallBody + 1} {
			want := octets(size, 1, noise)
			body := write(t, s, want, false)
			for seed := range uint64(8) {
				write(t, s, octets(size, 2+seed, true), false)
			}
			if !bytes.Equal(read(t, s, body), want) {
				t.Errorf("%d octets, noise %v: changed by a later body", size, noise)
			}
		}
	}
}
