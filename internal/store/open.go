package store

import (
	"container/list"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"sync"
	"sync/atomic"

	"dirpost/internal/postgres"

	"github.com/emersion/go-imap/v2"
)

// defaultViewCache is how many octets of views a node keeps. Views in use by
// sessions stay alive in any case.
const defaultViewCache = 256 << 20

// Rows of deltaSQL and loadSQL: what the first column says the others are.
const (
	rowMailbox = iota // modseq, uidnext, uidvalidity, log_floor, unseen
	rowMessage        // uid, modseq, flags
	rowGone           // first and last uid expunged
	rowPacked         // modseq, uidnext of the packed index
)

// "lateral (… offset 0)" is explained in 0003_store_functions.sql.
//
// Both statements see one snapshot, so that counters, rows and log fit
// together. Everything after (modseq, uidnext) of the base is in them, as long
// as the base is not older than log_floor.
const (
	deltaSQL = `
select 0::bigint, m.modseq, m.uidnext, m.uidvalidity, m.log_floor, m.unseen, null::bytea
  from mailbox m
 where m.account_id = $1 and m.mailbox_id = $2
union all
select 1, x.uid, x.modseq, x.flags, 0, 0, null
  from mailbox_message x
 where x.account_id = $1 and x.mailbox_id = $2 and x.uid >= $3
union all
select 1, x.uid, x.modseq, x.flags, 0, 0, null
  from change_log c
 cross join lateral unnest(c.uids) r
 cross join lateral (
       select y.uid, y.modseq, y.flags
         from mailbox_message y
        where y.account_id = $1 and y.mailbox_id = $2
          and y.uid >= lower(r) and y.uid < least(upper(r), $3)
       offset 0) x
 where c.account_id = $1 and c.mailbox_id = $2 and c.modseq > $4 and c.kind = 2
union all
select 2, lower(r), upper(r) - 1, 0, 0, 0, null
  from change_log c
 cross join lateral unnest(c.uids) r
 where c.account_id = $1 and c.mailbox_id = $2 and c.modseq > $4 and c.kind = 3`
	loadSQL = `
with base as materialized (
  select i.modseq, i.uidnext, i.packed
    from mailbox_index i
    join mailbox m using (account_id, mailbox_id)
   where i.account_id = $1 and i.mailbox_id = $2 and i.modseq >= m.log_floor
), since as materialized (
  select coalesce((select b.modseq from base b), 9223372036854775807) as modseq,
         coalesce((select b.uidnext from base b), 0) as uidnext
)
select 0::bigint, m.modseq, m.uidnext, m.uidvalidity, m.log_floor, m.unseen, null::bytea
  from mailbox m
 where m.account_id = $1 and m.mailbox_id = $2
union all
select 3, b.modseq, b.uidnext, 0, 0, 0, b.packed
  from base b
union all
select 1, x.uid, x.modseq, x.flags, 0, 0, null
  from mailbox_message x
 where x.account_id = $1 and x.mailbox_id = $2 and x.uid >= (select s.uidnext from since s)
union all
select 1, x.uid, x.modseq, x.flags, 0, 0, null
  from change_log c
 cross join lateral unnest(c.uids) r
 cross join lateral (
       select y.uid, y.modseq, y.flags
         from mailbox_message y
        where y.account_id = $1 and y.mailbox_id = $2
          and y.uid >= lower(r) and y.uid < least(upper(r), (select s.uidnext from since s))
       offset 0) x
 where c.account_id = $1 and c.mailbox_id = $2 and c.modseq > (select s.modseq from since s) and c.kind = 2
union all
select 2, lower(r), upper(r) - 1, 0, 0, 0, null
  from change_log c
 cross join lateral unnest(c.uids) r
 where c.account_id = $1 and c.mailbox_id = $2 and c.modseq > (select s.modseq from since s) and c.kind = 3`
)

// Open returns the view of a mailbox, at least as new as the call. The sessions
// of a node share it. A mailbox that is gone is ErrNotFound.
func (s *Store) Open(ctx context.Context, a AccountID, mb MailboxID) (*View, error) {
	key := MailboxKey{a, mb}
	arrived := s.views.clock.Add(1)
	c := s.views.get(key)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.view != nil && c.refreshed > arrived {
		return c.view, nil // somebody has looked since we came
	}
	start := s.views.clock.Add(1)
	v, err := s.refresh(ctx, key, c.view)
	if err != nil {
		c.view = nil
		return nil, err
	}
	c.view, c.refreshed = v, start
	s.views.account(c, v.bytes())
	return v, nil
}

// refresh brings a view up to date, or loads it if it is nil or too old.
func (s *Store) refresh(ctx context.Context, key MailboxKey, old *View) (*View, error) {
	if old != nil {
		d, _, err := s.readDelta(ctx, key, deltaSQL, key.Account, key.Mailbox, int64(old.uidNext), int64(old.modSeq))
		if err != nil {
			return nil, err
		}
		if old.modSeq >= d.logFloor && old.uidValidity == d.uidValidity && old.modSeq <= d.modSeq {
			if old.modSeq == d.modSeq && old.uidNext == d.uidNext {
				return old, nil
			}
			return old.with(d), nil
		}
	}
	d, base, err := s.readDelta(ctx, key, loadSQL, key.Account, key.Mailbox)
	if errors.Is(err, errPacked) { // a cache: without it we are only slower
		s.log.WarnContext(ctx, "packed index dropped", "mailbox", key.Mailbox, "err", err)
		if _, err := s.db.Exec(ctx, postgres.Background, dropPackedSQL, key.Account, key.Mailbox); err != nil {
			return nil, wrap("open mailbox", err)
		}
		d, base, err = s.readDelta(ctx, key, loadSQL, key.Account, key.Mailbox)
	}
	if err != nil {
		return nil, err
	}
	v := base.with(d)
	s.savePacked(ctx, key, v, d)
	return v, nil
}

// readDelta runs deltaSQL or loadSQL. base is the packed view that the delta
// counts from, emptyView if there is none.
func (s *Store) readDelta(ctx context.Context, key MailboxKey, sql string, args ...any) (d *delta, base *View, err error) {
	rows, err := s.db.Query(ctx, postgres.Interactive, sql, args...)
	if err != nil {
		return nil, nil, wrap("open mailbox", err)
	}
	defer rows.Close()
	d, base = &delta{}, emptyView
	found := false
	for rows.Next() {
		v := rows.RawValues()
		switch kind := int8At(v, 0); kind {
		case rowMailbox:
			found = true
			d.modSeq, d.uidNext, d.uidValidity = ModSeq(int8At(v, 1)), imap.UID(int8At(v, 2)), uint32(int8At(v, 3))
			d.logFloor, d.unseen = ModSeq(int8At(v, 4)), int(int8At(v, 5))
		case rowMessage:
			d.rows = append(d.rows, entry{imap.UID(int8At(v, 1)), Flags(int8At(v, 3)), ModSeq(int8At(v, 2))})
		case rowGone:
			d.gone = append(d.gone, uidRange{imap.UID(int8At(v, 1)), imap.UID(int8At(v, 2))})
		case rowPacked:
			if base, err = s.unpack(v[6]); err != nil {
				return nil, nil, fmt.Errorf("packed index of mailbox %d: %w", key.Mailbox, err)
			}
		}
	}
	if err := rows.Err(); err != nil {
		return nil, nil, wrap("open mailbox", err)
	}
	if !found {
		return nil, nil, noMailbox(fmt.Sprint("#", key.Mailbox))
	}
	return d, base, nil
}

// int8At reads a bigint in the binary format. A row of a large mailbox is read
// a hundred thousand times, so it does not go through Scan.
func int8At(v [][]byte, i int) int64 { return int64(binary.BigEndian.Uint64(v[i])) }

// viewCache keeps the views that a node has opened, the least used last.
type viewCache struct {
	clock atomic.Int64 // counts arrivals and refreshes

	mu    sync.Mutex // guards what follows, not what is in a cachedView
	all   map[MailboxKey]*list.Element
	used  *list.List // of *cachedView, most recent first
	bytes int64
	limit int64
}

// cachedView is the newest view of one mailbox.
type cachedView struct {
	key   MailboxKey
	bytes int64 // guarded by viewCache.mu

	mu        sync.Mutex // guards view and refreshed; held while the database is asked
	view      *View
	refreshed int64 // when the last refresh began
}

func (c *viewCache) init(limit int64) {
	c.all, c.used, c.limit = map[MailboxKey]*list.Element{}, list.New(), limit
}

// get returns the place of a mailbox in the cache.
func (c *viewCache) get(key MailboxKey) *cachedView {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e, ok := c.all[key]; ok {
		c.used.MoveToFront(e)
		return e.Value.(*cachedView)
	}
	v := &cachedView{key: key}
	c.all[key] = c.used.PushFront(v)
	return v
}

// account says how much v holds now, and drops what is over the limit.
func (c *viewCache) account(v *cachedView, bytes int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e, ok := c.all[v.key]; !ok || e.Value != any(v) {
		return // dropped in the meantime
	}
	c.bytes += bytes - v.bytes
	v.bytes = bytes
	for c.bytes > c.limit && c.used.Len() > 1 {
		c.removeLocked(c.used.Back())
	}
}

// drop forgets a mailbox.
func (c *viewCache) drop(key MailboxKey) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e, ok := c.all[key]; ok {
		c.removeLocked(e)
	}
}

func (c *viewCache) removeLocked(e *list.Element) {
	v := c.used.Remove(e).(*cachedView)
	c.bytes -= v.bytes
	delete(c.all, v.key)
}

const firstRecentSQL = `
select recent_uid
  from mailbox
 where account_id = $1
   and mailbox_id = $2`

// FirstRecent returns what ClaimRecent would, and claims nothing: for EXAMINE
// and for the RECENT of STATUS (RFC 3501 §6.3.2, §6.3.10).
func (s *Store) FirstRecent(ctx context.Context, a AccountID, mb MailboxID) (first imap.UID, err error) {
	var uid int64
	err = s.db.QueryRow(ctx, postgres.Interactive, firstRecentSQL, a, mb).Scan(&uid)
	if err == postgres.ErrNoRows {
		return 0, noMailbox(fmt.Sprint("#", mb))
	}
	return imap.UID(uid), wrap("first recent", err)
}

const claimRecentSQL = `
with claimed as (
  update mailbox m
     set recent_uid = m.uidnext
    from (select recent_uid
            from mailbox
           where account_id = $1 and mailbox_id = $2
             for no key update) old
   where m.account_id = $1 and m.mailbox_id = $2 and m.recent_uid < m.uidnext
  returning old.recent_uid as first, m.recent_uid as next
)
select coalesce((select first from claimed), m.uidnext), coalesce((select next from claimed), m.uidnext)
  from mailbox m
 where m.account_id = $1 and m.mailbox_id = $2`

// ClaimRecent returns the messages that no session has been told about, those
// from first up to but not including next: they are \Recent in the session that
// asks, and in no other (RFC 3501 §2.3.2).
func (s *Store) ClaimRecent(ctx context.Context, a AccountID, mb MailboxID) (first, next imap.UID, err error) {
	var from, to int64
	err = s.db.QueryRow(ctx, postgres.Interactive, claimRecentSQL, a, mb).Scan(&from, &to)
	if err == postgres.ErrNoRows {
		return 0, 0, noMailbox(fmt.Sprint("#", mb))
	}
	return imap.UID(from), imap.UID(to), wrap("claim recent", err)
}

const vanishedSQL = `
select lower(r), upper(r) - 1, m.log_floor
  from mailbox m
  left join lateral (
    select unnest(c.uids) r
      from change_log c
     where c.account_id = $1 and c.mailbox_id = $2 and c.modseq > $3 and c.kind = 3) log on true
 where m.account_id = $1 and m.mailbox_id = $2`

// Vanished returns the UIDs that vanished after since, ascending. complete is
// false if the log does not reach back so far; then the caller may say that
// everything has vanished that is not there (RFC 7162 §3.2.5.2).
func (s *Store) Vanished(ctx context.Context, a AccountID, mb MailboxID, since ModSeq) (uids []imap.UID, complete bool, err error) {
	rows, err := s.db.Query(ctx, postgres.Interactive, vanishedSQL, a, mb, since)
	if err != nil {
		return nil, false, wrap("read the log", err)
	}
	type row struct {
		Lo, Hi *int64
		Floor  int64
	}
	found, err := postgres.CollectRows[row](rows)
	if err != nil {
		return nil, false, wrap("read the log", err)
	}
	var d delta
	floor := int64(math.MaxInt64)
	for _, r := range found {
		floor = r.Floor
		if r.Lo != nil {
			d.gone = append(d.gone, uidRange{imap.UID(*r.Lo), imap.UID(*r.Hi)})
		}
	}
	d.normalise()
	for _, r := range d.gone {
		for u := uint64(r.lo); u <= uint64(r.hi); u++ {
			uids = append(uids, imap.UID(u))
		}
	}
	return uids, int64(since) >= floor, nil
}

const pollSQL = `
select m.account_id, m.mailbox_id, m.modseq
  from unnest($1::bigint[], $2::bigint[], $3::bigint[]) t (account_id, mailbox_id, modseq)
  join mailbox m using (account_id, mailbox_id)
 where m.modseq > t.modseq`

// Poll returns the mailboxes that have a modseq above the known one: the safety
// net below the bus.
func (s *Store) Poll(ctx context.Context, known map[MailboxKey]ModSeq) (map[MailboxKey]ModSeq, error) {
	if len(known) == 0 {
		return nil, nil
	}
	accounts, mailboxes, modSeqs := make([]int64, 0, len(known)), make([]int64, 0, len(known)), make([]int64, 0, len(known))
	for k, m := range known {
		accounts, mailboxes, modSeqs = append(accounts, int64(k.Account)), append(mailboxes, int64(k.Mailbox)), append(modSeqs, int64(m))
	}
	rows, err := s.db.Query(ctx, postgres.Background, pollSQL, accounts, mailboxes, modSeqs)
	if err != nil {
		return nil, wrap("poll", err)
	}
	type row struct {
		Account AccountID
		Mailbox MailboxID
		ModSeq  ModSeq
	}
	found, err := postgres.CollectRows[row](rows)
	if err != nil {
		return nil, wrap("poll", err)
	}
	changed := make(map[MailboxKey]ModSeq, len(found))
	for _, r := range found {
		changed[MailboxKey{r.Account, r.Mailbox}] = r.ModSeq
	}
	return changed, nil
}
