package directory

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"dirpost/internal/envelope"
)

// Difference is one thing that is otherwise for somebody in another snapshot: what
// an entry gains, loses or has changed.
type Difference struct {
	Key  Key    `json:"key"`
	Name string `json:"name"` // address, else DN
	What string `json:"what"` // entry, home, primary, address, login name, login, quota, …
	Was  string `json:"was,omitempty"`
	Is   string `json:"is,omitempty"`
}

// Differences lists what is otherwise in next, by name and then in the order in
// which people want to know. What only the feeder keeps, and when an entry was
// changed, is no difference.
func (s *Snapshot) Differences(next *Snapshot) []Difference {
	var all []Difference
	for e := range s.All() {
		if e.Gone.IsZero() {
			all = append(all, differences(s, next, e, next.sameEntry(e))...)
		}
	}
	for e := range next.All() {
		if s.sameEntry(e) == nil {
			all = append(all, differences(s, next, nil, e)...)
		}
	}
	slices.SortStableFunc(all, func(a, b Difference) int { return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Key, b.Key)) })
	return all
}

// sameEntry returns the entry with the key of e.
func (s *Snapshot) sameEntry(e *Entry) *Entry {
	if o := s.ByKey(e.Key); o != nil && o.Gone.IsZero() {
		return o
	}
	return nil
}

func differences(s, next *Snapshot, a, b *Entry) []Difference {
	e := b
	if a != nil {
		e = a
	}
	var out []Difference
	note := func(what, was, is string) {
		if was != is {
			out = append(out, Difference{Key: e.Key, Name: addressOf(e), What: what, Was: was, Is: is})
		}
	}
	kind := func(e *Entry) string {
		if e == nil {
			return ""
		}
		return e.Kind.String()
	}
	note("entry", kind(a), kind(b))
	if a == nil {
		a = &Entry{Key: e.Key}
	}
	if b == nil {
		b = &Entry{Key: e.Key}
	}
	note("home", s.homeWord(a), next.homeWord(b))
	note("primary", a.Primary.String(), b.Primary.String())
	lists := []struct {
		what string
		of   func(*Entry) []string
	}{
		{"address", func(e *Entry) []string { return addressTexts(e.Aliases) }},
		{"login name", func(e *Entry) []string { return e.Logins }},
		{"forward", func(e *Entry) []string { return addressTexts(e.Forward) }},
		{"protocol", func(e *Entry) []string { return e.Services }},
		{"member", func(e *Entry) []string {
			return slices.Concat(e.Members, e.MemberLogins, e.Queries, addressTexts(e.ExternalMembers))
		}},
		{"owner", func(e *Entry) []string { return e.Owners }},
		{"moderator", func(e *Entry) []string { return e.Moderators }},
		{"may send", func(e *Entry) []string { return e.Senders }},
		{"only these may send", func(e *Entry) []string { return e.Allowed }},
		{"may not send", func(e *Entry) []string { return e.Barred }},
		{"may open", func(e *Entry) []string { return e.Access }},
		{"may send as", func(e *Entry) []string { return e.SendAs }},
		{"may send on behalf", func(e *Entry) []string { return e.OnBehalf }},
		{"domain", func(e *Entry) []string { return e.Domains }},
	}
	for _, l := range lists {
		was, is := l.of(a), l.of(b)
		for _, v := range was {
			if !slices.Contains(is, v) {
				note(l.what, v, "")
			}
		}
		for _, v := range is {
			if !slices.Contains(was, v) {
				note(l.what, "", v)
			}
		}
	}
	la, lb := s.Limits(a), next.Limits(b)
	for _, f := range []struct{ what, was, is string }{
		{"login", stateOf(a.Login), stateOf(b.Login)},
		{"account ends", dateOf(a.Expires), dateOf(b.Expires)},
		{"delivery", stateOf(la.Delivery), stateOf(lb.Delivery)},
		{"quota", size(la.Quota), size(lb.Quota)},
		{"sending stops at", size(la.QuotaSend), size(lb.QuotaSend)},
		{"warning at", size(la.QuotaWarn), size(lb.QuotaWarn)},
		{"largest in", size(la.MaxReceive), size(lb.MaxReceive)},
		{"largest out", size(la.MaxSend), size(lb.MaxSend)},
		{"takes no mail from outside", yes(a.NoStrangers), yes(b.NoStrangers)},
		{"keep copy", yes(a.KeepCopy), yes(b.KeepCopy)},
		{"next hop", a.NextHop, b.NextHop},
		{"hidden", yes(la.Hidden), yes(lb.Hidden)},
		{"list policy", policyWord(a.Policy), policyWord(b.Policy)},
	} {
		note(f.what, f.was, f.is)
	}
	return out
}

// homeWord says where mail for the first address of ours leads.
func (s *Snapshot) homeWord(e *Entry) string {
	a := s.ownAddress(e)
	if a.IsZero() {
		return ""
	}
	return s.resolution(a, "", e, nil).Home.String()
}

func addressTexts(list []envelope.Address) []string {
	var out []string
	for _, a := range list {
		out = append(out, a.String())
	}
	return out
}

func stateOf(s State) string {
	if s == 0 {
		s = StateActive
	}
	return s.String()
}

func dateOf(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.Format(time.DateOnly)
}

func size(n int64) string {
	if n == 0 {
		return ""
	}
	return fmt.Sprint(n)
}

func yes(b bool) string {
	if b {
		return "yes"
	}
	return ""
}

func policyWord(p ListPolicy) string {
	words := [...]string{"", "open", "internal", "members", "owners", "moderated"}
	if int(p) < len(words) {
		return words[p]
	}
	return "unknown"
}

// Finding is something in the directory that somebody should look at.
type Finding struct {
	What string   `json:"what"` // duplicate address, empty list, …
	Of   string   `json:"of"`   // address, else DN
	Text string   `json:"text"`
	DNs  []string `json:"dns"`
	LDIF string   `json:"ldif,omitempty"` // the change that mends it, where there is one to give
}

// Lint looks for what cannot be meant so: login names that several entries claim
// (for addresses see Contested), values that could not be read, a primary address that
// proxyAddresses lacks, lists that reach nobody, members that there are not,
// moderated lists without moderators, policies of groups that there are not.
func (s *Snapshot) Lint() []Finding {
	var all []Finding
	add := func(what, of, text string, entries ...*Entry) {
		f := Finding{What: what, Of: of, Text: text}
		for _, e := range entries {
			f.DNs = append(f.DNs, e.DN)
		}
		slices.Sort(f.DNs)
		all = append(all, f)
	}
	seen := make(map[string]bool)
	for e := range s.All() {
		if !e.Gone.IsZero() {
			continue
		}
		for _, n := range e.Logins {
			if owners := s.all(byLogin, n); len(owners) > 1 && !seen[n] {
				seen[n] = true
				add("duplicate login name", n, "nobody can log in with it", owners...)
			}
		}
		if len(e.Unreadable) > 0 {
			add("unreadable value", addressOf(e), strings.Join(e.Unreadable, ", ")+": kept as it was before", e)
		}
		if lacksPrimary(e) {
			add("primary not in proxyAddresses", addressOf(e), "mail and proxyAddresses disagree; Exchange and others go by SMTP: in proxyAddresses", e)
		}
		if e.Kind == KindList && !e.Primary.IsZero() {
			s.lintList(e, add)
		}
	}
	for _, p := range s.PolicyProblems() {
		add("policy", "", p)
	}
	for _, p := range s.RoleProblems() {
		add("role", "", p)
	}
	slices.SortFunc(all, func(a, b Finding) int {
		return cmp.Or(cmp.Compare(a.What, b.What), cmp.Compare(a.Of, b.Of), cmp.Compare(a.Text, b.Text))
	})
	return all
}

// lacksPrimary reports whether the primary address comes from mail where
// proxyAddresses has others.
func lacksPrimary(e *Entry) bool {
	return slices.Contains(e.Origins, "primary=mail") && !slices.Contains(e.Origins, "primary=proxyAddresses") &&
		slices.Contains(e.Origins, "alias=proxyAddresses")
}

func (s *Snapshot) lintList(l *Entry, add func(what, of, text string, entries ...*Entry)) {
	var lost []string
	for _, name := range l.Members {
		if s.named(l.Directory, name) == nil {
			lost = append(lost, name)
		}
	}
	x := s.Expand([]envelope.Recipient{{Address: l.Primary}}, Terms{Released: true})
	switch {
	case len(x.Local)+len(x.Remote)+len(x.Held) == 0:
		add("empty list", addressOf(l), "mail for it is refused: no member can be reached", l)
	case len(lost) > 0:
		add("unknown members", addressOf(l), fmt.Sprintf("%d members are nothing that mail knows, the first is %s", len(lost), lost[0]), l)
	}
	if l.Policy == ListModerated && len(s.people(l.Directory, l.moderators())) == 0 {
		add("nobody moderates", addressOf(l), "the list is moderated and names no moderator or owner who is there: mail for it is refused", l)
	}
}
