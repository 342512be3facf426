package qmgr

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"strconv"
	"strings"
	"time"

	"dirpost/internal/envelope"
	"dirpost/internal/event"
	"dirpost/mta/queue"
)

// settlement decides what becomes of a recipient after an outcome.
func (m *Manager) settlement(msg *queue.Message, a queue.Attempt, o queue.Outcome) queue.Settlement {
	s := queue.Settlement{Attempt: a, Reply: o.Reply}
	now := m.Now()
	switch {
	case o.Reply.IsDelivered():
		s.Verdict = queue.Done
		m.attempts.WithLabelValues("delivered").Inc()
		if !o.Passed && wants(msg, a.Recipient.Notify, envelope.NotifySuccess) {
			s.Verdict = queue.Final
		}
	case o.Reply.IsPermanent() || !now.Before(msg.Expires):
		if !o.Reply.IsPermanent() {
			s.Reply = expired(o.Reply)
		}
		s.Verdict = queue.Done
		m.attempts.WithLabelValues("failed").Inc()
		if wants(msg, a.Recipient.Notify, envelope.NotifyFailure) {
			s.Verdict = queue.Final
		}
	default:
		s.Verdict = queue.Deferred
		m.attempts.WithLabelValues("deferred").Inc()
		s.Pause = m.pause(now, msg)
		if m.Moved != nil && m.Moved(&a.Recipient) != "" { // while it was being tried
			s.Pause = time.Second
		}
	}
	return s
}

// expired is the last word on a recipient that was tried long enough.
func expired(last queue.Reply) queue.Reply {
	text := last.Text
	if last.Code != 0 {
		text = strconv.Itoa(last.Code) + " " + last.Enhanced + " " + text
	}
	return queue.Reply{Enhanced: "5.4.7", Text: "delivery time expired; last: " + text, Relay: last.Relay}
}

// pause is the time until the next attempt: the age of the message, so that each
// is about twice as long as the one before (RFC 5321 §4.5.4.1), within bounds,
// and a little by chance, so that what failed together does not come back
// together. The last attempt is when the message expires.
func (m *Manager) pause(now time.Time, msg *queue.Message) time.Duration {
	p := min(max(now.Sub(msg.Accepted), m.config.MinBackoff), m.config.MaxBackoff)
	p += time.Duration(rand.Int64N(int64(p)/10 + 1))
	if left := msg.Expires.Sub(now); p > left {
		p = max(left, time.Second)
	}
	return p
}

// wants reports whether the sender is to be told of an outcome (RFC 3461 §4.1):
// failure is what is told by default, and nothing about a report (RFC 5321
// §6.1).
func wants(msg *queue.Message, notify, outcome envelope.Notify) bool {
	switch {
	case msg.ReversePath.IsNull():
		return false
	case notify == 0:
		return outcome != envelope.NotifySuccess
	}
	return notify&outcome != 0
}

// conclude settles outcomes of one message, and says what they were when that is
// durable.
func (j *job) conclude(ctx context.Context, msg *queue.Message, attempts []queue.Attempt, outcomes []queue.Outcome) {
	late, rest := conclusions{at: time.Now()}, conclusions{at: time.Now()}
	for i, a := range attempts {
		s := j.m.settlement(msg, a, outcomes[i])
		if ctx.Err() != nil && s.Verdict == queue.Deferred && s.Reply.Code == 0 {
			s.Verdict, s.Pause = queue.Untried, 0 // broken off by us
		}
		if j.m.warns(msg, &s) {
			late.add(outcomes[i], s)
		} else {
			rest.add(outcomes[i], s)
		}
	}
	if len(late.settlements) > 0 && j.m.warn(ctx, msg, late.settlements) {
		j.emit(ctx, msg, &late)
	} else {
		rest.outcomes = append(rest.outcomes, late.outcomes...)
		rest.settlements = append(rest.settlements, late.settlements...)
	}
	j.m.settler.add(rest.settlements, func() {
		j.emit(ctx, msg, &rest)
		j.m.reportSoon(rest.settlements)
	})
}

// conclusions are outcomes with what was decided about them.
type conclusions struct {
	outcomes    []queue.Outcome
	settlements []queue.Settlement
	at          time.Time // when they were known
}

func (c *conclusions) add(o queue.Outcome, s queue.Settlement) {
	c.outcomes, c.settlements = append(c.outcomes, o), append(c.settlements, s)
}

// reportSoon has the dispatcher look for reports if one may be due already.
func (m *Manager) reportSoon(settlements []queue.Settlement) {
	for _, s := range settlements {
		if s.Verdict == queue.Final {
			m.final.Store(true)
			m.Queue.WakeHere()
			return
		}
	}
}

// emit says what became of each recipient, in Postfix's words.
func (j *job) emit(ctx context.Context, msg *queue.Message, c *conclusions) {
	now := j.m.Now()
	for i := range c.settlements {
		o, s := &c.outcomes[i], &c.settlements[i]
		a := &s.Attempt
		if outcome := outcomeOfSettlement(s); outcome != "" {
			j.m.attemptTime.WithLabelValues(outcome).Observe(time.Since(j.claimed).Seconds())
		}
		attrs := []slog.Attr{
			slog.String("queue_id", msg.QueueID.String()),
			slog.String("from", msg.ReversePath.String()),
			slog.String("to", a.Recipient.Address.String()),
			slog.String("relay", s.Reply.Relay),
			slog.Float64("delay", seconds(now.Sub(msg.Accepted))),
			slog.String("delays", j.delays(now, msg, o)),
			slog.String("dsn", s.Reply.Enhanced),
			slog.String("status", status(s)),
		}
		if a.Recipient.Original != "" && a.Recipient.Original != a.Recipient.Address.String() {
			attrs = append(attrs, slog.String("orig_to", a.Recipient.Original))
		}
		if s.Reply.Code != 0 {
			attrs = append(attrs, slog.Int("code", s.Reply.Code))
		}
		if o.TLS != "" {
			attrs = append(attrs, slog.String("tls", o.TLS))
		}
		attrs = append(attrs, slog.String("reply", s.Reply.Text))
		j.m.Events.Emit(ctx, event.Event{Time: now, Level: slog.LevelInfo, Room: "mta/qmgr", Msg: "delivery", Trace: msg.QueueID.String(), Attrs: attrs, Span: j.span(o, c.at)})
	}
}

// outcomeOfSettlement is the label of an attempt, "" for one that was broken off.
func outcomeOfSettlement(s *queue.Settlement) string {
	switch {
	case s.Reply.IsDelivered():
		return "delivered"
	case s.Verdict == queue.Untried:
		return ""
	case s.Verdict == queue.Deferred || s.Verdict == queue.Told:
		return "deferred"
	}
	return "failed"
}

// status is the word for what became of a recipient.
func status(s *queue.Settlement) string {
	switch {
	case s.Reply.IsDelivered() && s.Reply.Relay == "local":
		return "delivered"
	case s.Reply.IsDelivered() && s.Reply.Relay == relayList:
		return "expanded"
	case s.Reply.IsDelivered() && s.Reply.Relay == relayQueue:
		return "moved"
	case s.Reply.IsDelivered():
		return "sent"
	case s.Verdict == queue.Untried:
		return "untried"
	case s.Verdict == queue.Deferred || s.Verdict == queue.Told:
		return "deferred"
	case s.Reply.Enhanced == "5.4.7":
		return "expired"
	default:
		return "bounced"
	}
}

// delays are Postfix's four: before it was claimed, in our hands, getting
// there, sending.
func (j *job) delays(now time.Time, msg *queue.Message, o *queue.Outcome) string {
	total, mine := now.Sub(msg.Accepted), time.Since(j.claimed)
	parts := []time.Duration{total - mine, mine - o.Connect - o.Transmit, o.Connect, o.Transmit}
	texts := make([]string, len(parts))
	for i, p := range parts {
		texts[i] = strconv.FormatFloat(seconds(p), 'g', -1, 64)
	}
	return strings.Join(texts, "/")
}

// span is what a trace shows of an attempt: from its claim until its outcome, known
// at that time, is durable.
func (j *job) span(o *queue.Outcome, known time.Time) event.Span {
	return event.Span{Name: "queue attempt", Took: time.Since(j.claimed), Steps: [3]event.Step{
		{Name: "connect", Took: o.Connect}, {Name: "delivery", Took: o.Transmit}, {Name: "settle", Took: time.Since(known)},
	}}
}

// seconds is d to the hundredth, never negative.
func seconds(d time.Duration) float64 {
	return float64(max(d, 0).Round(10*time.Millisecond)/(10*time.Millisecond)) / 100
}
