package join

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	goldap "github.com/go-ldap/ldap/v3"

	"dirpost/directory/ldap"
	"dirpost/internal/gssapi"
)

// Problem is something that somebody can mend, with the commands for it.
type Problem struct {
	Err error
	Try []string // in order: what most probably helps comes first
}

// Error implements error: the cause, and the commands at its end.
func (p *Problem) Error() string {
	return p.Err.Error() + "\n  try: " + strings.Join(p.Try, "\n   or: ")
}

// Unwrap returns the cause.
func (p *Problem) Unwrap() error { return p.Err }

func problem(err error, try ...string) error { return &Problem{Err: err, Try: try} }

// explainLogin says what to do about a connection that the administrator did not
// get.
func (r Request) explainLogin(err error) error {
	refused, ok := errors.AsType[*gssapi.RefusedError](err)
	if !ok {
		return problem(err, "dig +short SRV _ldap._tcp.dc._msdcs."+r.Domain, r.Command+" --server HOST")
	}
	admin := r.admin()
	who := admin.Principal + "@" + admin.Realm
	switch refused.Code {
	case gssapi.CodePassword:
		return problem(fmt.Errorf("the password of %s is wrong: %w", who, err), r.Command)
	case gssapi.CodeUnknownClient:
		return problem(fmt.Errorf("there is no account %s: %w", who, err), r.Command+" --user NAME")
	case gssapi.CodeRealm:
		return problem(fmt.Errorf("%s is in another realm: %w", who, err), r.Command+" --user NAME")
	case gssapi.CodeSkew:
		return problem(err, "timedatectl set-ntp true", "chronyd -q 'server "+r.Domain+" iburst'")
	case gssapi.CodeKeyExpired:
		return problem(fmt.Errorf("the password of %s must be changed first: %w", who, err), "kpasswd "+who, r.Command+" --user NAME")
	case gssapi.CodeRevoked:
		return problem(fmt.Errorf("%s may not log in now: %w", who, err), "samba-tool user unlock "+admin.Principal, "Unlock-ADAccount "+admin.Principal, r.Command+" --user NAME")
	case gssapi.CodeNoAES:
		return problem(fmt.Errorf("%s has no AES key, since its password is older than these: %w", who, err), "Set-ADAccountPassword "+admin.Principal, r.Command+" --user NAME")
	case gssapi.CodeUnknownService:
		return problem(fmt.Errorf("the server is no domain controller of %s: %w", r.Domain, err), r.Command+" --server HOST")
	}
	return err
}

// checkServices looks for accounts that have the names of our services: the domain
// would refuse ours, and not say who has them.
func (r Request) checkServices(ctx context.Context, s *ldap.Session, a *Account, there *goldap.Entry) error {
	filter := "(|"
	for _, n := range a.Services {
		filter += "(servicePrincipalName=" + goldap.EscapeFilter(n) + ")"
	}
	entries, err := s.Search(ctx, a.Base, goldap.ScopeWholeSubtree, filter+")", "sAMAccountName", "servicePrincipalName")
	if err != nil {
		return fmt.Errorf("search for the names of our services: %w", err)
	}
	for _, e := range entries {
		if there != nil && strings.EqualFold(e.DN, there.DN) {
			continue
		}
		holder := e.GetAttributeValue("sAMAccountName")
		var names, try []string
		for _, n := range e.GetAttributeValues("servicePrincipalName") {
			if slices.ContainsFunc(a.Services, func(o string) bool { return strings.EqualFold(o, n) }) {
				names = append(names, n)
				try = append(try, "setspn -D "+n+" "+holder)
			}
		}
		slices.Sort(names)
		slices.Sort(try)
		return problem(fmt.Errorf("%s belongs to %s already (%s): a service has one account", strings.Join(names, ", "), holder, e.DN),
			strings.Join(try, " && "), r.Command+" --name "+strings.TrimSuffix(holder, "$")+" --reuse")
	}
	return nil
}

// Codes of Windows within the text of an LDAP error.
const (
	windowsQuota     = "0000216D" // ERROR_DS_MACHINE_ACCOUNT_QUOTA_EXCEEDED
	windowsDuplicate = "000021C7" // ERROR_DS_SPN_VALUE_NOT_UNIQUE_IN_FOREST
)

// explainAdd says what to do about an account that could not be made.
func (r Request) explainAdd(ctx context.Context, s *ldap.Session, err error, a Account, container string) error {
	text := strings.ToUpper(err.Error())
	precreate := fmt.Sprintf(`New-ADComputer -Name %s -Path "%s"`, r.Name, container)
	samba := fmt.Sprintf(`samba-tool computer create %s --computerou="%s"`, r.Name, strings.TrimSuffix(strings.TrimSuffix(container, a.Base), ","))
	reuse := r.Command + " --reuse --user ADMIN"
	switch {
	case strings.Contains(text, windowsQuota):
		return problem(fmt.Errorf("%s has made as many computers as an ordinary user may (ms-DS-MachineAccountQuota is %s): %w", r.User, r.quota(ctx, s, a.Base), err),
			precreate, samba, r.Command+" --user ADMIN")
	case strings.Contains(text, windowsDuplicate), strings.Contains(text, "SPN["):
		// In another domain of the forest, or this very moment.
		return problem(fmt.Errorf("one of our services belongs to another account: %w", err), "setspn -F -Q imap/"+a.Host)
	case goldap.IsErrorWithCode(err, goldap.LDAPResultInsufficientAccessRights):
		who := a.NetBIOS + `\` + r.admin().Principal
		return problem(fmt.Errorf("%s may not make computers in %s (ms-DS-MachineAccountQuota is %s): %w", r.User, container, r.quota(ctx, s, a.Base), err),
			fmt.Sprintf(`dsacls "%s" /G "%s:CC;computer"`, container, who), r.Command+` --ou "OU=WHERE IT MAY,`+a.Base+`"`, precreate, samba, reuse)
	case goldap.IsErrorWithCode(err, goldap.LDAPResultNoSuchObject):
		return problem(fmt.Errorf("%s does not exist: %w", container, err), r.Command+` --ou "OU=ANOTHER,`+a.Base+`"`)
	case goldap.IsErrorWithCode(err, goldap.LDAPResultEntryAlreadyExists):
		return problem(fmt.Errorf("there is something else with the name %s: %w", a.DN, err), r.Command+" --name ANOTHER", r.Command+` --ou "OU=ANOTHER,`+a.Base+`"`)
	}
	return fmt.Errorf("make %s: %w", a.DN, err)
}

// quota is how many computers an ordinary user may make.
func (r Request) quota(ctx context.Context, s *ldap.Session, base string) string {
	e, err := s.Read(ctx, base, "ms-DS-MachineAccountQuota")
	if err != nil || e == nil || e.GetAttributeValue("ms-DS-MachineAccountQuota") == "" {
		return "not known"
	}
	return e.GetAttributeValue("ms-DS-MachineAccountQuota")
}

// explainReuse says what to do about an account that could not be taken over.
func (r Request) explainReuse(err error, a Account) error {
	if goldap.IsErrorWithCode(err, goldap.LDAPResultInsufficientAccessRights) {
		who := a.NetBIOS + `\` + r.admin().Principal
		return problem(fmt.Errorf("%s may not take over %s: %w", r.User, a.DN, err),
			fmt.Sprintf(`dsacls "%s" /G "%s:CA;Reset Password" "%s:WP;Account Restrictions" "%s:WP;dNSHostName" "%s:WP;servicePrincipalName" "%s:WP;msDS-SupportedEncryptionTypes"`, a.DN, who, who, who, who, who),
			r.Command+" --reuse --user ADMIN")
	}
	return fmt.Errorf("take over %s: %w", a.DN, err)
}
