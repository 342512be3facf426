package queue

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"dirpost/internal/envelope"
	"dirpost/internal/postgres"
)

// Question is what the moderators of a list are asked: whether the message that is
// held for it may go to the members.
type Question struct {
	Token   string // the secret by which an answer is known; never kept
	QueueID envelope.QueueID
	N       int32  // the held recipient within the message
	List    string // directory key of the list
	Address envelope.Address
	Expires time.Duration // how long there is time to answer
}

// RelayModerator is the Relay of a Reply that a moderator gave: its Text are the
// words for the author.
const RelayModerator = "moderator"

// RelayAdministrator is the Relay of a Reply to a message that was held for another
// reason, and returned with the words of who looks after the queue.
const RelayAdministrator = "administrator"

// Decision is what became of a Question.
type Decision int16

// The decisions.
const (
	Undecided    Decision = iota
	Approved              // the message goes to the members
	Rejected              // it goes back to the author
	Unanswered            // likewise, since nobody has decided in time
	DecidedQueue          // by somebody who works on the queue
)

// String returns the word for d as people read it.
func (d Decision) String() string {
	return [...]string{"undecided", "approved", "rejected", "returned, since nobody had answered in time", "decided by the administrator"}[d]
}

// ErrDecided reports a question that somebody else has answered first.
var ErrDecided = errors.New("somebody else has decided already")

// hashOf is what is kept of a token.
func hashOf(token string) []byte {
	sum := sha256.Sum256([]byte(token))
	return sum[:]
}

const askSQL = `
insert into moderation (token, queue_id, n, expires_at, list_key, list)
values ($1, $2, $3, now() + $4::interval, $5, $6)
on conflict do nothing`

// AskTx keeps a question within tx. Doing it again changes nothing.
func (q *Queue) AskTx(ctx context.Context, tx postgres.Tx, x Question) error {
	_, err := tx.Exec(ctx, askSQL, hashOf(x.Token), int64(x.QueueID), x.N, x.Expires, x.List, x.Address.String())
	if err != nil {
		return postgres.Classify(fmt.Errorf("ask the moderators of %s: %w", x.Address, err))
	}
	return nil
}

// Asked is a question as it stands.
type Asked struct {
	QueueID   envelope.QueueID
	List      string // directory key
	Address   string // of the list
	Decision  Decision
	DecidedBy string
}

const askedSQL = `
select queue_id, list_key, list, state, decided_by
  from moderation
 where token = $1`

// Asked returns the question with a token, ErrNotFound if there is none (any
// more).
func (q *Queue) Asked(ctx context.Context, token string) (Asked, error) {
	var a Asked
	var id int64
	err := q.db.QueryRow(ctx, postgres.Interactive, askedSQL, hashOf(token)).Scan(&id, &a.List, &a.Address, &a.Decision, &a.DecidedBy)
	if errors.Is(err, postgres.ErrNoRows) {
		return a, fmt.Errorf("question to moderators: %w", ErrNotFound)
	}
	if err != nil {
		return a, postgres.Classify(fmt.Errorf("question to moderators: %w", err))
	}
	a.QueueID = envelope.QueueID(id)
	return a, nil
}

// Answer is how a question is decided.
type Answer struct {
	Token    string
	Decision Decision // Approved or Rejected
	By       string   // address of the moderator
	Words    string   // what the author is told, one line
	QueueID  envelope.QueueID
}

// DecideTx carries an answer out within tx: the held recipient is released, or goes
// back to the author with Words. ErrDecided says that there was an answer before,
// and nothing has changed. The answer of the same QueueID may be given again.
//
// It locks queue rows, so it comes after everything else in the transaction; then
// the caller calls Wake.
func (q *Queue) DecideTx(ctx context.Context, tx postgres.Tx, a Answer) error {
	var now Decision
	err := tx.QueryRow(ctx, `select moderation_decide($1, $2, $3, $4, $5)`, hashOf(a.Token), int16(a.Decision), clean(a.By), int64(a.QueueID), clean(a.Words)).Scan(&now)
	switch {
	case err != nil:
		return postgres.Classify(fmt.Errorf("decide for a list: %w", err))
	case now != a.Decision:
		return ErrDecided
	}
	return nil
}

const (
	unansweredWords = "No moderator has decided in time."
	keepDecisions   = 30 * 24 * time.Hour
)

// ReturnUnanswered returns to their authors the messages about which no moderator
// has decided in time, up to 100, and reports how many.
func (q *Queue) ReturnUnanswered(ctx context.Context) (n int, err error) {
	err = q.db.QueryRow(ctx, postgres.Background, `select moderation_expire(100, $1, $2)`, unansweredWords, keepDecisions).Scan(&n)
	if err != nil {
		return 0, postgres.Classify(fmt.Errorf("return what no moderator has answered: %w", err))
	}
	if n > 0 {
		q.Wake()
	}
	return n, nil
}

// Moderate returns what nobody has answered in time, every minute until ctx is
// done. Any number of nodes may do it.
func (q *Queue) Moderate(ctx context.Context, log *slog.Logger) error {
	tick := time.NewTicker(time.Minute)
	defer tick.Stop()
	for {
		n, err := q.ReturnUnanswered(ctx)
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			log.WarnContext(ctx, "unanswered questions to moderators not looked at, tried again in a minute", "err", err)
		case n > 0:
			log.InfoContext(ctx, "messages returned that no moderator has decided about", "n", n)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

const rejectSQL = `
select count(*) filter (where outq_return_held(h.queue_id, h.n,
         case when h.asked then '5.7.2' else '5.7.1' end, $6, case when h.asked then 'moderator' else 'administrator' end))
  from (select o.queue_id, o.n,
               (o.queue_id, o.n) in (select d.queue_id, d.n from moderation d where d.state = 0) as asked
          from outq o
          join outq_msg m on m.queue_id = o.queue_id
         where ($1::bigint[] is null or o.queue_id = any ($1))
           and ($2::text is null or m.reverse_path = $2)
           and ($3::text is null or o.domain = $3)
           and ($4::text is null or o.destination = $4)
           and ($5::smallint[] is null or o.state = any ($5))
           and o.state = 2
         order by o.queue_id, o.n) h`

// Reject returns held recipients to their senders, with words, and reports how
// many. What waits for the moderators of a list is answered as they would.
func (q *Queue) Reject(ctx context.Context, f Filter, words string) (n int, err error) {
	w := f.where()
	err = q.db.QueryRow(ctx, postgres.Interactive, rejectSQL, w.ids, w.sender, w.domain, w.destination, w.states, clean(words)).Scan(&n)
	if err != nil {
		return 0, fmt.Errorf("reject in queue: %w", err)
	}
	if n > 0 {
		q.Wake()
	}
	return n, nil
}
