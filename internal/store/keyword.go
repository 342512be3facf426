package store

import (
	"context"
	"fmt"
	"math/bits"
	"strings"
	"sync"

	"dirpost/internal/envelope"
	"dirpost/internal/postgres"

	"github.com/emersion/go-imap/v2"
)

// firstKeyword and lastKeyword bound the bits of Flags that are keywords.
const (
	firstKeyword = 8
	lastKeyword  = 62
)

// systemFlags are the flags of bits 0-4, in that order.
var systemFlags = [...]imap.Flag{imap.FlagSeen, imap.FlagAnswered, imap.FlagFlagged, imap.FlagDeleted, imap.FlagDraft}

// Keywords are the keywords of an account at one moment. A bit never changes
// its name. It is immutable.
type Keywords struct {
	names [lastKeyword + 1]imap.Flag
	bits  map[string]Flags // by name in lower case
}

// Names returns the flags of f as they are sent, system flags first.
func (k *Keywords) Names(f Flags) []imap.Flag {
	names := make([]imap.Flag, 0, bits.OnesCount64(uint64(f)))
	for i, name := range systemFlags {
		if f&(1<<i) != 0 {
			names = append(names, name)
		}
	}
	for left := uint64(f) >> firstKeyword << firstKeyword; left != 0; left &= left - 1 {
		if i := bits.TrailingZeros64(left); i <= lastKeyword && k.names[i] != "" {
			names = append(names, k.names[i])
		}
	}
	return names
}

// All returns the keywords of the account.
func (k *Keywords) All() []imap.Flag {
	var all []imap.Flag
	for _, name := range k.names {
		if name != "" {
			all = append(all, name)
		}
	}
	return all
}

// Full reports whether the account has no room for another keyword: then
// PERMANENTFLAGS does not say \* (RFC 9051 §7.1).
func (k *Keywords) Full() bool { return len(k.bits) > lastKeyword-firstKeyword }

// Knows reports whether every flag of f has a name.
func (k *Keywords) Knows(f Flags) bool {
	for left := uint64(f) >> firstKeyword; left != 0; left &= left - 1 {
		if k.names[firstKeyword+bits.TrailingZeros64(left)] == "" {
			return false
		}
	}
	return true
}

// Lookup returns the bit of a flag, without making one. Flags are compared
// without case (RFC 9051 §2.3.2).
func (k *Keywords) Lookup(flag imap.Flag) (Flags, bool) {
	for i, name := range systemFlags {
		if strings.EqualFold(string(flag), string(name)) {
			return 1 << i, true
		}
	}
	f, ok := k.bits[strings.ToLower(string(flag))]
	return f, ok
}

// keywordCache remembers the keywords of accounts. An entry may be older than
// the table: then a bit has no name yet, or a name no bit, and is read again.
type keywordCache struct {
	mu        sync.Mutex // guards byAccount
	byAccount map[AccountID]*Keywords
}

// Keywords returns the keywords of an account, as new as the call.
func (s *Store) Keywords(ctx context.Context, a AccountID) (*Keywords, error) {
	return s.readKeywords(ctx, a)
}

// KeywordsFor returns keywords that have a name for every flag of f, without
// asking the database when this node has seen them.
func (s *Store) KeywordsFor(ctx context.Context, a AccountID, f Flags) (*Keywords, error) {
	s.keywords.mu.Lock()
	k, ok := s.keywords.byAccount[a]
	s.keywords.mu.Unlock()
	if ok && k.Knows(f) {
		return k, nil
	}
	return s.readKeywords(ctx, a)
}

const keywordsSQL = `
select bit, name
  from keyword
 where account_id = $1`

func (s *Store) readKeywords(ctx context.Context, a AccountID) (*Keywords, error) {
	rows, err := s.db.Query(ctx, postgres.Interactive, keywordsSQL, a)
	if err != nil {
		return nil, wrap("read keywords", err)
	}
	defer rows.Close()
	k := &Keywords{bits: map[string]Flags{}}
	for rows.Next() {
		var (
			bit  int16
			name string
		)
		if err := rows.Scan(&bit, &name); err != nil {
			return nil, wrap("read keywords", err)
		}
		if bit >= firstKeyword && bit <= lastKeyword {
			k.names[bit] = imap.Flag(name)
			k.bits[strings.ToLower(name)] = 1 << bit
		}
	}
	if err := rows.Err(); err != nil {
		return nil, wrap("read keywords", err)
	}
	s.keywords.mu.Lock()
	defer s.keywords.mu.Unlock()
	if len(s.keywords.byAccount) >= maxCached {
		clear(s.keywords.byAccount)
	}
	s.keywords.byAccount[a] = k
	return k, nil
}

// FlagsOf returns the bits of flags, and gives new keywords one: ErrKeywords
// when there is none left. \Recent is left out: it cannot be set.
func (s *Store) FlagsOf(ctx context.Context, a AccountID, flags []imap.Flag) (Flags, error) {
	f, missing := (&Keywords{}).flagsOf(flags)
	if len(missing) == 0 {
		return f, nil // system flags only: no look at the account
	}
	s.keywords.mu.Lock()
	k, ok := s.keywords.byAccount[a]
	s.keywords.mu.Unlock()
	if ok {
		if f, missing = k.flagsOf(flags); len(missing) == 0 {
			return f, nil
		}
	}
	k, err := s.readKeywords(ctx, a)
	if err != nil {
		return 0, err
	}
	if f, missing = k.flagsOf(flags); len(missing) == 0 {
		return f, nil
	}
	if err := s.createKeywords(ctx, a, missing); err != nil {
		return 0, err
	}
	if k, err = s.readKeywords(ctx, a); err != nil {
		return 0, err
	}
	if f, missing = k.flagsOf(flags); len(missing) > 0 {
		return 0, envelope.Because(statusKeywords, fmt.Errorf("keyword %s: %w", missing[0], ErrKeywords))
	}
	return f, nil
}

// statusKeywords is RFC 5530's LIMIT.
var statusKeywords = envelope.Status{Code: 552, Enhanced: "5.2.3", Text: "Too many keywords", IMAP: "LIMIT", POP3: "SYS/PERM"}

// flagsOf returns the bits of flags, and those that have none.
func (k *Keywords) flagsOf(flags []imap.Flag) (f Flags, missing []string) {
	for _, flag := range flags {
		if strings.EqualFold(string(flag), `\Recent`) {
			continue
		}
		bit, ok := k.Lookup(flag)
		if !ok {
			missing = append(missing, string(flag))
		}
		f |= bit
	}
	return f, missing
}

const (
	lockAccountSQL = `
select 1
  from account
 where account_id = $1
   for no key update`
	insertKeywordsSQL = `
insert into keyword (account_id, bit, name)
select $1, free.bit, new.name
  from (select row_number() over (order by b) n, b as bit
          from generate_series(8, 62) b
         where not exists (select from keyword k where k.account_id = $1 and k.bit = b)) free
  join (select row_number() over (order by i) n, name
          from unnest($2::text[]) with ordinality t (name, i)
         where not exists (select from keyword k where k.account_id = $1 and lower(k.name) = lower(t.name))) new using (n)
    on conflict do nothing`
)

// createKeywords gives names a bit each, as far as there are bits. The lock on
// the account row makes it the only one that does.
func (s *Store) createKeywords(ctx context.Context, a AccountID, names []string) error {
	err := s.db.InTx(ctx, postgres.Interactive, func(ctx context.Context, tx postgres.Tx) error {
		var b postgres.Batch
		b.Queue(lockAccountSQL, a)
		b.Queue(insertKeywordsSQL, a, names)
		return tx.SendBatch(ctx, &b).Close()
	})
	return wrap("create keywords", err)
}
