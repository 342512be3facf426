package intake

import (
	"fmt"

	"dirpost/directory"
	"dirpost/internal/envelope"
)

// LocalUser is a user of this machine, as the kernel says who it is: cron, a
// script, the administrator.
type LocalUser struct {
	Login   string
	Name    string
	Address envelope.Address // the login name at our domain
	// Trusted users send as whomever they like: root, who could anyway.
	Trusted bool
}

// StartLocal begins a transaction for a user of this machine. Where the
// directory has a person of that login name, it is that person's; else the
// user's address is the only one that may be used.
func (d *Door) StartLocal(c *envelope.Client, u LocalUser, m MailParams) (*Transaction, error) {
	t, err := d.Start(c, nil, m)
	if err != nil {
		return nil, err
	}
	t.sender, t.local = t.snap.ByLogin(u.Login), &u
	if t.sender == nil {
		t.sender = &directory.Entry{Kind: directory.KindPerson, DisplayName: u.Name, Primary: u.Address}
	}
	if a, ok := m.ReversePath.Address(); ok && t.mayUse(a) == directory.UsageNone {
		return nil, envelope.Because(envelope.StatusNotYours, fmt.Errorf("the user %s may not send as %s", u.Login, a))
	}
	return t, nil
}

// mayUse says as what the sender may use an address.
func (t *Transaction) mayUse(a envelope.Address) directory.Usage {
	if t.local != nil && (t.local.Trusted || a.Key() == t.local.Address.Key()) {
		return directory.UsageOwn
	}
	return t.snap.MayUse(t.sender, a)
}
