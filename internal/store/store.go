package store

import (
	"log/slog"
	"sync"

	"dirpost/internal/blob"
	"dirpost/internal/postgres"
)

// Hints is told what changed, after the commit. The bus is one.
type Hints interface {
	// Changed says that a mailbox has reached a modseq. It must not block.
	Changed(AccountID, MailboxID, ModSeq)
}

// Store is the message store.
type Store struct {
	db    *postgres.DB
	blobs *blob.Store
	hints Hints
	log   *slog.Logger

	accounts accountCache
	keywords keywordCache
	views    viewCache
	lanes    lanes
}

// New returns the store on db. hints may be nil.
func New(db *postgres.DB, blobs *blob.Store, hints Hints, log *slog.Logger) *Store {
	s := &Store{db: db, blobs: blobs, hints: hints, log: log}
	s.accounts.byKey = map[string]Account{}
	s.keywords.byAccount = map[AccountID]*Keywords{}
	s.views.init(defaultViewCache)
	s.lanes.free, s.lanes.busy = 1, map[AccountID]bool{}
	return s
}

// changed tells the hints.
func (s *Store) changed(a AccountID, mb MailboxID, seq ModSeq) {
	if s.hints != nil && seq > 0 {
		s.hints.Changed(a, mb, seq)
	}
}

// Announce tells the sessions of all nodes about deliveries. The caller of
// DeliverTx does it after the commit; Commit does it itself.
func (s *Store) Announce(delivered []Delivered) {
	for _, d := range delivered {
		for _, c := range d.Copies {
			s.changed(d.Account, c.Mailbox, c.ModSeq)
		}
	}
}

// bounded keeps a cache from growing without end: it is emptied when full.
const maxCached = 100_000

// accountCache remembers which account a key leads to. It may be wrong only
// about accounts that another node has purged, or attached to another key.
type accountCache struct {
	mu    sync.Mutex // guards byKey
	byKey map[string]Account
}
