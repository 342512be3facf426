package qmgr

import (
	"context"
	"log/slog"

	"dirpost/internal/envelope"
	"dirpost/internal/event"
	"dirpost/mta/queue"
)

// holdDeparted holds what was submitted by people who have left since, and returns
// the rest. What cannot be held now is not sent either: its lease ends.
func (m *Manager) holdDeparted(ctx context.Context, attempts []queue.Attempt, messages map[envelope.QueueID]*queue.Message) (rest []queue.Attempt) {
	if m.Departed == nil {
		return attempts
	}
	held := make(map[string][]queue.Attempt) // by reason
	for _, a := range attempts {
		msg, reason := messages[a.QueueID], ""
		if msg != nil && msg.Author != "" {
			reason = m.Departed(msg.Author)
		}
		if reason == "" {
			rest = append(rest, a)
			continue
		}
		held[reason] = append(held[reason], a)
	}
	for reason, group := range held {
		if _, err := m.Queue.HoldAttempts(ctx, group, reason); err != nil {
			m.Log.WarnContext(ctx, "mail of somebody who has left not held, tried again when its lease ends", "nrcpt", len(group), "err", err)
			continue
		}
		for _, a := range group {
			msg := messages[a.QueueID]
			m.Events.Emit(ctx, event.Event{Time: m.Now(), Level: slog.LevelInfo, Room: "mta/qmgr", Msg: "delivery", Trace: a.QueueID.String(), Attrs: []slog.Attr{
				slog.String("queue_id", a.QueueID.String()), slog.String("from", msg.ReversePath.String()), slog.String("to", a.Recipient.Address.String()),
				slog.String("status", "held"), slog.String("reply", reason), slog.String("person", msg.Author),
			}})
		}
	}
	return rest
}
