package mda

import (
	"context"
	"errors"
	"fmt"

	"dirpost/directory"
	"dirpost/internal/envelope"
	"dirpost/internal/message"
	"dirpost/internal/store"
)

// accounts is what the Agent needs of the message store.
type accounts interface {
	Account(ctx context.Context, key string, kind store.AccountKind) (store.Account, error)
	MailboxByName(ctx context.Context, account store.AccountID, name string) (store.Mailbox, error)
	Mailboxes(ctx context.Context, account store.AccountID) ([]store.Mailbox, error)
}

// Agent is the delivery agent. It is safe for concurrent use.
type Agent struct {
	accounts accounts
	cfg      Config
}

// Config says how the agent delivers.
type Config struct {
	// Subaddress is what "+detail" in an address does: "mailbox" delivers
	// into the mailbox of that name if the person has one, "inbox" ignores it.
	Subaddress string `toml:"subaddress" comment:"alice+lists@: \"mailbox\" delivers into the mailbox lists if there is one, \"inbox\" ignores the detail"`
}

// DefaultConfig returns the configuration that suits most sites.
func DefaultConfig() Config { return Config{Subaddress: "mailbox"} }

// Validate reports the first value that makes no sense.
func (c Config) Validate() error {
	if c.Subaddress != "mailbox" && c.Subaddress != "inbox" {
		return fmt.Errorf(`subaddress: %q is neither "mailbox" nor "inbox"`, c.Subaddress)
	}
	return nil
}

// NewAgent returns an Agent that finds accounts in s.
func NewAgent(cfg Config, s *store.Store) *Agent { return &Agent{accounts: s, cfg: cfg} }

// Plan decides what becomes of msg for rcpt. The account comes into being with
// the first delivery to it.
//
// Errors are temporary: a plan is never a reason to refuse for good.
func (a *Agent) Plan(ctx context.Context, rcpt directory.LocalRecipient, msg *message.Parsed) (store.Delivery, error) {
	account, err := a.accounts.Account(ctx, string(rcpt.Entry.Key), accountKind(rcpt.Entry.Kind))
	if err != nil {
		return store.Delivery{}, fmt.Errorf("account of %s: %w", rcpt.Entry.Key, err)
	}
	var target string
	if msg.Header.Has(message.JunkField) {
		target, err = a.junk(ctx, account)
	} else {
		target, err = a.mailbox(ctx, account, rcpt)
	}
	if err != nil {
		return store.Delivery{}, err
	}
	return store.Delivery{
		Account:   account,
		Targets:   []store.Target{{Mailbox: target}},
		Quota:     rcpt.Quota,
		Recipient: rcpt.Recipient.Address,
	}, nil
}

// mailbox returns where a message without further rules goes: INBOX, or the
// mailbox that the subaddress names (RFC 5233). A name that does not exist is
// INBOX: senders create no mailboxes. So is one where a message of a stranger
// would look like the person's own, or not be looked at.
func (a *Agent) mailbox(ctx context.Context, account store.Account, rcpt directory.LocalRecipient) (string, error) {
	if rcpt.Detail == "" || a.cfg.Subaddress != "mailbox" {
		return "INBOX", nil
	}
	m, err := a.accounts.MailboxByName(ctx, account.ID, rcpt.Detail)
	switch {
	case err == nil && m.SpecialUse != "" && m.SpecialUse != `\Archive`:
		return "INBOX", nil
	case err == nil:
		return m.Name, nil
	case errors.Is(err, envelope.ErrNotFound), errors.Is(err, store.ErrNotFound):
		return "INBOX", nil
	}
	return "", fmt.Errorf("mailbox %q of the subaddress: %w", rcpt.Detail, err)
}

// junk returns the mailbox for what policy judged junk, whatever the person calls
// it (RFC 6154 §2), or INBOX when there is none.
func (a *Agent) junk(ctx context.Context, account store.Account) (string, error) {
	all, err := a.accounts.Mailboxes(ctx, account.ID)
	if err != nil {
		return "", fmt.Errorf("mailbox for junk: %w", err)
	}
	for _, m := range all {
		if m.SpecialUse == `\Junk` {
			return m.Name, nil
		}
	}
	return "INBOX", nil
}

func accountKind(k directory.Kind) store.AccountKind {
	if k == directory.KindPerson {
		return store.KindPerson
	}
	return store.KindShared
}
