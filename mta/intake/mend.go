package intake

import (
	"fmt"
	"net/mail"
	"slices"

	"dirpost/directory"
	"dirpost/internal/envelope"
	"dirpost/internal/message"
)

// Fields that a submitter has no business to write: blind copies are for the
// envelope only (RFC 5322 §3.6.3), the others are written by servers.
var stripped = []string{"Bcc", "Resent-Bcc", "Return-Path", "Received", "Delivered-To", "X-Original-To", "Authentication-Results", "X-Spam-Status", handedOver}

// mend does for a submitted message what RFC 6409 §8 lets a submission server
// do: it takes out blind copies and forged trace fields, adds the Date and
// Message-ID that are missing, and makes the author honest: every address in
// From must be one the person may use, and where it is used on somebody's
// behalf, Sender says by whom.
func (t *Transaction) mend(h *message.Header) error {
	for _, name := range stripped {
		h.Remove(name)
	}
	own := (&mail.Address{Name: t.sender.DisplayName, Address: t.sender.Primary.String()}).String()
	from := message.AddressList(*h, "From")
	if len(from) == 0 && t.local != nil { // "root (Cron Daemon)", as cron writes it
		h.Remove("From")
	}
	if !h.Has("From") {
		if err := h.Prepend("From", own); err != nil {
			return fmt.Errorf("add From: %w", err)
		}
	} else if len(from) == 0 {
		return envelope.Because(envelope.Status{Code: 550, Enhanced: "5.6.0", Text: "From holds no valid address"}, nil)
	}
	sender := len(from) > 1
	for _, a := range from {
		switch t.mayUse(a) {
		case directory.UsageNone:
			return envelope.Because(envelope.Status{Code: 550, Enhanced: "5.7.1", Text: "From address is not yours"}, fmt.Errorf("%s in From of %s", a, t.sender.Key))
		case directory.UsageOnBehalf:
			sender = true
		}
	}
	if slices.ContainsFunc(message.AddressList(*h, "Sender"), func(a envelope.Address) bool { return t.mayUse(a) == directory.UsageNone }) {
		h.Remove("Sender") // RFC 6409 §8.1: ours to write
	}
	if sender {
		h.Remove("Sender")
		if err := h.Prepend("Sender", own); err != nil {
			return fmt.Errorf("add Sender: %w", err)
		}
	}
	if !h.Has("Message-ID") {
		if err := h.Prepend("Message-ID", "<"+t.queue.String()+"@"+t.door.cfg.Hostname+">"); err != nil {
			return fmt.Errorf("add Message-ID: %w", err)
		}
	}
	if !h.Has("Date") {
		if err := h.Prepend("Date", t.door.now().Format(receivedLayout)); err != nil {
			return fmt.Errorf("add Date: %w", err)
		}
	}
	return nil
}

// dropLoops takes out recipients that the message has been delivered to before:
// another system sends it back to us (RFC 5321 §6.3).
func dropLoops(exp *directory.Expansion, h message.Header) {
	been := deliveredTo(h)
	if len(been) == 0 {
		return
	}
	seen := map[string]bool{}
	for _, a := range been {
		seen[a.Key()] = true
	}
	kept := exp.Local[:0:0]
	for _, r := range exp.Local {
		if seen[mailboxAddress(r).Key()] {
			exp.Refused = append(exp.Refused, directory.RefusedRecipient{Recipient: r.Recipient, Status: envelope.StatusLoop})
			continue
		}
		kept = append(kept, r)
	}
	exp.Local = kept
}

// deliveredTo are the addresses in Delivered-To: of mailboxes and lists that the
// message has reached.
func deliveredTo(h message.Header) (been []envelope.Address) {
	for _, v := range h.Values("Delivered-To") {
		if a, err := envelope.ParseAddress(v); err == nil {
			been = append(been, a)
		}
	}
	return been
}
