package join

import (
	"context"
	"fmt"
	"time"

	goldap "github.com/go-ldap/ldap/v3"

	"dirpost/directory/ldap"
	"dirpost/internal/gssapi"
)

// Prospect is what a join would find.
type Prospect struct {
	Account                // as it would be; DN is "" unless there is such an account already
	Made, OtherHost string // of the account that is there: the day, the host that it is of
	// Authorities are those that the domain says sign its certificates.
	Authorities []Authority
	// Reader is the administrator, who may read the domain before the system has an
	// account that may. It holds a key of the password: keep it no longer than needed.
	Reader ldap.Machine
}

// Exists reports whether the account is there already.
func (p *Prospect) Exists() bool { return p.DN != "" }

// Look does what Join does before it changes anything: it logs in as the
// administrator, reads the domain and looks whether the names are free. Errors are
// those of Join, a [Problem] where something can be done about it. That the account
// exists is none.
func Look(ctx context.Context, c Controller, r Request) (*Prospect, error) {
	r, err := r.withDefaults()
	if err != nil {
		return nil, err
	}
	s, err := c.Open(ctx, r.admin())
	if err != nil {
		return nil, r.explainLogin(err)
	}
	defer s.Close()
	a, err := readDomain(ctx, s, r.Domain)
	if err != nil {
		return nil, err
	}
	a.Principal, a.Host, a.Managed = r.Name+"$", r.Host, true
	a.Services = serviceNames(r.Name, r.Host, r.SharedNames)
	p := &Prospect{Account: a}
	there, err := findAccount(ctx, s, a.Base, a.Principal)
	if err != nil {
		return nil, err
	}
	if err := r.checkServices(ctx, s, &a, there); err != nil {
		return nil, err
	}
	if there != nil {
		p.DN, p.Made, p.OtherHost = there.DN, date(there.GetAttributeValue("whenCreated")), there.GetAttributeValue("dNSHostName")
	} else if r.OU != "" {
		e, err := s.Read(ctx, r.OU, "distinguishedName")
		if err != nil && !goldap.IsErrorWithCode(err, goldap.LDAPResultNoSuchObject) {
			return nil, fmt.Errorf("look at %s: %w", r.OU, err)
		}
		if e == nil {
			return nil, problem(fmt.Errorf("%s does not exist", r.OU), r.Command+` --ou "OU=ANOTHER,`+a.Base+`"`)
		}
	}
	if p.Authorities, err = readAuthorities(ctx, s, time.Now()); err != nil {
		return nil, err
	}
	admin := r.admin()
	admin.KDCs = []string{s.KDC}
	salt, err := gssapi.Salt(ctx, admin)
	if err != nil {
		return nil, err
	}
	keytab, err := gssapi.MakeKeytab(admin.Realm, []string{admin.Principal}, r.Password, salt, 1, time.Now())
	if err != nil {
		return nil, err
	}
	p.Reader = ldap.Machine{Principal: admin.Principal, Realm: admin.Realm, Keytab: keytab}
	return p, nil
}
