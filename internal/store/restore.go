package store

import (
	"context"

	"dirpost/internal/postgres"
)

const skipSQL = `
with skipped as (
  update mailbox
     set uidnext   = least(uidnext + 100000, 4294967296),
         modseq    = modseq + 1000000,
         log_floor = modseq + 1000000
), cache as (
  delete from mailbox_index
)
update account
   set next_uidvalidity = greatest(next_uidvalidity + 1000, $1)`

// SkipAfterRestore makes a database safe to serve that was restored from a
// backup, or taken over from a standby that lacked the last commits: clients
// have seen UIDs and modseqs that it would give away again. It leaves a gap in
// all of them, which is legal, keeps what clients have cached, and makes each
// compare its mailbox in full once. It must run before anything serves.
func (s *Store) SkipAfterRestore(ctx context.Context) error {
	_, err := s.db.Exec(ctx, postgres.Background, skipSQL, s.db.Now().Unix())
	return wrap("skip after a restore", err)
}
