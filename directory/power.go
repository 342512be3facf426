package directory

import (
	"cmp"
	"slices"
)

// PowerGroup is a group that gives its members something: whoever may change its
// members gives that too.
type PowerGroup struct {
	Group *Entry
	Gives []string // words, sorted: policy, mailbox here, open, send as, on behalf
}

// PowerGroups returns the groups that carry rights, by the order of their DNs: those
// of policies, of the mailbox rules, and those that mailboxes and lists name.
func (s *Snapshot) PowerGroups() []PowerGroup {
	found := map[Key]*PowerGroup{}
	add := func(e *Entry, gives string) {
		if e == nil || e.Kind != KindList {
			return
		}
		g := found[e.Key]
		if g == nil {
			g = &PowerGroup{Group: e}
			found[e.Key] = g
		}
		if !slices.Contains(g.Gives, gives) {
			g.Gives = append(g.Gives, gives)
		}
	}
	if s.policies != nil {
		for _, p := range s.policies.list {
			add(s.policyGroup(p.group), "policy")
		}
	}
	for _, r := range s.rules.Mailboxes {
		for _, dn := range r.groups {
			add(s.named(r.Directory, dn), "mailbox here")
		}
	}
	for e := range s.All() {
		for _, x := range [...]struct {
			gives string
			names []string
		}{{"open", e.Access}, {"send as", e.SendAs}, {"on behalf", e.OnBehalf}} {
			for _, name := range x.names {
				add(s.named(e.Directory, name), x.gives)
			}
		}
	}
	all := make([]PowerGroup, 0, len(found))
	for _, g := range found {
		slices.Sort(g.Gives)
		all = append(all, *g)
	}
	slices.SortFunc(all, func(a, b PowerGroup) int {
		return cmp.Or(cmp.Compare(a.Group.Directory, b.Group.Directory), cmp.Compare(a.Group.normalDN(), b.Group.normalDN()))
	})
	return all
}
