package permit

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"dirpost/directory"
	"dirpost/internal/postgres"
)

// How often nodes tell each other what they see, and forget what is old.
const (
	shareEvery = 2 * time.Second
	purgeEvery = 10 * time.Minute
	shareLimit = 10 * time.Second
	// maxRows is how many rows of what strangers can fill are kept in the database.
	maxRows = 200_000
)

// Run tells the other nodes what this one sees, and hears of them, until ctx is
// done. It settles what is left before it returns.
func (c *Counter) Run(ctx context.Context, hints Hints) error {
	defer hints.Subscribe(Topic, c.unblocked)()
	share, purge := time.NewTicker(shareEvery), time.NewTicker(purgeEvery)
	defer share.Stop()
	defer purge.Stop()
	for {
		select {
		case <-ctx.Done():
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), batchLimit)
			defer cancel()
			c.Close(last)
			return nil
		case <-share.C:
			if err := c.share(ctx); err != nil && ctx.Err() == nil {
				c.log.DebugContext(ctx, "what is known of guesses not shared", "err", err)
			}
		case <-purge.C:
			if err := c.purge(ctx); err != nil && ctx.Err() == nil {
				c.log.WarnContext(ctx, "old counts of logins not removed", "err", err)
			}
		}
	}
}

// Close writes down what is left, for as long as ctx lasts. No permit is given any
// more.
func (c *Counter) Close(ctx context.Context) {
	c.exchange.close(ctx)
	if err := c.tell(ctx); err != nil {
		c.log.DebugContext(ctx, "what is known of guesses not shared", "err", err)
	}
}

// unblocked hears of a person or a network that was unblocked, "" for some.
func (c *Counter) unblocked(payload string) {
	c.refused.clear()
	if n, err := netip.ParsePrefix(payload); err == nil {
		c.sources.forgive(n)
		return
	}
	c.exhausted.clear()
}

const peopleSQL = `
insert into auth_permit as a (person, tried, refused, tried_at)
select p, w, r, now()
  from unnest($1::text[], $2::bigint[], $3::bigint[]) as t (p, w, r)
 order by p collate "C"
    on conflict (person) do update
   set tried = excluded.tried + case when a.tried_at > now() - interval '1 hour' then a.tried else 0 end,
       refused = excluded.refused + case when a.tried_at > now() - interval '1 hour' then a.refused else 0 end,
       tried_from = case when a.tried_at > now() - interval '1 hour' then a.tried_from else now() end,
       tried_at = now()`

const clientsSQL = `
insert into auth_source as s (network, wrong, refused, hour, last_at)
select n, w, r, date_trunc('hour', now()), now()
  from unnest($1::text[]::cidr[], $2::bigint[], $3::bigint[]) as t (n, w, r)
 order by n
    on conflict (network) do update
   set wrong = excluded.wrong + case when s.hour = excluded.hour then s.wrong else 0 end,
       refused = excluded.refused + case when s.hour = excluded.hour then s.refused else 0 end,
       hour = excluded.hour,
       last_at = now()`

const activitySQL = `
insert into auth_activity as a (minute, entered, arrived, familiar, wrong, refused, repeated)
values (date_trunc('minute', now()), $1, $2, $3, $4, $5, $6)
    on conflict (minute) do update
   set entered = a.entered + excluded.entered, arrived = a.arrived + excluded.arrived, familiar = a.familiar + excluded.familiar, wrong = a.wrong + excluded.wrong,
       refused = a.refused + excluded.refused, repeated = a.repeated + excluded.repeated`

const sprayAddSQL = `
select auth_spray_add(p, n, t, $4, $5)
  from (select unnest($1::bytea[]) as p, unnest($2::text[])::bigint[] as n, unnest($3::bigint[]) as t order by 1) r`

const (
	sprayedSQL = `
select hash, until
  from auth_spray
 where until > now()
 order by until desc
 limit $1`
	barredSQL = `
select network::text
  from auth_source
 where hour > now() - interval '1 hour'
   and wrong >= $1
 order by wrong desc
 limit $2`
	recentSQL = `
select coalesce(sum(arrived), 0)::bigint, coalesce(sum(wrong), 0)::bigint
  from auth_activity
 where minute > now() - interval '5 minutes'`
)

// share tells what this node has counted since the last time, and reads what all
// together know.
func (c *Counter) share(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, shareLimit)
	defer cancel()
	if err := c.tell(ctx); err != nil {
		return err
	}
	return c.hear(ctx)
}

// tell writes down what this node has counted, in one transaction whose loss does
// no harm.
func (c *Counter) tell(ctx context.Context) error {
	people, clients, a := c.tally.take()
	var news []report
	if c.shared {
		news = c.spray.news()
	}
	if len(people) == 0 && len(clients) == 0 && a == (activity{}) && len(news) == 0 {
		return nil
	}
	err := c.db.InTx(ctx, postgres.Background, func(ctx context.Context, tx postgres.Tx) error {
		var b postgres.Batch
		b.Queue(`set local synchronous_commit = off`)
		b.Queue(activitySQL, a.entered, a.arrived, a.familiar, a.wrong, a.refused, a.repeated)
		if len(people) > 0 {
			keys, wrong, refused := columns(people, func(k directory.Key) string { return string(k) })
			b.Queue(peopleSQL, keys, wrong, refused)
		}
		if len(clients) > 0 {
			keys, wrong, refused := columns(clients, netip.Prefix.String)
			b.Queue(clientsSQL, keys, wrong, refused)
		}
		if len(news) > 0 {
			passwords, names, tries := reportColumns(news)
			b.Queue(sprayAddSQL, passwords, names, tries, c.cfg.SprayAccounts, c.cfg.SprayWindow)
		}
		return tx.SendBatch(ctx, &b).Close()
	})
	if err != nil {
		c.tally.putBack(people, clients, a)
		return fmt.Errorf("tell what was counted: %w", err)
	}
	return nil
}

// columns are the keys and the counts of m, in one order.
func columns[K comparable](m map[K]count, text func(K) string) (keys []string, wrong, refused []int64) {
	byText := make(map[string]count, len(m))
	for k, n := range m {
		byText[text(k)] = n
	}
	keys = slices.Sorted(maps.Keys(byText))
	for _, k := range keys {
		wrong, refused = append(wrong, byText[k].wrong), append(refused, byText[k].refused)
	}
	return keys, wrong, refused
}

// reportColumns are reports as columns; the database has no arrays of arrays, so
// that names are written as text.
func reportColumns(news []report) (passwords [][]byte, names []string, tries []int64) {
	for _, r := range news {
		var b strings.Builder
		for i, n := range r.accounts {
			if i > 0 {
				b.WriteByte(',')
			}
			fmt.Fprintf(&b, "%d", n)
		}
		passwords, names, tries = append(passwords, slices.Clone(r.password[:])), append(names, "{"+b.String()+"}"), append(tries, r.tries)
	}
	return passwords, names, tries
}

// hear reads what all nodes together know.
func (c *Counter) hear(ctx context.Context) error {
	if c.shared {
		if err := c.hearPasswords(ctx); err != nil {
			return err
		}
	}
	rows, err := c.db.Query(ctx, postgres.Background, barredSQL, c.cfg.NetworkHour, maxClients)
	if err != nil {
		return fmt.Errorf("read who guesses: %w", err)
	}
	texts, err := postgres.CollectValues[string](rows)
	if err != nil {
		return fmt.Errorf("read who guesses: %w", err)
	}
	var barred []netip.Prefix
	for _, t := range texts {
		if n, err := netip.ParsePrefix(t); err == nil {
			barred = append(barred, n)
		}
	}
	c.sources.bar(barred)
	var arrived, wrong int64
	if err := c.db.QueryRow(ctx, postgres.Background, recentSQL).Scan(&arrived, &wrong); err != nil {
		return fmt.Errorf("read how logins went: %w", err)
	}
	attack := c.cfg.isAttack(arrived, wrong)
	if c.tally.attack.Swap(attack) != attack {
		if attack {
			c.log.WarnContext(ctx, "strangers are slowed: unusually many logins fail, look at 'dirpost auth top'", "count", wrong)
		} else {
			c.log.InfoContext(ctx, "strangers are slowed no more")
		}
	}
	c.metrics.attack.Set(map[bool]float64{true: 1}[attack])
	return nil
}

// isAttack reports whether that many logins that fail are unusual, beside those of
// people who come from a new place: programs of those who are at home log in all the
// time, and say nothing of strangers.
func (c Config) isAttack(arrived, wrong int64) bool {
	return wrong >= int64(c.AttackWrong) && float64(wrong) >= c.AttackShare*float64(arrived+wrong)
}

// hearPasswords reads which passwords are refused to strangers.
func (c *Counter) hearPasswords(ctx context.Context) error {
	rows, err := c.db.Query(ctx, postgres.Background, sprayedSQL, maxSprayBarred)
	if err != nil {
		return fmt.Errorf("read which passwords fail everywhere: %w", err)
	}
	defer rows.Close()
	now, offset := c.now(), c.db.Now()
	found := map[sum]time.Time{}
	for rows.Next() {
		var (
			hash  []byte
			until time.Time
		)
		if err := rows.Scan(&hash, &until); err != nil {
			return fmt.Errorf("read which passwords fail everywhere: %w", err)
		}
		if len(hash) == len(sum{}) {
			found[sum(hash)] = now.Add(until.Sub(offset))
		}
	}
	if err := rows.Err(); err != nil {
		return fmt.Errorf("read which passwords fail everywhere: %w", err)
	}
	c.spray.refuse(found, now)
	return nil
}

// purge forgets what counts no more.
func (c *Counter) purge(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	if _, err := c.db.Exec(ctx, postgres.Background, `select auth_permit_purge($1, $2)`, c.cfg.Familiar, maxRows); err != nil {
		return fmt.Errorf("purge: %w", err)
	}
	return nil
}
