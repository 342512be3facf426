package ldap

import (
	"context"
	"fmt"

	"github.com/go-ldap/ldap/v3"

	"dirpost/directory/descriptor"
)

// deletedObjects is the well-known GUID of the container of deleted objects
// ([MS-ADTS] §6.1.1.4).
const deletedObjects = "18E2EA80684F11D2B9AA00C04F79F805"

// deletedContainer names the container of deleted entries of a naming context.
func deletedContainer(context string) string {
	return "<WKGUID=" + deletedObjects + "," + context + ">"
}

// ReadDeleted are the rights by which an account is told of deletions: to list what is
// in the container of deleted entries, to read it, and, so that it can be said how the
// account stands, who may do so.
const ReadDeleted = descriptor.ListChildren | descriptor.ReadProperty | descriptor.ReadControl

// seesDeleted searches for a deleted entry. A domain in which nothing was ever deleted
// looks to everybody as if none could be seen.
func seesDeleted(ctx context.Context, context string, search func(context.Context, *ldap.SearchRequest) (*ldap.SearchResult, error)) (bool, error) {
	res, err := search(ctx, ldap.NewSearchRequest(deletedContainer(context), ldap.ScopeSingleLevel, ldap.NeverDerefAliases, 1, 0, false,
		"(isDeleted=TRUE)", []string{"1.1"}, []ldap.Control{ldap.NewControlMicrosoftShowDeleted()}))
	if broken(err) {
		return false, fmt.Errorf("look for deleted entries: %w", err)
	}
	return ldap.IsErrorWithCode(err, ldap.LDAPResultSizeLimitExceeded) || err == nil && len(res.Entries) > 0, nil
}

// SeesDeleted reports whether the account of the session, whose SID is as given, is
// told of deletions: it sees deleted entries, or is named for that in the access list
// of their container.
func (s *Session) SeesDeleted(ctx context.Context, sid string) (bool, error) {
	sees, err := seesDeleted(ctx, s.Root.Base, s.search)
	if sees || err != nil {
		return sees, err
	}
	_, list, err := s.DeletedContainer(ctx)
	if broken(err) {
		return false, fmt.Errorf("look at the container of deleted entries: %w", err)
	}
	if err != nil || list == nil {
		return false, nil // it may not be read, and so neither what is in it
	}
	d, err := descriptor.Parse(list)
	return err == nil && d.Allows(sid, ReadDeleted&^descriptor.ReadControl), nil
}

// DeletedContainer returns the DN of the container of deleted entries of the domain, and
// its security descriptor with who may do what; nil where the account may not read that.
func (s *Session) DeletedContainer(ctx context.Context) (dn string, access []byte, err error) {
	res, err := s.search(ctx, ldap.NewSearchRequest(deletedContainer(s.Root.Base), ldap.ScopeBaseObject, ldap.NeverDerefAliases, 0, 0, false,
		"(objectClass=*)", []string{attributeDescriptor}, []ldap.Control{ldap.NewControlMicrosoftShowDeleted(), sdFlags(sdAccess)}))
	if ldap.IsErrorAnyOf(err, ldap.LDAPResultNoSuchObject, ldap.LDAPResultInsufficientAccessRights) || err == nil && len(res.Entries) == 0 {
		return "CN=Deleted Objects," + s.Root.Base, nil, nil
	}
	if err != nil {
		return "", nil, err
	}
	if access = res.Entries[0].GetEqualFoldRawAttributeValue(attributeDescriptor); len(access) == 0 {
		access = nil
	}
	return res.Entries[0].DN, access, nil
}

// SetOwner makes who owns an entry, which may be a deleted one, that of a descriptor.
func (s *Session) SetOwner(ctx context.Context, dn string, d []byte) error {
	return s.setDescriptor(ctx, dn, sdOwner, d)
}

// SetAccess makes who may do what with an entry, which may be a deleted one, that of a
// descriptor.
func (s *Session) SetAccess(ctx context.Context, dn string, d []byte) error {
	return s.setDescriptor(ctx, dn, sdAccess, d)
}

func (s *Session) setDescriptor(ctx context.Context, dn string, part byte, d []byte) error {
	req := ldap.NewModifyRequest(dn, []ldap.Control{ldap.NewControlMicrosoftShowDeleted(), sdFlags(part)})
	req.Replace(attributeDescriptor, []string{string(d)})
	return s.Modify(ctx, req)
}

// search runs one search.
func (s *Session) search(ctx context.Context, req *ldap.SearchRequest) (res *ldap.SearchResult, err error) {
	err = s.do(ctx, func() (err error) { res, err = s.c.Search(req); return err })
	return res, err
}
