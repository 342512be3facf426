package expiry

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"dirpost/directory"
	"dirpost/internal/envelope"
	"dirpost/internal/event"
	"dirpost/internal/postgres"
)

// Job warns people. Make one with New.
type Job struct {
	Deps
	cfg Config
}

// New returns a Job.
func New(c Config, d Deps) (*Job, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	return &Job{Deps: d, cfg: c.withDefaults()}, nil
}

// lookEvery is how often a node asks whether it is time for a round.
const lookEvery = time.Minute

// Run does the rounds that no other node does, until ctx ends.
func (j *Job) Run(ctx context.Context) error {
	if len(j.cfg.Days) == 0 {
		<-ctx.Done()
		return nil
	}
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		if err := j.Once(ctx); err != nil && ctx.Err() == nil {
			j.Log.WarnContext(ctx, "not everybody was warned whose password expires, tried again later", "err", err)
		}
	}
}

const claimSQL = `
update password_warning_run
   set next_at = now() + $1::interval
 where next_at <= now()`

const doneSQL = `
update password_warning_run
   set next_at = now() + $1::interval`

const purgeSQL = `
delete from password_warning
 where expires_at < now() - interval '7 days'`

// Once does a round if one is due and no other node is at it. A directory that
// cannot be asked keeps nobody else's people waiting; the round is done again when
// the lease ends.
func (j *Job) Once(ctx context.Context) error {
	tag, err := j.DB.Exec(ctx, postgres.Background, claimSQL, j.cfg.Lease)
	if err != nil {
		return fmt.Errorf("ask whose turn it is: %w", err)
	}
	if tag.RowsAffected() == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, j.cfg.Lease-j.cfg.Lease/10)
	defer cancel()
	snapshot := j.Live.Snapshot()
	if !snapshot.Ready() || snapshot.Stale() {
		return directory.ErrStale // somebody may have left, and we have not heard of it
	}
	var errs []error
	for _, s := range j.Sources {
		if err := j.round(ctx, snapshot, s); err != nil {
			errs = append(errs, err)
		}
	}
	if _, err := j.DB.Exec(ctx, postgres.Background, purgeSQL); err != nil {
		errs = append(errs, fmt.Errorf("forget old warnings: %w", err))
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	if _, err := j.DB.Exec(ctx, postgres.Background, doneSQL, j.cfg.Every); err != nil {
		return fmt.Errorf("end of the round: %w", err)
	}
	return nil
}

// round warns the people of one directory. One whom it cannot warn keeps nobody
// else from being warned.
func (j *Job) round(ctx context.Context, s *directory.Snapshot, source Source) error {
	now := j.DB.Now()
	ends, err := source.PasswordEnds(ctx, now, now.Add(days(j.cfg.Days[len(j.cfg.Days)-1])))
	if err != nil {
		return err
	}
	var errs []error
	for _, end := range ends {
		e := s.ByKey(end.Key)
		if !mayBeWarned(s, e, now) {
			continue
		}
		if err := j.warn(ctx, e, end.At, now); err != nil {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			errs = append(errs, fmt.Errorf("warn %s: %w", e.Key, err))
		}
	}
	return errors.Join(errs...)
}

// mayBeWarned reports whether a warning reaches somebody who can do something about
// it: a person with a mailbox here and a login.
func mayBeWarned(s *directory.Snapshot, e *directory.Entry, now time.Time) bool {
	if e == nil || e.Kind != directory.KindPerson || e.Primary.IsZero() || !s.Keeps(e) {
		return false
	}
	switch e.LoginState(now) {
	case directory.StateActive, directory.StateLocked:
		return !s.Limits(e).NoLogin
	}
	return false
}

// mark is the mark that has been reached with left to go: the smallest one that is
// not below it.
func (j *Job) mark(left time.Duration) int {
	for _, d := range j.cfg.Days { // the smallest first
		if left <= days(d) {
			return d
		}
	}
	return 0
}

func days(n int) time.Duration { return time.Duration(n) * 24 * time.Hour }

// errTold reports that somebody was told already.
var errTold = errors.New("was told already")

const toldSQL = `
insert into password_warning (person, expires_at, days)
select $1, $2, $3
 where not exists (
   select
     from password_warning w
    where w.person = $1
      and w.expires_at = $2
      and w.days <= $3)
on conflict do nothing`

const isToldSQL = `
select exists (
   select
     from password_warning w
    where w.person = $1
      and w.expires_at = $2
      and w.days <= $3)`

// warn tells e of the end of the password, if the mark was not told yet.
func (j *Job) warn(ctx context.Context, e *directory.Entry, at, now time.Time) error {
	mark := j.mark(at.Sub(now))
	at = at.Truncate(time.Microsecond) // as the database has it
	var told bool
	err := j.DB.QueryRow(ctx, postgres.Background, isToldSQL, string(e.Key), at, mark).Scan(&told)
	if err != nil || told {
		return err
	}
	msg := &warning{cfg: j.cfg, to: e.Primary, at: at, now: now, id: envelope.QueueID(j.DB.NewID())}
	env := &envelope.Envelope{Recipients: []envelope.Recipient{{Address: e.Primary, Original: e.Primary.String(), Notify: envelope.NotifyNever}}}
	err = j.Originator.Originate(ctx, env, msg, func(ctx context.Context, tx postgres.Tx) error {
		tag, err := tx.Exec(ctx, toldSQL, string(e.Key), at, mark)
		if err != nil {
			return err
		}
		if tag.RowsAffected() == 0 {
			return errTold
		}
		return nil
	})
	if errors.Is(err, errTold) {
		return nil
	}
	if err != nil {
		return err
	}
	j.Events.Emit(ctx, event.Event{Level: slog.LevelInfo, Room: "auth/expiry", Msg: "warned before a password expires", Attrs: []slog.Attr{
		slog.String("user", e.Primary.String()), slog.String("person", string(e.Key)), slog.Time("expires", at), slog.Int("days", mark),
	}})
	return nil
}
