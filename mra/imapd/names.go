package imapd

import (
	"context"
	"errors"
	"strings"

	"dirpost/directory"
	"dirpost/internal/store"

	"golang.org/x/text/unicode/norm"
)

// The namespaces (RFC 2342): personal mailboxes have no prefix, those of others
// stand under their owner's address. Users is kept for people who share
// theirs, so that nobody makes a mailbox of that name now.
const (
	separator  = "/"
	sharedRoot = "Shared"
	usersRoot  = "Users"
)

// place is where a mailbox name leads: an account and the name within it.
type place struct {
	account store.Account
	name    string
	entry   *directory.Entry // whose account it is: its quota counts
	shared  bool
}

// errRoot reports the name of a namespace, where no mailbox can be.
var errRoot = no("CANNOT", "No mailbox can be there")

// locate finds the place of a name that a client gave. Whether there is a
// mailbox is not looked at. A shared mailbox that the person may not open is
// one that does not exist.
func (c *conn) locate(ctx context.Context, name string) (place, error) {
	name = norm.NFC.String(name)
	root, rest, inside := strings.Cut(name, separator)
	switch root {
	case sharedRoot:
		if !inside || rest == "" {
			return place{}, errRoot
		}
		return c.locateShared(ctx, rest)
	case usersRoot:
		return place{}, errRoot
	}
	if strings.EqualFold(root, "INBOX") {
		name = "INBOX" + name[len(root):]
	}
	if err := c.own(ctx); err != nil {
		return place{}, err
	}
	_, e := c.entry()
	return place{account: c.account, name: name, entry: e}, nil
}

// own makes the person's account known; it comes into being at the first look.
func (c *conn) own(ctx context.Context) error {
	if c.account.ID != 0 {
		return nil
	}
	a, err := c.srv.store.Account(ctx, string(c.identity.Person), store.KindPerson)
	c.account = a
	return err
}

// locateShared finds "<address>" or "<address>/<name>": the mailbox of the
// address itself is its INBOX.
func (c *conn) locateShared(ctx context.Context, rest string) (place, error) {
	owner, name, inside := strings.Cut(rest, separator)
	for _, e := range c.sharedEntries() {
		if !strings.EqualFold(sharedName(e), owner) {
			continue
		}
		a, err := c.srv.store.Account(ctx, string(e.Key), store.KindShared)
		if err != nil {
			return place{}, err
		}
		if !inside {
			name = "INBOX"
		}
		return place{account: a, name: name, entry: e, shared: true}, nil
	}
	return place{}, errNoMailbox
}

// sharedEntries are the mailboxes of others that the person may open.
func (c *conn) sharedEntries() []*directory.Entry {
	snap, e := c.entry()
	return snap.MailboxesOf(e)
}

// checkAccess looks, whenever the directory has changed, whether the person may
// still have the selected mailbox of somebody else open.
func (c *conn) checkAccess() error {
	m := c.sel
	if m == nil || m.shared == "" || m.checked == c.srv.live.Snapshot() {
		return nil
	}
	snap, e := c.entry()
	for _, other := range snap.MailboxesOf(e) {
		if other.Key == m.shared {
			m.checked = snap
			return nil
		}
	}
	return errMailboxGone
}

// sharedName is the level under which the mailboxes of e stand.
func sharedName(e *directory.Entry) string {
	return strings.ReplaceAll(e.Primary.Unicode(), separator, "_")
}

// fullName is the reverse of locate: the name under which the client knows a
// mailbox of e, nil for the person's own.
func fullName(e *directory.Entry, name string) string {
	switch {
	case e == nil:
		return name
	case name == "INBOX":
		return sharedRoot + separator + sharedName(e)
	}
	return sharedRoot + separator + sharedName(e) + separator + name
}

// open finds the mailbox of a name. missing is the answer if there is none.
func (c *conn) open(ctx context.Context, name string, missing error) (place, store.Mailbox, error) {
	p, err := c.locate(ctx, name)
	if err != nil {
		return place{}, store.Mailbox{}, err
	}
	mb, err := c.srv.store.MailboxByName(ctx, p.account.ID, p.name)
	if errors.Is(err, store.ErrNotFound) || errors.Is(err, store.ErrName) {
		err = missing
	}
	return p, mb, err
}

// quota is the limit of the owner of p, 0 for none.
func (c *conn) quota(p place) int64 { return c.srv.live.Snapshot().Limits(p.entry).Quota }
