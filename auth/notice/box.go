package notice

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"dirpost/directory"
	"dirpost/internal/envelope"
	"dirpost/internal/postgres"
)

const (
	// every is how often a node looks for what is to be told.
	every = 5 * time.Second
	// apart is the time between two mails of a kind to a person.
	apart = time.Hour
	// keep is how long a row is kept after the last mail.
	keep = 2 * apart
	// giveUp is how long a notice is tried to be sent.
	giveUp = 5 * 24 * time.Hour
	// maxLines bounds the lines of a mail, maxLine one of them, in octets.
	maxLines = 20
	maxLine  = 300
	// batch is how many mails are made at once.
	batch = 100
)

// Box is what is to be told, in the database.
type Box struct {
	db  *postgres.DB
	log *slog.Logger
}

// New returns the notices in db.
func New(db *postgres.DB, log *slog.Logger) *Box { return &Box{db: db, log: log} }

const addSQL = `
insert into auth_notice as n (person, kind, lines)
values ($1, $2, array[$3])
on conflict (person, kind) do update
   set since = case when n.lines = '{}' then now() else n.since end,
       lines = case when cardinality(n.lines) < $4 then n.lines || excluded.lines else n.lines end`

// Add notes that something was done, in a line of text for the person. It is told in
// some seconds, or an hour after the last mail of the kind.
func (b *Box) Add(ctx context.Context, person directory.Key, kind Kind, line string) error {
	if _, ok := texts[kind]; !ok {
		return fmt.Errorf("no notice of kind %q", kind)
	}
	line = b.db.Now().UTC().Format("2 January 2006, 15:04") + ": " + oneLine(line)
	if _, err := b.db.Exec(ctx, postgres.Interactive, addSQL, string(person), string(kind), line, maxLines+1); err != nil {
		return fmt.Errorf("note that a person is to be told: %w", err)
	}
	return nil
}

// Sender lets a message of ours in; *intake.Door is made one by cmd.
type Sender interface {
	// Send sends a message to one recipient with the null reverse-path. done is SQL
	// of the same transaction; if it fails there is no message. A permanent status
	// of the error says that the message will never get in.
	Send(ctx context.Context, to envelope.Address, m *Message, done func(ctx context.Context, tx postgres.Tx) error) error
}

// Config is how notices are written.
type Config struct {
	Host       string           // of the mail system: names messages
	Postmaster envelope.Address // whom people can ask
	Page       string           // URL of the self-service page, "" for none
}

// Run makes mails of notices until ctx ends.
func (b *Box) Run(ctx context.Context, cfg Config, live *directory.Live, sender Sender) error {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		if err := b.send(ctx, cfg, live, sender); err != nil && ctx.Err() == nil {
			b.log.WarnContext(ctx, "notices to people are not sent, tried again", "err", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// due is a notice that may be sent now.
type due struct {
	person directory.Key
	kind   Kind
	lines  []string
	old    bool // has been tried long enough
}

const dueSQL = `
select person, kind, lines, since < now() - $3::interval
  from auth_notice
 where lines <> '{}'
   and (sent_at is null or sent_at < now() - $1::interval)
 order by since
 limit $2`

const purgeSQL = `delete from auth_notice where lines = '{}' and sent_at < now() - $1::interval`

// send makes one mail of each notice that may be sent now.
func (b *Box) send(ctx context.Context, cfg Config, live *directory.Live, sender Sender) error {
	if _, err := b.db.Exec(ctx, postgres.Background, purgeSQL, keep); err != nil {
		return err
	}
	rows, err := b.db.Query(ctx, postgres.Background, dueSQL, apart, batch, giveUp)
	if err != nil {
		return err
	}
	defer rows.Close()
	var all []due
	for rows.Next() {
		var d due
		if err := rows.Scan(&d.person, &d.kind, &d.lines, &d.old); err != nil {
			return err
		}
		all = append(all, d)
	}
	if err := rows.Err(); err != nil {
		return err
	}
	rows.Close()
	var errs []error
	for _, d := range all {
		if err := b.sendOne(ctx, cfg, live.Snapshot(), sender, d); err != nil {
			errs = append(errs, fmt.Errorf("%s to %s: %w", d.kind, d.person, err))
		}
	}
	return errors.Join(errs...)
}

// sendOne makes the mail of a notice. Who has no mailbox any more, or whose mail is
// refused, is not told.
func (b *Box) sendOne(ctx context.Context, cfg Config, s *directory.Snapshot, sender Sender, d due) error {
	done := func(ctx context.Context, tx postgres.Tx) error { return b.doneTx(ctx, tx, d) }
	e := s.ByKey(d.person)
	if e == nil && s.Stale() {
		return directory.ErrStale
	}
	if e == nil || e.Primary.IsZero() {
		return b.drop(ctx, d, nil)
	}
	err := sender.Send(ctx, e.Primary, &Message{Config: cfg, To: e.Primary, Name: e.DisplayName, Kind: d.kind, Lines: d.lines, Date: b.db.Now()}, done)
	switch {
	case errors.Is(err, errTold): // another node was there first
		return nil
	case err != nil && (d.old || !envelope.StatusOf(err).IsTemporary()):
		return b.drop(ctx, d, err)
	}
	return err
}

// errTold: the notice has been sent, or has more lines by now.
var errTold = errors.New("notice has changed")

const doneSQL = `
update auth_notice
   set lines = '{}', sent_at = now()
 where person = $1
   and kind = $2
   and lines = $3`

// doneTx ends a notice.
func (b *Box) doneTx(ctx context.Context, tx postgres.Tx, d due) error {
	tag, err := tx.Exec(ctx, doneSQL, string(d.person), string(d.kind), d.lines)
	if err == nil && tag.RowsAffected() == 0 {
		err = errTold
	}
	return err
}

// drop ends a notice that cannot be sent.
func (b *Box) drop(ctx context.Context, d due, cause error) error {
	b.log.InfoContext(ctx, "notice dropped", "user", string(d.person), "kind", string(d.kind), "err", cause)
	_, err := b.db.Exec(ctx, postgres.Background, doneSQL, string(d.person), string(d.kind), d.lines)
	return err
}
