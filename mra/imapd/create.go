package imapd

import (
	"context"
	"strings"

	"dirpost/internal/store"
	"dirpost/mra/imapd/wire"

	"github.com/emersion/go-imap/v2"
)

// create is CREATE, with a special use if asked for (RFC 6154 §3). A separator
// at the end says that there will be inferiors, which needs nothing here
// (RFC 9051 §6.3.4).
func create(ctx context.Context, c *conn, dec *wire.Decoder) error {
	dec.Space()
	name := dec.Mailbox()
	var use imap.MailboxAttr
	if dec.Skip(' ') {
		dec.List(func() {
			if string(dec.Word()) != "USE" {
				dec.Fail("unknown parameter")
			}
			dec.Space()
			dec.List(func() { use = takeUse(dec, use) })
		})
	}
	if err := dec.End(); err != nil {
		return err
	}
	if use == useUnknown {
		return no("USEATTR", "This use is not supported")
	}
	p, err := c.locate(ctx, strings.TrimSuffix(name, separator))
	if err != nil {
		return err
	}
	if p.name == "INBOX" {
		return store.ErrExists
	}
	_, err = c.srv.store.CreateMailbox(ctx, p.account.ID, p.name, use)
	return err
}

// useUnknown stands for a special use that we cannot give, or for more than one.
const useUnknown imap.MailboxAttr = "?"

// takeUse takes one special-use attribute.
func takeUse(dec *wire.Decoder, before imap.MailboxAttr) imap.MailboxAttr {
	dec.Byte('\\')
	got := `\` + dec.Atom()
	for _, use := range [...]imap.MailboxAttr{imap.MailboxAttrArchive, imap.MailboxAttrDrafts, imap.MailboxAttrJunk, imap.MailboxAttrSent, imap.MailboxAttrTrash} {
		if strings.EqualFold(got, string(use)) && before == "" {
			return use
		}
	}
	return useUnknown
}
