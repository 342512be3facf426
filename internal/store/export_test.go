package store

import (
	"context"

	"dirpost/internal/postgres"
)

// Bare commits contents to the INBOX of accounts, one each, with the statement of
// Commit and nothing around it: what the benchmarks are compared with.
func (s *Store) Bare(ctx context.Context, accounts []Account, contents []*Content, d Delivery) error {
	return s.db.Transact(ctx, postgres.Delivery, func(b *postgres.Batch) {
		for i, a := range accounts {
			d := d
			d.Account = a
			p := parcel{delivery: &d, places: []place{{Inbox, 0}}}
			p.queue(b, contents[i], s.db.Now().Unix())
		}
	}, func(results postgres.BatchResults) error {
		for range accounts {
			var answer []int64
			if err := results.QueryRow().Scan(&answer); err != nil {
				return err
			}
		}
		return nil
	})
}
