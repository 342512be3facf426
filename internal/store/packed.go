package store

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"

	"dirpost/internal/postgres"

	"github.com/emersion/go-imap/v2"
)

// minPacked is the smallest delta for which the packed index is written.
const minPacked = 1000

const savePackedSQL = `
insert into mailbox_index (account_id, mailbox_id, modseq, uidnext, packed)
select $1, $2, $3, $4, $5
 where exists (select from mailbox where account_id = $1 and mailbox_id = $2)
    on conflict (account_id, mailbox_id) do update
   set modseq = excluded.modseq, uidnext = excluded.uidnext, packed = excluded.packed
 where mailbox_index.modseq < excluded.modseq`

const dropPackedSQL = `
delete from mailbox_index
 where account_id = $1
   and mailbox_id = $2`

// savePacked writes the packed index when reading without it took long. It is a
// cache: nodes may race, the newest stays, and a failure costs only time.
func (s *Store) savePacked(ctx context.Context, key MailboxKey, v *View, d *delta) {
	if d.size() < max(minPacked, v.Len()/50) {
		return
	}
	packed, codec := s.blobs.Encode(v.pack())
	packed = append([]byte{byte(codec)}, packed...)
	_, err := s.db.Exec(ctx, postgres.Background, savePackedSQL, key.Account, key.Mailbox, v.modSeq, int64(v.uidNext), packed)
	if err != nil {
		s.log.DebugContext(ctx, "packed index not written", "mailbox", key.Mailbox, "err", err)
	}
}

// pack writes the messages of v: the number of them, then per message the
// distance of its UID to the one before, its flags, and the distance of its
// modseq, as varints.
func (v *View) pack() []byte {
	b := make([]byte, 0, 10+6*v.Len())
	b = binary.AppendUvarint(b, uint64(v.Len()))
	var before Entry
	for _, e := range v.All() {
		b = binary.AppendUvarint(b, uint64(e.UID-before.UID))
		b = binary.AppendUvarint(b, uint64(e.Flags))
		b = binary.AppendVarint(b, int64(e.ModSeq-before.ModSeq))
		before = e
	}
	return b
}

var errPacked = errors.New("damaged")

// unpack is the reverse of pack, of the stored form.
func (s *Store) unpack(stored []byte) (*View, error) {
	if len(stored) == 0 {
		return nil, errPacked
	}
	b, err := s.blobs.Decode(stored[1:], int16(stored[0]), nil)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errPacked, err)
	}
	n, k := binary.Uvarint(b)
	if k <= 0 || n > uint64(len(b)) {
		return nil, errPacked
	}
	b = b[k:]
	var (
		build builder
		e     entry
	)
	for range n {
		uid, k1 := binary.Uvarint(b)
		flags, k2 := binary.Uvarint(b[max(k1, 0):])
		seq, k3 := binary.Varint(b[max(k1, 0)+max(k2, 0):])
		if k1 <= 0 || k2 <= 0 || k3 <= 0 || uid == 0 {
			return nil, errPacked
		}
		b = b[k1+k2+k3:]
		e = entry{e.uid + imap.UID(uid), Flags(flags), e.modSeq + ModSeq(seq)}
		build.add(e)
	}
	v := &View{}
	v.pages, v.starts = build.finish()
	return v, nil
}
