package ldap

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"time"

	"github.com/go-ldap/ldap/v3"

	"dirpost/directory"
)

// PasswordEnds returns whose passwords expire after from and not after to. Passwords
// that never expire are not among them, nor those that must be changed in any case,
// nor, with Active Directory, those of people who are disabled.
//
// Active Directory works it out itself, with fine-grained policies
// (msDS-UserPasswordExpiryTimeComputed). Elsewhere it is pwdChangedTime and the
// pwdMaxAge of the entry's policy, or of Config.PasswordPolicy
// (draft-behera-ldap-password-policy); where that is "" and the directory has one
// policy, it is that one.
func (c *Client) PasswordEnds(ctx context.Context, from, to time.Time) ([]directory.PasswordEnd, error) {
	if _, err := c.Choice(ctx); err != nil { // the mapping must be settled
		return nil, err
	}
	r := &passwordReader{base: base{client: c, log: slog.New(slog.DiscardHandler)}, from: from, to: to, ages: make(map[string]time.Duration)}
	if c.cfg.Log != nil {
		r.log = c.cfg.Log
	}
	nc, err := c.read.get(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { c.read.put(nc, err) }()
	if c.isAD() {
		err = r.computed(ctx, nc)
	} else {
		err = r.byPolicy(ctx, nc)
	}
	if err != nil {
		return nil, fmt.Errorf("read from directory %q when passwords expire: %w", c.cfg.Name, err)
	}
	return r.ends, nil
}

// passwordReader reads when passwords expire.
type passwordReader struct {
	base
	from, to time.Time
	ages     map[string]time.Duration // of passwords, by DN of the policy; 0: they do not expire
	ends     []directory.PasswordEnd
}

// add notes the end of a password if it is within what was asked for.
func (r *passwordReader) add(le *ldap.Entry, at time.Time) {
	if !at.After(r.from) || at.After(r.to) {
		return
	}
	id, err := r.id(le)
	if err != nil {
		return // the feeder has said that it cannot be used
	}
	r.ends = append(r.ends, directory.PasswordEnd{Key: r.key(id), At: at})
}

// expiryComputed is a constructed attribute: it is read with an entry, and no filter
// can ask for it ([MS-ADTS] §3.1.1.4.5.36).
const expiryComputed = "msDS-UserPasswordExpiryTimeComputed"

// computed reads what Active Directory works out. Disabled accounts and passwords
// that never expire are left out by the filter (userAccountControl, 0x2 and 0x10000).
func (r *passwordReader) computed(ctx context.Context, c *conn) error {
	req := r.request()
	req.Filter = "(&" + r.client.cfg.Filter + "(objectCategory=person)(objectClass=user)" +
		"(!(userAccountControl:1.2.840.113556.1.4.803:=2))(!(userAccountControl:1.2.840.113556.1.4.803:=65536))(!(pwdLastSet=0)))"
	req.Attributes = []string{"objectGUID", expiryComputed}
	return r.pages(ctx, c, req, func(entries []*ldap.Entry, _ bool) error {
		for _, le := range entries {
			text, err := filetime(le.GetEqualFoldAttributeValue(expiryComputed))
			if err != nil || text == "" {
				continue // not said, or never
			}
			if at, err := time.Parse(timeForm, text); err == nil {
				r.add(le, at)
			}
		}
		return nil
	})
}

// byPolicy reads when passwords were changed, and how old they may become.
func (r *passwordReader) byPolicy(ctx context.Context, c *conn) error {
	usual, err := r.usualPolicy(ctx, c)
	if err != nil {
		return err
	}
	type changed struct {
		entry  *ldap.Entry
		at     time.Time
		policy string
	}
	var all []changed
	req := r.request()
	req.Filter = "(&" + r.mapper().filter + "(pwdChangedTime=*)(!(pwdReset=TRUE)))"
	req.Attributes = []string{"pwdChangedTime", "pwdPolicySubentry"}
	for _, s := range r.mapper().fields["id"] {
		req.Attributes = append(req.Attributes, s.attribute)
	}
	err = r.pages(ctx, c, req, func(entries []*ldap.Entry, _ bool) error {
		for _, le := range entries {
			text, err := generalizedTime(le.GetEqualFoldAttributeValue("pwdChangedTime"))
			if err != nil {
				continue
			}
			at, err := time.Parse(timeForm, text)
			if err != nil || at.After(r.to) {
				continue
			}
			policy := le.GetEqualFoldAttributeValue("pwdPolicySubentry")
			if policy == "" {
				policy = usual
			}
			all = append(all, changed{le, at, policy})
		}
		return nil
	})
	if err != nil {
		return err
	}
	for _, p := range all {
		age, err := r.maxAge(ctx, c, p.policy)
		if err != nil {
			return err
		}
		if age > 0 {
			r.add(p.entry, p.at.Add(age))
		}
	}
	return nil
}

// usualPolicy is the DN of the policy of entries that name none, "" if that cannot
// be told: which one the server takes stands in its configuration.
func (r *passwordReader) usualPolicy(ctx context.Context, c *conn) (string, error) {
	if r.client.cfg.PasswordPolicy != "" {
		return r.client.cfg.PasswordPolicy, nil
	}
	res, err := c.search(ctx, r.client.cfg.Timeout, ldap.NewSearchRequest(r.client.cfg.Base, ldap.ScopeWholeSubtree, ldap.NeverDerefAliases, 2, 0, false,
		"(objectClass=pwdPolicy)", []string{"1.1"}, nil))
	if err != nil && !ldap.IsErrorWithCode(err, ldap.LDAPResultSizeLimitExceeded) {
		return "", err
	}
	if res == nil || len(res.Entries) != 1 {
		return "", nil
	}
	return res.Entries[0].DN, nil
}

// maxAge is how old a password of a policy may become, 0 for any age. A policy that
// is not there, or not for us to read, is none.
func (r *passwordReader) maxAge(ctx context.Context, c *conn, dn string) (time.Duration, error) {
	if dn == "" {
		return 0, nil
	}
	name := directory.NormalizeDN(dn)
	if age, ok := r.ages[name]; ok {
		return age, nil
	}
	e, err := r.readObject(ctx, c, dn, "pwdMaxAge")
	var age time.Duration
	var le *ldap.Error
	switch {
	case errors.As(err, &le) && slices.Contains([]uint16{ldap.LDAPResultNoSuchObject, ldap.LDAPResultInsufficientAccessRights, ldap.LDAPResultInvalidDNSyntax}, le.ResultCode):
		r.log.WarnContext(ctx, "password policy cannot be read: nobody of it is warned before a password expires", "directory", r.Name(), "dn", dn, "err", err)
	case err != nil:
		return 0, err
	default:
		// A century is never, and fits.
		if n, perr := strconv.ParseInt(e.GetEqualFoldAttributeValue("pwdMaxAge"), 10, 64); perr == nil && n > 0 && n < 100*365*86400 {
			age = time.Duration(n) * time.Second
		}
	}
	r.ages[name] = age
	return age, nil
}
