// Package replay remembers for all nodes which Kerberos tokens were used, so that one
// that was used on a node is used up on the others too.
//
// # Standards
//
// RFC 4120 §3.2.3 (replay cache), RFC 4121 §4.1.
//
// # Concurrency
//
// A Store is safe for any number of logins. Run is called once.
//
// # Limits
//
// A token is remembered for 15 minutes, which is more than the clocks of both sides may
// be apart. Each login by a ticket is one row, in a table that no crash recovery and
// no standby knows: it waits for no disk. After a crash of the database tokens of before
// are known by the nodes that took them.
//
// # Security
//
// What is kept is a hash of what was encrypted with a fresh key and random octets: it
// says nothing, and cannot be guessed.
//
// While the database does not answer within a quarter of a second, each node goes by its
// own memory alone, and says so in the log: who would use that had to stand inside TLS
// as well, and to refuse everybody would be the greater harm.
package replay

import (
	"context"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"dirpost/internal/postgres"

	"github.com/prometheus/client_golang/prometheus"
)

const (
	// askTime bounds the question of one login.
	askTime = 250 * time.Millisecond
	// keepFor is more than twice the skew that is allowed, on either side
	// (internal/gssapi).
	keepFor    = 15 * time.Minute
	purgeEvery = time.Minute
	// warnEvery is how often somebody is told that the database does not answer.
	warnEvery = time.Minute
)

// Store is the memory of all nodes.
type Store struct {
	db  *postgres.DB
	log *slog.Logger

	warned atomic.Int64           // when, in Unix nanoseconds
	tokens *prometheus.CounterVec // outcome: first, used, unknown
}

// New returns a Store on db.
func New(db *postgres.DB, log *slog.Logger) *Store {
	return &Store{db: db, log: log, tokens: prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "dirpost_auth_replay_tokens_total", Help: "Kerberos tokens by whether another node knew them: first, used, unknown.",
	}, []string{"outcome"})}
}

// Collectors are the metrics of the store, to be registered by the caller.
func (s *Store) Collectors() []prometheus.Collector { return []prometheus.Collector{s.tokens} }

const firstSQL = `select auth_ticket_first($1)`

// First remembers a token, and reports whether nobody has used it before. It is true
// where the database cannot say.
func (s *Store) First(ctx context.Context, token [32]byte) bool {
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	first := true
	err := s.db.QueryRow(ctx, postgres.Interactive, firstSQL, token[:16]).Scan(&first)
	switch {
	case err != nil:
		s.tokens.WithLabelValues("unknown").Inc()
		s.warn(ctx, err)
		return true
	case first:
		s.tokens.WithLabelValues("first").Inc()
	default:
		s.tokens.WithLabelValues("used").Inc()
	}
	return first
}

// warn says now and then that the database does not answer.
func (s *Store) warn(ctx context.Context, err error) {
	now := time.Now().UnixNano()
	if last := s.warned.Load(); now-last > int64(warnEvery) && s.warned.CompareAndSwap(last, now) {
		s.log.WarnContext(ctx, "whether a Kerberos token was used on another node is not known", "err", err)
	}
}

// Run forgets tokens that are too old for anybody, until ctx ends.
func (s *Store) Run(ctx context.Context) error {
	tick := time.NewTicker(purgeEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			if err := s.purge(ctx); err != nil && ctx.Err() == nil {
				s.log.WarnContext(ctx, "used Kerberos tokens not purged", "err", err)
			}
		}
	}
}

const purgeSQL = `delete from auth_ticket where used_at < now() - $1::interval`

func (s *Store) purge(ctx context.Context) error {
	if _, err := s.db.Exec(ctx, postgres.Background, purgeSQL, keepFor); err != nil {
		return fmt.Errorf("purge used tokens: %w", err)
	}
	return nil
}
