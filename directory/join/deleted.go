package join

import (
	"context"
	"errors"
	"fmt"

	goldap "github.com/go-ldap/ldap/v3"

	"dirpost/directory/descriptor"
	"dirpost/directory/ldap"
)

// ReadDeleted lets the account read the container of deleted entries of the domain, with
// the right of an administrator, so that the domain tells it of deletions: one more
// entry in the access list of the container, and nothing else there is changed. Where
// the administrator may not change the list, as in a domain in which nobody ever has,
// the group Administrators becomes the owner of the container first. false: the account
// had the right already. r needs User and Password.
func (m *Member) ReadDeleted(ctx context.Context, r Request) (changed bool, err error) {
	err = m.asAdmin(ctx, &r, func(s *ldap.Session, a Account) error {
		changed, err = r.editDeleted(ctx, s, a, "/G", descriptor.Grant)
		return err
	})
	return changed, err
}

// HideDeleted takes back what ReadDeleted gave. false: there was nothing.
func (m *Member) HideDeleted(ctx context.Context, r Request) (changed bool, err error) {
	err = m.asAdmin(ctx, &r, func(s *ldap.Session, a Account) error {
		changed, err = r.editDeleted(ctx, s, a, "/R", descriptor.Revoke)
		return err
	})
	return changed, err
}

// asAdmin does something about the account of the directory as an administrator.
func (m *Member) asAdmin(ctx context.Context, r *Request, do func(*ldap.Session, Account) error) error {
	a, err := m.Store.Load(ctx, m.Directory)
	if err != nil {
		return err
	}
	r.Domain = a.Domain
	if r.Command == "" {
		r.Command = "dirpost join read-deleted"
	}
	s, err := m.Controller.Open(ctx, r.admin())
	if err != nil {
		return r.explainLogin(err)
	}
	defer s.Close()
	return do(s, a.Account)
}

// editDeleted changes what the account may do with the container of deleted entries.
// verb is the letter of dsacls for it.
func (r Request) editDeleted(ctx context.Context, s *ldap.Session, a Account, verb string, edit func(b, sid []byte, mask descriptor.Mask) ([]byte, bool, error)) (bool, error) {
	sid, err := accountSID(ctx, s, a)
	if err != nil {
		return false, err
	}
	dn, changed, err := editOnce(ctx, s, sid, edit)
	if errors.Is(err, errRefused) {
		// Whoever owns it may say who may do what. In a domain as it was made that is
		// the system, and an administrator has the privilege to take it over.
		if err := s.SetOwner(ctx, dn, descriptor.OwnedByAdministrators()); err != nil {
			return false, r.explainDeleted(err, a, dn, verb)
		}
		dn, changed, err = editOnce(ctx, s, sid, edit)
	}
	switch {
	case errors.Is(err, descriptor.ErrDenied):
		return false, problem(fmt.Errorf("%s may not be let read %s: %w", a.Principal, dn, err), `dsacls "`+dn+`"`)
	case err != nil:
		return false, r.explainDeleted(err, a, dn, verb)
	case !changed:
		return false, nil
	}
	// A server may take a list and keep another one.
	if _, again, err := editOnce(ctx, s, sid, func(b, sid []byte, mask descriptor.Mask) ([]byte, bool, error) {
		_, again, err := edit(b, sid, mask)
		return nil, again, err
	}); err != nil || again {
		return false, r.explainDeleted(fmt.Errorf("%s has not kept the change: %w", s.Root.Host, errors.Join(err, errIf(again, "the list is as before"))), a, dn, verb)
	}
	return true, nil
}

// errRefused reports that the administrator may not read or change who may do what with
// the container.
var errRefused = errors.New("the access list may not be read or changed")

// editOnce reads the access list of the container, changes it, and writes it if edit
// gives one.
func editOnce(ctx context.Context, s *ldap.Session, sid []byte, edit func(b, sid []byte, mask descriptor.Mask) ([]byte, bool, error)) (dn string, changed bool, err error) {
	dn, list, err := s.DeletedContainer(ctx)
	if err != nil {
		return dn, false, fmt.Errorf("read who may read deleted entries: %w", err)
	}
	if list == nil {
		return dn, false, errRefused
	}
	next, changed, err := edit(list, sid, ldap.ReadDeleted)
	if err != nil || next == nil {
		return dn, changed, err
	}
	err = s.SetAccess(ctx, dn, next)
	if goldap.IsErrorWithCode(err, goldap.LDAPResultInsufficientAccessRights) {
		err = fmt.Errorf("%w: %w", errRefused, err)
	}
	return dn, changed && err == nil, err
}

// accountSID reads the SID of the account.
func accountSID(ctx context.Context, s *ldap.Session, a Account) ([]byte, error) {
	e, err := findAccount(ctx, s, a.Base, a.Principal)
	if err == nil && (e == nil || len(e.GetRawAttributeValue("objectSid")) == 0) {
		err = fmt.Errorf("%s may not be read", a.Principal)
	}
	if err != nil {
		return nil, err
	}
	return e.GetRawAttributeValue("objectSid"), nil
}

// explainDeleted says what to do where the container could not be changed.
func (r Request) explainDeleted(err error, a Account, dn, verb string) error {
	if !errors.Is(err, errRefused) && !goldap.IsErrorAnyOf(err, goldap.LDAPResultInsufficientAccessRights, goldap.LDAPResultConstraintViolation, goldap.LDAPResultUnwillingToPerform, goldap.LDAPResultNoSuchObject) {
		return fmt.Errorf("change who may read %s: %w", dn, err)
	}
	return problem(fmt.Errorf("%s may not change who may read %s: %w", r.User, dn, err),
		`dsacls "`+dn+`" /takeownership && `+dsacls(a, dn, verb), r.Command+" --user ADMIN")
}

// dsacls is the command of Windows that lets the account read a container, or takes that
// back.
func dsacls(a Account, dn, verb string) string {
	who := a.NetBIOS + `\` + a.Principal
	if verb == "/G" {
		who += ":LCRP"
	}
	return fmt.Sprintf(`dsacls "%s" %s "%s"`, dn, verb, who)
}

// hideDeleted takes back what ReadDeleted gave, before the account goes. Where the
// administrator may not, the account goes all the same: nobody gets its SID again.
func (m *Member) hideDeleted(ctx context.Context, s *ldap.Session, a Account) {
	sid, err := accountSID(ctx, s, a)
	if err != nil {
		return // it is gone already
	}
	dn, _, err := editOnce(ctx, s, sid, descriptor.Revoke)
	if err != nil && !errors.Is(err, errRefused) || goldap.IsErrorWithCode(err, goldap.LDAPResultInsufficientAccessRights) {
		m.Log.Warn("an entry of the account stays in the access list of deleted entries", "directory", m.Directory, "container", dn, "remove", dsacls(a, dn, "/R"), "err", err)
	}
}
