package permit

import (
	"context"
	"fmt"
	"net/netip"
	"time"

	"dirpost/directory"
	"dirpost/internal/postgres"
)

// Top is what the nodes see of those who guess.
type Top struct {
	At       time.Time `json:"at"`      // by the database's clock
	Attack   bool      `json:"attack"`  // strangers are slowed
	Minutes  []Minute  `json:"minutes"` // the last ones in which something happened, the newest first
	Permits  Permits   `json:"permits"`
	Sources  []Source  `json:"sources"`  // of this and the last hour, the busiest first
	Accounts []Account `json:"accounts"` // the most tried first
	Sprayed  []Sprayed `json:"sprayed"`  // the most widely tried first
}

// Minute is how logins went in one minute.
type Minute struct {
	Minute   time.Time `json:"minute"`
	Entered  int64     `json:"entered"`  // people who were let in
	Arrived  int64     `json:"arrived"`  // of them from a new place
	Familiar int64     `json:"familiar"` // of them with a password judged, from where they were before
	Wrong    int64     `json:"wrong"`    // wrong logins; the same password again is not among them
	Refused  int64     `json:"refused"`  // of them without asking the directory
	Repeated int64     `json:"repeated"` // the same wrong password again
}

// Permits is what is out.
type Permits struct {
	People    int64 `json:"people"`    // for whom some are used
	Used      int64 `json:"used"`      // wrong passwords that count, and passwords being judged
	Exhausted int64 `json:"exhausted"` // people for whom strangers get none
	Reserved  int64 `json:"reserved"`  // people for whom nobody gets one
}

// Source is a client that guesses.
type Source struct {
	Network netip.Prefix `json:"network"`
	Wrong   int64        `json:"wrong"`   // wrong logins of its last hour
	Refused int64        `json:"refused"` // of them without asking the directory
	LastAt  time.Time    `json:"last_at"`
}

// Account is a person whose password is guessed. Person "" stands for all names that
// nobody has, and for proofs that no directory judges.
type Account struct {
	Person    directory.Key `json:"person"`
	Tried     int64         `json:"tried"`     // wrong logins since From
	Refused   int64         `json:"refused"`   // of them without asking the directory
	Wrong     int           `json:"wrong"`     // wrong passwords that count now
	Pending   int           `json:"pending"`   // passwords being judged
	Strangers int           `json:"strangers"` // at how many strangers get no permit, 0 unknown
	Everybody int           `json:"everybody"` // at how many nobody does
	From      time.Time     `json:"from"`
	LastAt    time.Time     `json:"last_at"`
}

// Sprayed is a password that failed for several people. Nobody knows which.
type Sprayed struct {
	Accounts int       `json:"accounts"` // for how many, as far as they are counted
	Tries    int64     `json:"tries"`
	Since    time.Time `json:"since"`
	LastAt   time.Time `json:"last_at"`
	Refused  bool      `json:"refused"` // to every stranger
}

const (
	topMinutesSQL = `
select minute, entered, arrived, familiar, wrong, refused, repeated
  from auth_activity
 where minute > now() - interval '1 hour'
 order by minute desc
 limit $1`
	topPermitsSQL = `
select count(*), coalesce(sum(n), 0)::bigint, count(*) filter (where n >= strangers and strangers > 0), count(*) filter (where n >= everybody and everybody > 0)
  from (select strangers, everybody, pending + case when expires_at > now() then wrong else 0 end as n from auth_permit) p
 where n > 0`
	topSourcesSQL = `
select network, wrong, refused, last_at
  from auth_source
 where last_at > now() - interval '1 hour'
 order by wrong desc, network
 limit $1`
	topAccountsSQL = `
select person, tried, refused, case when expires_at > now() then wrong else 0 end, pending, strangers, everybody, tried_from, tried_at
  from auth_permit
 where tried_at > now() - interval '1 hour'
 order by tried desc, person
 limit $1`
	topSprayedSQL = `
select cardinality(accounts), tries, since, last_at, coalesce(until > now(), false)
  from auth_spray
 where last_at > now() - interval '1 hour'
 order by 1 desc, tries desc, since
 limit $1`
)

// ReadTop reads what the nodes see, at most that many of each. What it says of an
// attack is by cfg.
func ReadTop(ctx context.Context, db *postgres.DB, cfg Config, most int) (*Top, error) {
	t := &Top{At: db.Now()}
	var arrived, wrong int64
	err := db.InSnapshot(ctx, postgres.Background, func(ctx context.Context, tx postgres.Tx) (err error) {
		if err := tx.QueryRow(ctx, recentSQL).Scan(&arrived, &wrong); err != nil {
			return err
		}
		p := &t.Permits
		if err := tx.QueryRow(ctx, topPermitsSQL).Scan(&p.People, &p.Used, &p.Exhausted, &p.Reserved); err != nil {
			return err
		}
		if t.Minutes, err = read[Minute](ctx, tx, topMinutesSQL, most); err != nil {
			return err
		}
		if t.Sources, err = read[Source](ctx, tx, topSourcesSQL, most); err != nil {
			return err
		}
		if t.Accounts, err = read[Account](ctx, tx, topAccountsSQL, most); err != nil {
			return err
		}
		t.Sprayed, err = read[Sprayed](ctx, tx, topSprayedSQL, most)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read who guesses: %w", err)
	}
	t.Attack = cfg.isAttack(arrived, wrong)
	return t, nil
}

func read[T any](ctx context.Context, tx postgres.Tx, sql string, most int) ([]T, error) {
	rows, err := tx.Query(ctx, sql, most)
	if err != nil {
		return nil, err
	}
	return postgres.CollectRows[T](rows)
}

const (
	unblockPersonSQL = `
with r as (delete from auth_refused where person = $1)
update auth_permit
   set wrong = 0, tried = 0, refused = 0
 where person = $1`
	unblockNetworkSQL = `delete from auth_source where network <<= $1`
)

// Unblock gives a person all permits again, as if nobody had tried a wrong
// password. Nodes hear of it by a hint on Topic with the key. What the directory
// itself counts stays, and where it can be read it is counted again. It reports
// whether there was anything to forget.
func Unblock(ctx context.Context, db *postgres.DB, person directory.Key) (bool, error) {
	tag, err := db.Exec(ctx, postgres.Interactive, unblockPersonSQL, string(person))
	if err != nil {
		return false, fmt.Errorf("unblock %s: %w", person, err)
	}
	return tag.RowsAffected() > 0, nil
}

// UnblockNetwork forgets what clients within n have tried. Nodes hear of it by a
// hint on Topic with n. It returns how many clients that were.
func UnblockNetwork(ctx context.Context, db *postgres.DB, n netip.Prefix) (int, error) {
	tag, err := db.Exec(ctx, postgres.Interactive, unblockNetworkSQL, n)
	if err != nil {
		return 0, fmt.Errorf("unblock %s: %w", n, err)
	}
	return int(tag.RowsAffected()), nil
}
