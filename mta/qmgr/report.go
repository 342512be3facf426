package qmgr

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strconv"
	"strings"
	"time"

	"dirpost/internal/envelope"
	"dirpost/internal/event"
	"dirpost/internal/message"
	"dirpost/internal/postgres"
	"dirpost/mta/dsn"
	"dirpost/mta/queue"
)

// claimReports leases what senders must be told and starts telling them. It
// reports whether there may be more.
func (m *Manager) claimReports(ctx, work context.Context) bool {
	free := cap(m.reports) - len(m.reports)
	m.mu.Lock()
	shards := m.shards
	m.mu.Unlock()
	if free == 0 || len(shards) == 0 || m.settler.stuck.Load() {
		return false
	}
	attempts, messages := m.take(ctx, work, func(ctx context.Context) ([]queue.Attempt, error) {
		return m.Queue.ClaimReports(ctx, shards, free, m.config.Lease)
	})
	if len(attempts) == 0 {
		return false
	}
	j := &job{m: m, attempts: byDestination(attempts)[attempts[0].Destination], messages: messages}
	for msg, group := range j.byMessage(len(attempts)) {
		m.start(work, m.reports, func(ctx context.Context) { m.report(ctx, msg, group) })
	}
	return true
}

// report tells the sender of msg what became of recipients that are final. The
// report and the end of their rows are one transaction.
func (m *Manager) report(ctx context.Context, msg *queue.Message, attempts []queue.Attempt) {
	settlements := make([]queue.Settlement, len(attempts))
	for i, a := range attempts {
		settlements[i] = queue.Settlement{Attempt: a, Verdict: queue.Done, Reply: a.Last}
	}
	err := m.guard(ctx, msg, func() error { return m.originate(ctx, msg, settlements) })
	if err == nil {
		return
	}
	if st := envelope.StatusOf(err); st.Code >= 500 || errors.Is(err, errPanic) && m.reportedLongEnough(msg) {
		// The sender cannot be told (RFC 5321 §6.1 leaves us nobody else to
		// tell): the log is all that is left.
		m.Events.Emit(ctx, event.Event{Level: slog.LevelWarn, Room: "mta/qmgr", Msg: "report undeliverable", Trace: msg.QueueID.String(), Attrs: []slog.Attr{
			slog.String("queue_id", msg.QueueID.String()), slog.String("to", msg.ReversePath.String()), slog.Int("nrcpt", len(attempts)),
			slog.String("dsn", st.Enhanced), slog.Any("err", err),
		}})
		m.settler.add(settlements, nil)
		return
	}
	if errors.Is(err, errPanic) { // it will be no better in five minutes
		if _, err := m.Queue.Extend(ctx, attempts, m.config.MaxBackoff); err != nil && ctx.Err() == nil {
			m.Log.WarnContext(ctx, "lease not renewed", "err", err)
		}
	}
	m.Log.WarnContext(ctx, "report not accepted, tried again when its lease ends", "queue_id", msg.QueueID.String(), "err", err)
}

// reportedLongEnough reports whether a report that a bug of ours keeps from being
// written has been tried for as long as mail is.
func (m *Manager) reportedLongEnough(msg *queue.Message) bool {
	return m.Now().After(msg.Expires.Add(msg.Expires.Sub(msg.Accepted)))
}

// warns reports whether the sender is to be told now that s is late.
func (m *Manager) warns(msg *queue.Message, s *queue.Settlement) bool {
	return s.Verdict == queue.Deferred && m.config.DelayWarning > 0 && !s.Attempt.Told &&
		m.Now().Sub(msg.Accepted) >= m.config.DelayWarning && wants(msg, s.Attempt.Recipient.Notify, envelope.NotifyDelay)
}

// warn tells the sender of a delay and settles it, in one transaction. If the
// warning cannot be sent now it reports false: the deferral has to be settled
// without it, and the next one tries again.
func (m *Manager) warn(ctx context.Context, msg *queue.Message, late []queue.Settlement) bool {
	told := make([]queue.Settlement, len(late))
	for i, s := range late {
		s.Verdict = queue.Told
		told[i] = s
	}
	err := m.guard(ctx, msg, func() error { return m.originate(ctx, msg, told) })
	if err != nil {
		m.Log.InfoContext(ctx, "sender not told of the delay", "queue_id", msg.QueueID.String(), "err", err)
	}
	return err == nil
}

// originate sends the report of settlements and settles them, in one
// transaction.
func (m *Manager) originate(ctx context.Context, msg *queue.Message, settlements []queue.Settlement) error {
	sender, ok := msg.ReversePath.Address()
	if !ok {
		return fmt.Errorf("report %s: %w", msg.QueueID, dsn.ErrNullReversePath)
	}
	body, err := m.Blobs.Open(ctx, msg.Body)
	if err != nil {
		return fmt.Errorf("open body for report: %w", err)
	}
	defer body.Close()
	r := &dsn.Report{
		ReportingMTA: m.config.Hostname, From: m.config.Postmaster, To: msg.ReversePath, Date: m.Now(),
		QueueID: msg.QueueID, EnvID: msg.EnvID, Arrival: msg.Accepted, Return: msg.Return, Body8Bit: msg.Body8Bit,
		Header: message.ParseHeader(msg.Header), Body: io.NewSectionReader(body, 0, body.Size()), BodySize: body.Size(),
	}
	for i := range settlements {
		r.Recipients = append(r.Recipients, reported(msg, &settlements[i], r.Date))
	}
	env := &envelope.Envelope{ // RFC 5321 §4.5.5: the null reverse-path
		Recipients: []envelope.Recipient{{Address: sender, Notify: envelope.NotifyNever}},
		SMTPUTF8:   r.NeedsUTF8(),
	}
	return m.Originator.Originate(ctx, env, composed{r}, func(ctx context.Context, tx postgres.Tx) error { return m.Queue.SettleTx(ctx, tx, settlements) })
}

// composed is a report that is written when somebody wants it.
type composed struct{ report *dsn.Report }

// WriteTo implements io.WriterTo.
func (c composed) WriteTo(w io.Writer) (int64, error) {
	n := &counter{w: w}
	err := dsn.Compose(n, c.report)
	return n.n, err
}

type counter struct {
	w io.Writer
	n int64
}

func (c *counter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += int64(n)
	return n, err
}

// reported is what the report says of one recipient.
func reported(msg *queue.Message, s *queue.Settlement, now time.Time) dsn.Recipient {
	a := &s.Attempt
	r := dsn.Recipient{
		Address: a.Recipient.Address, Original: a.Recipient.Original, OriginalType: a.Recipient.OriginalType,
		Status: s.Reply.Enhanced, LastAttempt: now, Action: dsn.Failed,
	}
	switch {
	case s.Verdict == queue.Told:
		r.Action, r.WillRetryUntil = dsn.Delayed, msg.Expires
	case s.Reply.IsDelivered() && s.Reply.Relay == "local":
		r.Action = dsn.Delivered
	case s.Reply.IsDelivered() && s.Reply.Relay == relayList:
		r.Action = dsn.Expanded
	case s.Reply.IsDelivered():
		r.Action = dsn.Relayed
	}
	r.Moderated = s.Reply.Relay == queue.RelayModerator
	r.Returned = s.Reply.Relay == queue.RelayAdministrator
	host, _, asked := strings.Cut(s.Reply.Relay, "[")
	switch {
	case s.Reply.Code != 0 && asked:
		r.RemoteMTA = host
		r.Diagnostic = strconv.Itoa(s.Reply.Code) + " " + s.Reply.Enhanced + " " + s.Reply.Text
	case !s.Reply.IsDelivered():
		r.Diagnostic = s.Reply.Text
	}
	return r
}
