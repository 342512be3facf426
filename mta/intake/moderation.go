package intake

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base32"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"

	"dirpost/directory"
	"dirpost/internal/envelope"
	"dirpost/internal/event"
	"dirpost/internal/message"
	"dirpost/internal/postgres"
	"dirpost/mta/queue"
)

// A moderated list holds a message until a moderator has answered. The answer goes
// to an address with a token that only the moderators were sent; it counts from a
// moderator who has logged in, and from outside only from a moderator whose mailbox
// is outside. The token alone would let everybody decide to whom the question was
// passed on, and an address alone can be forged.

// moderationField marks questions to moderators. What has it is never held for
// moderators again: a moderator whose mail goes to the list would be asked about the
// question, for ever.
const moderationField = "X-Dirpost-Moderation"

var (
	statusAutomatic  = envelope.Status{Code: 550, Enhanced: "5.7.2", Text: "Automatic mail is not moderated", IMAP: "NOPERM", POP3: "SYS/PERM"}
	statusModerators = envelope.Status{Code: 550, Enhanced: "5.7.1", Text: "Only moderators of the list decide, logged in", IMAP: "NOPERM", POP3: "SYS/PERM"}
	statusAnswer     = envelope.Status{Code: 550, Enhanced: "5.6.0", Text: "Begin your answer with the word APPROVE or REJECT", IMAP: "CANNOT", POP3: "SYS/PERM"}
)

// statusDecided is the answer to who comes too late.
func statusDecided(what string) envelope.Status {
	return envelope.Status{Code: 550, Enhanced: "5.7.1", Text: "This message was " + what, IMAP: "CANNOT", POP3: "SYS/PERM"}
}

// unmoderated takes out what no moderator is asked about: reports, and whatever
// says that a machine has written it in answer to something (RFC 3834 §2).
func (t *Transaction) unmoderated(exp *directory.Expansion, h message.Header) {
	auto := strings.ToLower(strings.TrimSpace(h.Get("Auto-Submitted")))
	if !t.env.ReversePath.IsNull() && !h.Has(moderationField) && !strings.HasPrefix(auto, "auto-replied") {
		return
	}
	kept := exp.Held[:0:0]
	for _, r := range exp.Held {
		if r.Entry.Kind == directory.KindList {
			exp.Refused = append(exp.Refused, directory.RefusedRecipient{Recipient: r.Recipient, Status: statusAutomatic})
			continue
		}
		kept = append(kept, r)
	}
	exp.Held = kept
}

// question is what a held message makes us ask.
type question struct {
	queue.Question
	address    envelope.Address
	moderators []*directory.Entry
}

// ask writes the questions about what p holds for moderators.
func (t *Transaction) ask(ctx context.Context, p *plan, parsed *message.Parsed) error {
	for _, q := range p.questions {
		q.QueueID, q.Token, q.Expires = p.content.QueueID, newToken(), t.door.cfg.ModerationTime
		p.asked = append(p.asked, q.Question)
		o, err := t.door.originate(ctx, t.snap, q.recipients(), &request{door: t.door, t: t, p: p, q: q, parsed: parsed})
		if err != nil {
			return fmt.Errorf("ask the moderators of %s: %w", q.address, err)
		}
		if o == nil {
			t.door.Log.WarnContext(ctx, "no moderator can be asked; see 'dirpost queue'", "queue_id", t.queue.String(), "list", q.address.String())
			continue
		}
		p.out = append(p.out, o)
	}
	return nil
}

// newToken returns a secret that nobody can guess: 160 bits.
func newToken() string {
	var b [20]byte
	rand.Read(b[:])
	return strings.ToLower(base32.StdEncoding.EncodeToString(b[:]))
}

// recipients are the addresses of the moderators.
func (q *question) recipients() []envelope.Recipient {
	var to []envelope.Recipient
	for _, m := range q.moderators {
		if !m.Primary.IsZero() {
			to = append(to, envelope.Recipient{Address: m.Primary, Original: m.Primary.String(), Notify: envelope.NotifyNever})
		}
	}
	return to
}

// originate makes a message of ours that the queue delivers: what a message causes
// is a row of the same transaction and never a delivery within a delivery. nil
// means that none of its recipients can be reached.
func (d *Door) originate(ctx context.Context, snap *directory.Snapshot, to []envelope.Recipient, msg interface {
	writeAs(w io.Writer, id envelope.QueueID) error
}) (*outgoing, error) {
	t := &Transaction{door: d, ours: true, env: envelope.Envelope{Recipients: to}, snap: snap,
		client: envelope.Client{Helo: d.cfg.Hostname, Protocol: "local", Received: d.now()}}
	exp := t.expand(to, nil)
	p := &plan{ours: true, client: t.client, env: t.env}
	for _, r := range exp.Local {
		p.queue(nil, localRow(r))
	}
	for _, r := range exp.Remote {
		p.queue(nil, queueRow(r.Recipient, "", r.NextHop))
	}
	if len(p.out) == 0 {
		return nil, nil
	}
	t.Begin(ctx)
	defer t.release()
	if err := msg.writeAs(t, t.queue); err != nil {
		return nil, err
	}
	parsed, err := t.finish()
	if err != nil {
		return nil, err
	}
	p.has8Bit = parsed.Defects&message.Defect8Bit != 0
	p.env.SMTPUTF8 = needsUTF8(to, parsed.Header)
	if err := t.content(ctx, p, parsed); err != nil {
		return nil, err
	}
	o := p.out[0]
	o.ours = true
	return o, nil
}

// needsUTF8 reports whether a message of ours can only travel with SMTPUTF8.
func needsUTF8(to []envelope.Recipient, h message.Header) bool {
	return slices.ContainsFunc(to, func(r envelope.Recipient) bool { return !r.Address.IsASCII() }) ||
		bytes.ContainsFunc(h.Bytes(), func(r rune) bool { return r >= 0x80 })
}

// decision is the answer of a moderator while it comes in.
type decision struct {
	token string
	asked queue.Asked
	by    envelope.Address

	verdict queue.Decision // when the content has been read
}

// addDecision takes the address of a decision as a recipient.
func (t *Transaction) addDecision(ctx context.Context, token string, r envelope.Recipient) error {
	if t.decision != nil {
		return errTooManyRecipients
	}
	asked, err := t.door.Queue.Asked(ctx, token)
	switch {
	case err != nil:
		return fmt.Errorf("question behind %s: %w", r.Address.Domain, err)
	case asked.Decision != queue.Undecided:
		return envelope.Because(statusDecided(asked.Decision.String()), nil)
	}
	by, err := t.moderator(t.snap.ByKey(directory.Key(asked.List)))
	if err != nil {
		return err
	}
	t.decision = &decision{token: token, asked: asked, by: by}
	t.env.Recipients = append(t.env.Recipients, r)
	return nil
}

// moderator returns the address of the moderator of l who sends.
func (t *Transaction) moderator(l *directory.Entry) (envelope.Address, error) {
	from, ok := t.env.ReversePath.Address()
	if l == nil || !ok {
		return from, envelope.Because(statusModerators, nil)
	}
	if t.sender != nil {
		if !t.snap.Moderates(l, t.sender) {
			return from, envelope.Because(statusModerators, fmt.Errorf("%s is no moderator of %s", t.sender.Key, l.Key))
		}
		return t.sender.Primary, nil
	}
	if !t.snap.ModeratesFrom(l, from) {
		return from, envelope.Because(statusModerators, fmt.Errorf("%s is no moderator of %s outside", from, l.Key))
	}
	return from, nil
}

// settleDecision reads the answer and returns the SQL that carries it out.
func (t *Transaction) settleDecision(ctx context.Context, p *plan, parsed *message.Parsed) (Settle, error) {
	auto := strings.ToLower(strings.TrimSpace(parsed.Header.Get("Auto-Submitted")))
	if auto != "" && auto != "no" || parsed.Header.Has(moderationField) {
		return nil, envelope.Because(statusAutomatic, nil)
	}
	verdict, words, err := t.door.readAnswer(ctx, p, parsed)
	if err != nil {
		return nil, err
	}
	if verdict == queue.Undecided {
		return nil, envelope.Because(statusAnswer, nil)
	}
	if verdict == queue.Rejected && words == "" {
		words = "The moderator gave no reason."
	}
	a := queue.Answer{Token: t.decision.token, Decision: verdict, By: t.decision.by.String(), Words: words, QueueID: t.queue}
	t.decision.verdict = verdict
	return func(ctx context.Context, tx postgres.Tx) error { return t.door.Queue.DecideTx(ctx, tx, a) }, nil
}

// emitDecided says who has decided what.
func (d *Door) emitDecided(ctx context.Context, t *Transaction) {
	x := t.decision
	d.Events.Emit(ctx, event.Event{Level: slog.LevelInfo, Room: "mta/intake", Msg: "moderated", Trace: x.asked.QueueID.String(), Attrs: []slog.Attr{
		slog.String("queue_id", x.asked.QueueID.String()), slog.String("list", x.asked.Address), slog.String("status", x.verdict.String()),
		slog.String("user", x.by.String()), slog.String("answer_queue_id", t.queue.String()),
	}})
}
