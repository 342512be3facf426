package quota

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"time"

	"dirpost/directory"
	"dirpost/internal/envelope"
	"dirpost/internal/postgres"

	"github.com/prometheus/client_golang/prometheus"
)

// Config says when people are warned.
type Config struct {
	// Percent of the quota above which somebody is warned of whom the directory and
	// the policies name no size (Limits.QuotaWarn); 0: only where they do.
	Percent int
	// Every is about how often it is looked; 0: 5 minutes.
	Every time.Duration
	// Hostname is our name, for the Message-ID.
	Hostname string
	// Postmaster is whom the warning is from.
	Postmaster envelope.Address
}

// Validate reports what is wrong with c.
func (c Config) Validate() error {
	switch {
	case c.Percent < 0 || c.Percent > 100:
		return fmt.Errorf("quota warning: %d is no percentage", c.Percent)
	case c.Every < 0:
		return errors.New("quota warning: the time between looks must not be negative")
	case c.Hostname == "" || c.Postmaster.IsZero():
		return errors.New("quota warning: host name and postmaster must be there")
	}
	return nil
}

// Originator takes a message that we have written, with settle in the same
// transaction, into a mailbox that may be full.
type Originator interface {
	OriginateOverQuota(ctx context.Context, env *envelope.Envelope, msg io.WriterTo, settle func(context.Context, postgres.Tx) error) error
}

// Warner looks who is to be warned. Make one with New.
type Warner struct {
	config Config
	db     *postgres.DB
	live   *directory.Live
	door   Originator
	log    *slog.Logger
	sent   prometheus.Counter
}

// New returns a Warner. It does no I/O.
func New(c Config, db *postgres.DB, live *directory.Live, door Originator, log *slog.Logger) (*Warner, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	if c.Every == 0 {
		c.Every = 5 * time.Minute
	}
	return &Warner{config: c, db: db, live: live, door: door, log: log,
		sent: prometheus.NewCounter(prometheus.CounterOpts{Name: "dirpost_quota_warnings_total", Help: "People who were told that their mailbox is nearly full."})}, nil
}

// Collectors are the metrics, to be registered by the caller.
func (w *Warner) Collectors() []prometheus.Collector { return []prometheus.Collector{w.sent} }

// Run looks now and then, until ctx ends.
func (w *Warner) Run(ctx context.Context) error {
	for {
		wait := time.NewTimer(w.config.Every/2 + rand.N(w.config.Every))
		select {
		case <-ctx.Done():
			wait.Stop()
			return nil
		case <-wait.C:
		}
		if err := w.Look(ctx); err != nil && ctx.Err() == nil {
			w.log.WarnContext(ctx, "who has a nearly full mailbox was not found out, it is tried again", "err", err)
		}
	}
}

const turnSQL = `
insert into quota_round as r (name, started_at)
values ('warning', now())
    on conflict (name) do update
   set started_at = excluded.started_at
 where r.started_at < now() - $1::interval
returning started_at`

// Look warns whoever is to be, unless another node has looked a moment ago.
func (w *Warner) Look(ctx context.Context) error {
	s := w.live.Snapshot()
	if !s.Ready() {
		return nil
	}
	var at time.Time
	err := w.db.QueryRow(ctx, postgres.Background, turnSQL, w.config.Every/2).Scan(&at)
	if errors.Is(err, postgres.ErrNoRows) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("take the turn: %w", err)
	}
	due, over, err := w.find(ctx, s)
	if err != nil {
		return err
	}
	if err := w.forget(ctx, over); err != nil {
		return err
	}
	var errs []error
	for _, u := range due {
		if err := w.warn(ctx, u); err != nil {
			errs = append(errs, fmt.Errorf("warn %s: %w", u.entry.Key, err))
		}
		if ctx.Err() != nil || len(errs) == maxFailures {
			break
		}
	}
	return errors.Join(errs...)
}

// maxFailures ends a look: what fails for many is ours.
const maxFailures = 10

// usage is a mailbox with what is to be said about it.
type usage struct {
	account     int64
	entry       *directory.Entry
	used, limit int64 // octets; limit 0: none
	threshold   int64
}

const usageSQL = `
select a.account_id, a.directory_key, a.used_bytes, coalesce(w.threshold, 0)
  from account a
  left join quota_warning w on w.account_id = a.account_id
 where a.used_bytes > 0
   and a.closed_at is null`

// find returns who is to be warned, and the accounts that have room again.
func (w *Warner) find(ctx context.Context, s *directory.Snapshot) (due []usage, room []int64, err error) {
	rows, err := w.db.Query(ctx, postgres.Background, usageSQL)
	if err != nil {
		return nil, nil, fmt.Errorf("read what mailboxes use: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		var u usage
		var key string
		var warned int64
		if err := rows.Scan(&u.account, &key, &u.used, &warned); err != nil {
			return nil, nil, fmt.Errorf("read what mailboxes use: %w", err)
		}
		u.entry = s.ByKey(directory.Key(key))
		if u.entry == nil || u.entry.IsGone() {
			continue
		}
		u.threshold, u.limit = w.threshold(s, u.entry)
		switch {
		case warned == 0 && u.threshold > 0 && u.used >= u.threshold && s.Keeps(u.entry):
			due = append(due, u)
		case warned > 0 && (u.threshold == 0 || u.used < u.threshold-u.threshold/20):
			room = append(room, u.account)
		}
	}
	if err := rows.Err(); err != nil {
		return nil, nil, fmt.Errorf("read what mailboxes use: %w", err)
	}
	return due, room, nil
}

// threshold returns from how many octets on somebody is warned, 0 for never, and the
// quota.
func (w *Warner) threshold(s *directory.Snapshot, e *directory.Entry) (threshold, limit int64) {
	l := s.Limits(e)
	switch {
	case l.QuotaWarn > 0:
		return l.QuotaWarn, l.Quota
	case l.Quota > 0 && w.config.Percent > 0:
		return max(1, l.Quota/100*int64(w.config.Percent)), l.Quota
	}
	return 0, l.Quota
}

const forgetSQL = `
delete from quota_warning w
 where w.account_id = any ($1)
    or not exists (select from account a where a.account_id = w.account_id)`

// forget has those warned again who have room, and drops what is about no account.
func (w *Warner) forget(ctx context.Context, room []int64) error {
	if _, err := w.db.Exec(ctx, postgres.Background, forgetSQL, room); err != nil {
		return fmt.Errorf("forget warnings: %w", err)
	}
	return nil
}

const warnedSQL = `
insert into quota_warning (account_id, threshold, used)
values ($1, $2, $3)
    on conflict (account_id) do nothing`

// errWarned reports that another node has warned meanwhile.
var errWarned = errors.New("warned by another node")

func (w *Warner) warn(ctx context.Context, u usage) error {
	env := &envelope.Envelope{Recipients: []envelope.Recipient{{Address: u.entry.Primary, Original: u.entry.Primary.String(), Notify: envelope.NotifyNever}}}
	msg := &warning{usage: u, config: &w.config, id: w.db.NewID(), at: w.db.Now()}
	err := w.door.OriginateOverQuota(ctx, env, msg, func(ctx context.Context, tx postgres.Tx) error {
		tag, err := tx.Exec(ctx, warnedSQL, u.account, u.threshold, u.used)
		if err == nil && tag.RowsAffected() == 0 {
			err = errWarned
		}
		return err
	})
	if errors.Is(err, errWarned) {
		return nil
	}
	if err != nil {
		return err
	}
	w.sent.Inc()
	w.log.InfoContext(ctx, "person warned, mailbox is nearly full", "user", string(u.entry.Key), "to", u.entry.Primary.String(), "size", u.used)
	return nil
}
