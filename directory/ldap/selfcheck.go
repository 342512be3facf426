package ldap

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/go-ldap/ldap/v3"

	"dirpost/directory"
)

// SelfCheck is what a person could write of what mail reads of the own entry.
type SelfCheck struct {
	// How says how that was found out: "allowedAttributesEffective", "effective
	// rights", "no-op"; "" when the server has no way to tell.
	How      string
	Writable []SelfWrite
	// Unknown are mapped attributes of which the server did not tell.
	Unknown []string
}

// SelfWrite is one attribute that the person could write.
type SelfWrite struct {
	Attribute string
	Fields    []string // logical fields that are read from it
	Level     Level    // the highest of them
}

const (
	oidEffectiveRights = "1.3.6.1.4.1.42.2.27.9.5.2" // draft-ietf-ldapext-acl-model
	oidNoOp            = "1.3.6.1.4.1.4203.666.5.2"  // draft-zeilenga-ldap-noop
	resultNoOperation  = 0x410e                      // of a request that would have gone well
)

// CheckSelf logs in as the person of e and asks the server which of the mapped
// attributes that person could write. Nothing is changed: Active Directory tells in
// allowedAttributesEffective, 389 Directory Server by the control of effective
// rights, and OpenLDAP judges a change that the No-Op control keeps from being
// made. A control is always critical, so a server that does not know it refuses;
// what would be written is besides what stands there already.
//
// Errors are those of Verify, and of a server that does not answer.
func (c *Client) CheckSelf(ctx context.Context, e *directory.Entry, password string) (SelfCheck, error) {
	if _, err := c.Choice(ctx); err != nil { // the mapping must be settled
		return SelfCheck{}, err
	}
	if err := c.Verify(ctx, e, password); err != nil {
		return SelfCheck{}, err
	}
	nc, err := c.bind.get(ctx)
	if err != nil {
		return SelfCheck{}, err
	}
	res, err := c.bindAs(ctx, nc, e.DN, password)
	if err = judge(res, err); err == nil {
		var check SelfCheck
		check, err = c.askSelf(ctx, nc, e)
		c.bind.put(nc, err)
		return check, err
	}
	c.bind.put(nc, err)
	return SelfCheck{}, err
}

// askSelf asks on a connection that is bound as the person of e.
func (c *Client) askSelf(ctx context.Context, nc *conn, e *directory.Entry) (SelfCheck, error) {
	mapped := c.mapping.Load().fieldsOf(e.Kind == directory.KindList)
	if c.isAD() {
		return c.askAllowed(ctx, nc, e.DN, mapped)
	}
	check, err := c.askEffective(ctx, nc, e.DN, mapped)
	if err != nil || check.How != "" {
		return check, err
	}
	return c.askNoOp(ctx, nc, e.DN, mapped)
}

// fieldsOf returns the logical fields by the attribute that they are read from.
func (m *mapper) fieldsOf(list bool) map[string][]string {
	mapped := map[string][]string{}
	add := func(table map[string][]source) {
		for field, sources := range table {
			if slices.Contains(ofLists, field) && !list {
				continue
			}
			for _, s := range sources {
				if !slices.Contains(mapped[s.name], field) {
					mapped[s.name] = append(mapped[s.name], field)
				}
			}
		}
	}
	add(m.fields)
	for _, v := range m.variants {
		add(v.fields)
	}
	delete(mapped, "objectClass")
	return mapped
}

// add notes that an attribute can be written.
func (s *SelfCheck) add(attribute string, fields []string) {
	w := SelfWrite{Attribute: attribute, Fields: slices.Sorted(slices.Values(fields))}
	for _, f := range fields {
		if level, _ := levelOf(f); level > w.Level {
			w.Level = level
		}
	}
	s.Writable = append(s.Writable, w)
}

// askAllowed asks Active Directory (MS-ADTS 3.1.1.4.5.18).
func (c *Client) askAllowed(ctx context.Context, nc *conn, dn string, mapped map[string][]string) (SelfCheck, error) {
	const how = "allowedAttributesEffective"
	entry, err := readOne(ctx, nc, c.cfg.Timeout, dn, "(objectClass=*)", how)
	if err != nil || entry == nil {
		return SelfCheck{Unknown: slices.Sorted(maps.Keys(mapped))}, err
	}
	check := SelfCheck{How: how}
	allowed := map[string]bool{}
	for _, a := range entry.GetEqualFoldAttributeValues(how) {
		allowed[strings.ToLower(a)] = true
	}
	for _, a := range slices.Sorted(maps.Keys(mapped)) {
		if allowed[strings.ToLower(a)] {
			check.add(a, mapped[a])
		}
	}
	return check, nil
}

// askEffective asks 389 Directory Server; a server that does not know the control
// gives a check without How.
func (c *Client) askEffective(ctx context.Context, nc *conn, dn string, mapped map[string][]string) (SelfCheck, error) {
	names := slices.Sorted(maps.Keys(mapped))
	req := ldap.NewSearchRequest(dn, ldap.ScopeBaseObject, ldap.NeverDerefAliases, 1, 0, false, "(objectClass=*)", names,
		[]ldap.Control{ldap.NewControlString(oidEffectiveRights, true, "dn:"+dn)})
	ctx, cancel := context.WithTimeout(ctx, c.cfg.Timeout)
	defer cancel()
	var res *ldap.SearchResult
	err := nc.do(ctx, func() (err error) { res, err = nc.Search(req); return err })
	if err != nil && broken(err) {
		return SelfCheck{}, fmt.Errorf("ask for effective rights: %w", err)
	}
	if err != nil || len(res.Entries) == 0 {
		return SelfCheck{}, nil
	}
	check := SelfCheck{How: "effective rights"}
	rights := attributeRights(res.Entries[0].GetEqualFoldAttributeValue("attributeLevelRights"))
	for _, a := range names {
		switch r, ok := rights[strings.ToLower(a)]; {
		case !ok:
			check.Unknown = append(check.Unknown, a)
		case strings.ContainsAny(r, "wWoO"):
			check.add(a, mapped[a])
		}
	}
	return check, nil
}

// attributeRights reads "mail:rscwo, uid:rsc, mailQuota:none".
func attributeRights(text string) map[string]string {
	rights := map[string]string{}
	for part := range strings.SplitSeq(text, ",") {
		if name, r, ok := strings.Cut(strings.TrimSpace(part), ":"); ok {
			if r == "none" { // a word, and no letters of rights
				r = ""
			}
			rights[strings.ToLower(name)] = r
		}
	}
	return rights
}

// askNoOp has OpenLDAP judge, for each attribute, a change to the values that are
// there.
func (c *Client) askNoOp(ctx context.Context, nc *conn, dn string, mapped map[string][]string) (SelfCheck, error) {
	names := slices.Sorted(maps.Keys(mapped))
	entry, err := readOne(ctx, nc, c.cfg.Timeout, dn, "(objectClass=*)", names...)
	if err != nil || entry == nil {
		return SelfCheck{Unknown: names}, err
	}
	check := SelfCheck{How: "no-op"}
	for _, a := range names {
		req := ldap.NewModifyRequest(dn, []ldap.Control{ldap.NewControlString(oidNoOp, true, "")})
		req.Replace(a, entry.GetEqualFoldAttributeValues(a))
		limit, cancel := context.WithTimeout(ctx, c.cfg.Timeout)
		err := nc.do(limit, func() error { return nc.Modify(req) })
		cancel()
		var le *ldap.Error
		switch {
		case err != nil && !errors.As(err, &le), err != nil && broken(err) && le.ResultCode != resultNoOperation:
			return SelfCheck{}, fmt.Errorf("ask whether %s could be written: %w", a, err)
		case err == nil, le.ResultCode == resultNoOperation:
			check.add(a, mapped[a])
		case le.ResultCode == ldap.LDAPResultInsufficientAccessRights:
		case le.ResultCode == ldap.LDAPResultUnavailableCriticalExtension, le.ResultCode == ldap.LDAPResultUnwillingToPerform && len(check.Writable) == 0 && a == names[0]:
			return SelfCheck{Unknown: names}, nil
		case le.ResultCode == ldap.LDAPResultUndefinedAttributeType, le.ResultCode == ldap.LDAPResultConstraintViolation:
			// The server has no such attribute, or writes it itself.
		default:
			check.Unknown = append(check.Unknown, a)
		}
	}
	return check, nil
}
