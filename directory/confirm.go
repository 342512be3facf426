package directory

import (
	"context"
	"fmt"

	"dirpost/internal/postgres"
)

const confirmDomainSQL = `
insert into directory_domain as d (domain, placement, here, elsewhere, nowhere, lists, contacts, confirmed_by)
values ($1, $2, $3, $4, $5, $6, $7, $8)
    on conflict (domain) do update
   set placement = excluded.placement,
       here = excluded.here,
       elsewhere = excluded.elsewhere,
       nowhere = excluded.nowhere,
       lists = excluded.lists,
       contacts = excluded.contacts,
       confirmed_at = now(),
       confirmed_by = excluded.confirmed_by`

const confirmedByNameSQL = `
delete from directory_domain
 where domain = $1`

// ConfirmDomains records that who, a name for people to read, has seen the counts
// of these domains by rules with the name placement (Rules.Placement), and wants
// them served so. From then on each domain is confirmed by its name.
func ConfirmDomains(ctx context.Context, db *postgres.DB, placement string, seen []Census, who string) error {
	err := db.InTx(ctx, postgres.Interactive, func(ctx context.Context, tx postgres.Tx) error {
		if _, err := tx.Exec(ctx, confirmedByNameSQL, anyDomain); err != nil {
			return err
		}
		for _, c := range seen {
			if _, err := tx.Exec(ctx, confirmDomainSQL, c.Domain, placement, c.Here, c.Elsewhere, c.Nowhere, c.Lists, c.Contacts, who); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("confirm domains: %w", err)
	}
	return nil
}

const confirmedSQL = `
select domain, placement
  from directory_domain`

// confirmed returns which domains have been confirmed.
func (r rows) confirmed(ctx context.Context) (Confirmed, error) {
	rs, err := r.db.Query(ctx, postgres.Background, confirmedSQL)
	if err != nil {
		return nil, fmt.Errorf("read confirmed domains: %w", err)
	}
	list, err := postgres.CollectRows[struct{ Domain, Placement string }](rs)
	if err != nil {
		return nil, fmt.Errorf("read confirmed domains: %w", err)
	}
	all := make(Confirmed, len(list))
	for _, d := range list {
		all[d.Domain] = d.Placement
	}
	return all, nil
}
