package directory

import (
	"fmt"
	"slices"
	"strings"

	"dirpost/internal/envelope"
)

// roleNames are local-parts that speak for a whole domain: those of RFC 2142 for
// networks and services, what authorities of certificates write to before they
// give one for the domain, and what people take for the voice of the machine. An
// entry that claims such an address does not get it: whoever may write an address
// into an entry, their own perhaps, would speak for the domain. RFC 2142's names of
// departments (info, sales, support) are ordinary addresses here.
var roleNames = []string{
	"abuse", "admin", "administrator", "ftp", "hostmaster", "mailer-daemon", "news", "no-reply", "noc", "noreply",
	"postmaster", "root", "security", "ssladmin", "ssladministrator", "sslwebmaster", "sysadmin", "usenet", "uucp", "webmaster", "www",
}

// RoleNames are the local-parts that only entries named in Rules.Roles may have.
func RoleNames() []string { return slices.Clone(roleNames) }

// roleOf returns the role that an address of a domain of ours names, "" for an
// ordinary one.
func (s *Snapshot) roleOf(a envelope.Address) string {
	local := strings.ToLower(a.Local)
	if _, ok := slices.BinarySearch(roleNames, local); !ok || !s.IsLocalDomain(a.Domain) {
		return ""
	}
	return local
}

// roleOwner returns the entry that the rules name for a role, nil for none, or the
// keys of those that it may be. ruled is whether they say anything: the postmaster of
// the rules may well be an entry's own postmaster@.
func (s *Snapshot) roleOwner(a envelope.Address, role string) (e *Entry, claims []Key, ruled bool) {
	name, ok := s.rules.Roles[role]
	if ok {
		name = nameOf(name)
	} else if a.Key() == s.rules.Postmaster.Key() {
		name = MailName(a)
	} else {
		return nil, nil, false
	}
	if address, ok := strings.CutPrefix(name, mailScheme); ok {
		e, claims = s.holder(address)
		return e, claims, true
	}
	return s.policyGroup(name), nil, true
}

// validateRoles reports what is wrong with Rules.Roles.
func (r Rules) validateRoles() []error {
	var errs []error
	for role, name := range r.Roles {
		if !slices.Contains(roleNames, role) {
			errs = append(errs, fmt.Errorf("roles: %q is none of %s", role, strings.Join(roleNames, ", ")))
		}
		if nameOf(name) == "" {
			errs = append(errs, fmt.Errorf("roles.%s: %q is neither a DN, a SID nor an address", role, name))
		}
	}
	return errs
}

// RoleProblems says what is wrong with role addresses in this directory: entries
// that claim one and do not get it, and roles whose entry is not there. role@ is
// then nobody's, but for postmaster and abuse, which the postmaster has.
func (s *Snapshot) RoleProblems() []string {
	var out []string
	for domain := range s.domains {
		for _, role := range roleNames {
			a := envelope.Address{Local: role, Domain: domain}
			owner, _, ruled := s.roleOwner(a, role)
			if ruled && owner == nil && a.Key() != s.rules.Postmaster.Key() {
				out = append(out, fmt.Sprintf("roles.%s: there is no %s, or more than one", role, s.rules.Roles[role]))
			}
			for _, e := range s.all(byAddress, a.Key()) {
				if owner == nil || e.Key != owner.Key {
					out = append(out, fmt.Sprintf(`%s claims %s and does not get it: write [domains] roles = { "%s" = "%s" } if it shall`, e.DN, a, role, e.DN))
				}
			}
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}
