package directory

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"dirpost/internal/envelope"
)

// Policy gives the members of a group, nested ones and those by primary group
// too, what their entries do not say: limits, protocols, rights. It needs no
// attribute that a directory may lack, and nobody can write it themself.
type Policy struct {
	// Group names the group: its DN, its SID or its address, or Everybody.
	Group string
	// Sizes in octets; 0 says nothing, Unlimited that there is no limit.
	Quota, QuotaSend, QuotaWarn int64
	MaxReceive, MaxSend         int64
	Services                    []string // protocols allowed, beside those of other policies; empty says nothing
	Deny                        []string // protocols not allowed, whatever else says
	NoLogin                     bool     // nobody of them may log in
	Hidden                      bool     // not in the address book
	Delivery                    State    // StateHeld or StateDisabled; 0 says nothing
	// What the members may open, send as, and send on behalf of: DNs, SIDs or
	// addresses.
	Access, SendAs, OnBehalf []string
}

// Everybody is the group of a policy for all. What it gives counts where no other
// policy says something; what it takes away counts for all.
const Everybody = "*"

// Unlimited is the size of a policy without limit.
const Unlimited int64 = -1

// ServiceNames are the protocols that Entry.Services and policies may name.
func ServiceNames() []string { return []string{"imap", "pop3", "sieve", "submission"} }

// Validate reports what is wrong with p.
func (p *Policy) Validate() error {
	var errs []error
	wrong := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if err := ValidateGroup(p.Group); err != nil {
		wrong("group: %w", err)
	}
	for _, n := range []int64{p.Quota, p.QuotaSend, p.QuotaWarn, p.MaxReceive, p.MaxSend} {
		if n < Unlimited {
			wrong("sizes must not be negative")
		}
	}
	for _, list := range [][]string{p.Services, p.Deny} {
		for _, s := range list {
			if !slices.Contains(ServiceNames(), s) {
				wrong("services, deny: %q is none of %s", s, strings.Join(ServiceNames(), ", "))
			}
		}
	}
	if p.Delivery != 0 && p.Delivery != StateHeld && p.Delivery != StateDisabled {
		wrong(`delivery: want "hold" or "refuse"`)
	}
	for _, list := range [][]string{p.Access, p.SendAs, p.OnBehalf} {
		for _, name := range list {
			if nameOf(name) == "" {
				wrong("open, send_as, send_on_behalf: %q is neither a DN, a SID nor an address", name)
			}
		}
	}
	return errors.Join(errs...)
}

// nameOf returns a name of the configuration as the snapshot has it: a DN by
// NormalizeDN, an address by MailName, a SID as it is; "" for what is none.
func nameOf(text string) string {
	text = strings.TrimSpace(text)
	switch {
	case strings.HasPrefix(text, "S-1-"):
		return text
	case strings.Contains(text, "="):
		return NormalizeDN(text)
	}
	if a, err := envelope.ParseAddress(text); err == nil {
		return MailName(a)
	}
	return ""
}

// policies are those of the rules, in the form in which they are asked.
type policies struct {
	list     []policy
	everyone []*Policy
}

type policy struct {
	*Policy
	group                    string
	access, sendAs, onBehalf []string
}

// compilePolicies returns nil for none, so that asking costs nothing then.
func compilePolicies(list []Policy) *policies {
	if len(list) == 0 {
		return nil
	}
	c := &policies{}
	names := func(list []string) []string {
		var out []string
		for _, n := range list {
			out = append(out, nameOf(n))
		}
		return out
	}
	for i := range list {
		p := &list[i]
		if p.Group == Everybody {
			c.everyone = append(c.everyone, p)
			continue
		}
		c.list = append(c.list, policy{p, nameOf(p.Group), names(p.Access), names(p.SendAs), names(p.OnBehalf)})
	}
	return c
}

// Limits are what holds for a person when the entry and the policies of its groups
// are taken together. The order is: what is held or refused for anybody's reason is
// held or refused, holding before refusing; a protocol that one policy denies is
// denied; a size that the entry has counts; else the largest of the policies
// counts; else that of the policies for everybody.
type Limits struct {
	Quota, QuotaSend, QuotaWarn int64    // octets, 0 none
	MaxReceive, MaxSend         int64    // octets, 0 none
	Services                    []string // protocols allowed, nil: all
	Hidden                      bool
	NoLogin                     bool  // by a policy; see Entry.LoginState for the entry's own
	Delivery                    State // of the entry or of a policy
	// Origins say what each came from, "field=GROUP" for what came from a policy.
	Origins []string
}

// MayUseService reports whether a protocol may be used: imap, pop3, submission,
// sieve.
func (l *Limits) MayUseService(name string) bool {
	return l.Services == nil || slices.Contains(l.Services, name)
}

// HasPolicies reports whether what holds for a person depends on groups.
func (s *Snapshot) HasPolicies() bool { return s.policies != nil }

// Limits returns what holds for e.
func (s *Snapshot) Limits(e *Entry) Limits {
	if e == nil {
		return Limits{}
	}
	l := Limits{
		Quota: e.Quota, QuotaSend: e.QuotaSend, QuotaWarn: e.QuotaWarn,
		MaxReceive: e.MaxReceive, MaxSend: e.MaxSend,
		Hidden: e.Hidden, Delivery: e.Delivery,
	}
	if len(e.Services) > 0 {
		l.Services = e.Services
	}
	if s.policies == nil {
		return l
	}
	of := s.memberships(e)
	var mine []*Policy
	for i := range s.policies.list {
		if p := &s.policies.list[i]; of.holds(p.group) {
			mine = append(mine, p.Policy)
		}
	}
	l.sizes(mine)
	l.sizes(s.policies.everyone)
	l.protocols(mine, s.policies.everyone)
	for _, p := range slices.Concat(mine, s.policies.everyone) {
		l.Hidden = l.note("hidden", p, p.Hidden) || l.Hidden
		l.NoLogin = l.note("login", p, p.NoLogin) || l.NoLogin
		if p.Delivery == StateHeld || p.Delivery == StateDisabled && l.Delivery != StateHeld {
			l.Delivery = p.Delivery
			l.note("delivery", p, true)
		}
	}
	return l
}

// note records that field came from p, if it did.
func (l *Limits) note(field string, p *Policy, did bool) bool {
	if did {
		l.Origins = append(l.Origins, field+"="+p.Group)
	}
	return did
}

// sizes fills in the sizes that nothing has said yet with the largest of some
// policies.
func (l *Limits) sizes(list []*Policy) {
	for _, f := range [...]struct {
		name string
		size *int64
		of   func(*Policy) int64
	}{
		{"quota", &l.Quota, func(p *Policy) int64 { return p.Quota }},
		{"quota_send", &l.QuotaSend, func(p *Policy) int64 { return p.QuotaSend }},
		{"quota_warn", &l.QuotaWarn, func(p *Policy) int64 { return p.QuotaWarn }},
		{"max_receive", &l.MaxReceive, func(p *Policy) int64 { return p.MaxReceive }},
		{"max_send", &l.MaxSend, func(p *Policy) int64 { return p.MaxSend }},
	} {
		if *f.size != 0 || slices.ContainsFunc(l.Origins, func(o string) bool { return strings.HasPrefix(o, f.name+"=") }) {
			continue
		}
		var from *Policy
		for _, p := range list {
			switch n := f.of(p); {
			case n == Unlimited:
				*f.size, from = Unlimited, p
			case n > *f.size && *f.size != Unlimited:
				*f.size, from = n, p
			}
		}
		if from != nil {
			l.note(f.name, from, true)
		}
		*f.size = max(*f.size, 0)
	}
}

// protocols settles which protocols are allowed.
func (l *Limits) protocols(mine, everyone []*Policy) {
	for _, list := range [][]*Policy{mine, everyone} {
		if l.Services != nil {
			break
		}
		for _, p := range list {
			if l.note("service", p, len(p.Services) > 0) {
				l.Services = append(l.Services, p.Services...)
			}
		}
	}
	var denied []string
	for _, p := range slices.Concat(mine, everyone) {
		if l.note("service", p, len(p.Deny) > 0) {
			denied = append(denied, p.Deny...)
		}
	}
	if len(denied) == 0 {
		return
	}
	allowed := l.Services
	if allowed == nil {
		allowed = ServiceNames()
	}
	l.Services = []string{}
	for _, a := range allowed {
		if !slices.Contains(denied, a) {
			l.Services = append(l.Services, a)
		}
	}
}

// holds reports whether the group of a policy is the entry or one of its groups.
func (m *memberships) holds(group string) bool {
	if m == nil {
		return false
	}
	if _, ok := m.names[group]; ok {
		e := m.s.policyGroup(group)
		return e != nil && m.has(e)
	}
	if strings.HasPrefix(group, mailScheme) {
		return m.has(m.s.policyGroup(group))
	}
	return false
}

// policyGroup returns the one entry that a policy names, nil if there is none or
// more than one.
func (s *Snapshot) policyGroup(name string) *Entry {
	switch {
	case strings.HasPrefix(name, mailScheme):
		return s.first(byAddress, strings.TrimPrefix(name, mailScheme))
	case strings.HasPrefix(name, "S-1-"):
		return s.BySID(name)
	}
	return s.only(byDN, name)
}

// PolicyProblems says what is wrong with the policies in this directory: groups
// and mailboxes that there are not. A policy whose group is not found holds for
// nobody, so somebody should look.
func (s *Snapshot) PolicyProblems() []string {
	if s.policies == nil {
		return nil
	}
	var out []string
	for _, p := range s.policies.list {
		if s.policyGroup(p.group) == nil {
			out = append(out, fmt.Sprintf("policy: there is no group %s, or more than one", p.Group))
		}
		for _, list := range [][]string{p.access, p.sendAs, p.onBehalf} {
			for _, name := range list {
				if s.policyGroup(name) == nil {
					out = append(out, fmt.Sprintf("policy of %s: there is no %s, or more than one", p.Group, strings.TrimPrefix(name, mailScheme)))
				}
			}
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// policyRights returns what the policies of m's groups allow with the entry of.
func (m *memberships) policyRights(of *Entry) (r Rights) {
	if m == nil || m.s.policies == nil {
		return 0
	}
	for i := range m.s.policies.list {
		p := &m.s.policies.list[i]
		for _, x := range [...]struct {
			right Rights
			names []string
		}{{RightOpen, p.access}, {RightSendAs, p.sendAs}, {RightOnBehalf, p.onBehalf}} {
			if r&x.right == 0 && m.s.names(x.names, of) && m.holds(p.group) {
				r |= x.right
			}
		}
	}
	return r
}

// names reports whether one of names is the entry of.
func (s *Snapshot) names(names []string, of *Entry) bool {
	for _, n := range names {
		if e := s.policyGroup(n); e != nil && e.Key == of.Key {
			return true
		}
	}
	return false
}

// opened returns the entries that the policies of m's groups let it open.
func (m *memberships) opened() []*Entry {
	if m == nil || m.s.policies == nil {
		return nil
	}
	var out []*Entry
	for i := range m.s.policies.list {
		p := &m.s.policies.list[i]
		if len(p.access) == 0 || !m.holds(p.group) {
			continue
		}
		for _, name := range p.access {
			if e := m.s.policyGroup(name); e != nil {
				out = append(out, e)
			}
		}
	}
	return out
}

// deliveryOf is how mail for e is taken: as the entry says, or a policy.
func (s *Snapshot) deliveryOf(e *Entry) State {
	if s.policies == nil || !e.HasMailbox() {
		return e.Delivery
	}
	return s.Limits(e).Delivery
}
