package directory

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"dirpost/internal/envelope"
)

// Explanation is why an address or a login name leads where it does: which entry,
// by which of its attributes, and what becomes of mail and logins. It is for
// people; its JSON form keeps its names.
type Explanation struct {
	Asked   string              `json:"asked"`
	Entries []EntryExplained    `json:"entries,omitempty"` // whose it is; several claim it, or none
	Address *AddressExplained   `json:"address,omitempty"`
	Login   *LoginExplained     `json:"login,omitempty"`
	Member  []GroupExplained    `json:"member,omitempty"` // groups of the one entry
	Rights  []RightExplained    `json:"rights,omitempty"` // what the one entry may do with others
	Held    *HeldRightExplained `json:"held,omitempty"`   // who may do what with the one entry
}

// EntryExplained is an entry, with where its values came from.
type EntryExplained struct {
	Key       Key       `json:"key"`
	DN        string    `json:"dn"`
	Kind      string    `json:"kind"`
	Name      string    `json:"name,omitempty"`
	Addresses []string  `json:"addresses,omitempty"` // the primary one first
	Former    []string  `json:"former,omitempty"`
	Logins    []string  `json:"logins,omitempty"`
	Modified  time.Time `json:"modified,omitzero"`
	// Origins are "field=attribute" for each field that has a value, and
	// "field=group" for what a policy says.
	Origins []string `json:"origins,omitempty"`
	// Unreadable are the fields that could not be read and were kept.
	Unreadable []string `json:"unreadable,omitempty"`
	// Sizes in octets, 0 none, and states, by the entry and the policies of its
	// groups together.
	Quota      int64  `json:"quota,omitempty"`
	QuotaSend  int64  `json:"quota_send,omitempty"`
	QuotaWarn  int64  `json:"quota_warn,omitempty"`
	MaxReceive int64  `json:"max_receive,omitempty"`
	MaxSend    int64  `json:"max_send,omitempty"`
	Delivery   string `json:"delivery"`
	Hidden     bool   `json:"hidden,omitempty"`
}

// AddressExplained is what becomes of mail for an address.
type AddressExplained struct {
	Address string `json:"address"`
	How     string `json:"how"`  // by which rule the entry was found
	Home    string `json:"home"` // here, elsewhere, list, contact, nobody, not ours
	NextHop string `json:"next_hop,omitempty"`
	Target  string `json:"target,omitempty"`
	Refused string `json:"refused,omitempty"` // status, where mail is not taken
	// Post says whether the sender that was named, or somebody outside, may send
	// to a list: allowed, held, refused.
	Post   string          `json:"post,omitempty"`
	Copies []CopyExplained `json:"copies,omitempty"`
}

// CopyExplained is one copy of a message for the address.
type CopyExplained struct {
	To     string   `json:"to"`
	Where  string   `json:"where"` // mailbox, by MX, by HOST, held, refused
	Path   []string `json:"path,omitempty"`
	Status string   `json:"status,omitempty"`
}

// LoginExplained is what becomes of a login.
type LoginExplained struct {
	Name     string   `json:"name"` // as it is compared
	Works    bool     `json:"works"`
	Why      string   `json:"why"`
	Services []string `json:"services,omitempty"` // empty: all
}

// GroupExplained is a group that an entry is in.
type GroupExplained struct {
	DN      string `json:"dn"`
	Address string `json:"address,omitempty"`
	Direct  bool   `json:"direct"`
}

// RightExplained is what a person may do with another entry.
type RightExplained struct {
	Of     string   `json:"of"`
	Rights []string `json:"rights"`
}

// HeldRightExplained is who may do what with an entry, by its attributes and by
// policies: DNs, addresses, or the names of groups in the configuration.
type HeldRightExplained struct {
	Open       []string `json:"open,omitempty"`
	SendAs     []string `json:"send_as,omitempty"`
	OnBehalf   []string `json:"on_behalf,omitempty"`
	Owners     []string `json:"owners,omitempty"`
	Moderators []string `json:"moderators,omitempty"`
}

// Explain says where asked leads: an address, a login name, a DN or a key. from is
// who sends to a list, nil for somebody outside.
func (s *Snapshot) Explain(asked string, from *Entry, now time.Time) Explanation {
	x := Explanation{Asked: asked}
	var entries []*Entry
	if a, err := envelope.ParseAddress(asked); err == nil {
		x.Address = s.explainAddress(a, from)
		entries = s.Owners(a)
		if r := s.Resolve(a); len(entries) == 0 && r.Entry != nil {
			entries = []*Entry{r.Entry}
		}
	}
	if name := FoldLogin(asked); name != "" {
		owners := s.all(byLogin, name)
		if len(owners) > 0 || x.Address == nil {
			x.Login = s.explainLogin(name, owners, now)
		}
		for _, e := range owners {
			if !slices.ContainsFunc(entries, func(o *Entry) bool { return o.Key == e.Key }) {
				entries = append(entries, e)
			}
		}
	}
	if len(entries) == 0 {
		for _, e := range []*Entry{s.ByDN(asked), s.ByKey(Key(asked))} {
			if e != nil {
				entries, x.Login = []*Entry{e}, nil
			}
		}
	}
	for _, e := range entries {
		x.Entries = append(x.Entries, s.explainEntry(e))
	}
	if len(entries) == 1 {
		x.Member = s.explainGroups(entries[0])
		x.Rights = s.explainRights(entries[0])
		x.Held = s.explainHeld(entries[0])
	}
	return x
}

func (s *Snapshot) explainEntry(e *Entry) EntryExplained {
	l := s.Limits(e)
	x := EntryExplained{Key: e.Key, DN: e.DN, Kind: e.Kind.String(), Name: e.DisplayName, Logins: e.Logins, Modified: e.Modified,
		Origins: slices.Concat(e.Origins, l.Origins), Unreadable: e.Unreadable,
		Quota: l.Quota, QuotaSend: l.QuotaSend, QuotaWarn: l.QuotaWarn, MaxReceive: l.MaxReceive, MaxSend: l.MaxSend,
		Delivery: l.Delivery.String(), Hidden: l.Hidden}
	slices.Sort(x.Origins)
	if !e.Primary.IsZero() {
		x.Addresses = append(x.Addresses, e.Primary.String())
	}
	for _, a := range e.Aliases {
		x.Addresses = append(x.Addresses, a.String())
	}
	for _, f := range e.Former {
		x.Former = append(x.Former, f.Address.String()+" until "+f.Until.Format(time.DateOnly))
	}
	return x
}

// explainAddress says what becomes of mail for a.
func (s *Snapshot) explainAddress(a envelope.Address, from *Entry) *AddressExplained {
	r := s.Resolve(a)
	x := &AddressExplained{Address: a.String(), How: s.how(a, r), Home: r.Home.String(), NextHop: r.NextHop}
	if !r.Target.IsZero() && r.Target != a {
		x.Target = r.Target.String()
	}
	if !r.OK() {
		x.Refused = statusText(r.Status)
		return x
	}
	terms := Terms{Sender: from, Released: true}
	if r.Home == HomeList && r.Entry != nil {
		x.Post = [...]string{PostRefused: "refused", PostAllowed: "allowed", PostHeld: "held for its moderators"}[s.MayPost(r.Entry, from)]
	}
	x.Copies = s.copies(s.Expand([]envelope.Recipient{{Address: a}}, terms))
	return x
}

// how says by which rule a leads to the entry of r.
func (s *Snapshot) how(a envelope.Address, r Resolution) string {
	owners := s.Owners(a)
	switch e := r.Entry; {
	case r.Home == HomeNotOurs:
		return "the domain is not ours"
	case len(owners) > 1 && e == nil:
		return fmt.Sprintf("%d entries claim it", len(owners))
	case e != nil && len(owners) > 1:
		return "several entries claim it; this one had it first"
	case e != nil && e.Primary.Key() == a.Key():
		return "primary address"
	case e != nil && len(owners) == 1:
		return "further address"
	case e != nil && r.Detail != "":
		return "subaddress " + r.Detail
	case e != nil && slices.ContainsFunc(e.Former, func(f Former) bool { return f.Address.Key() == a.Key() }):
		return "address that it had before"
	case isRole(a.Local):
		return "postmaster of the configuration"
	case e != nil && strings.HasPrefix(strings.ToUpper(a.Local), imceaex):
		return "internal address of Exchange"
	case e != nil && e.Kind == KindList:
		return "owners of the list"
	case r.Home == HomeElsewhere:
		return "nobody has it here, the other system may know it"
	case r.Home == HomeNobody && e == nil:
		return "no entry has it"
	case r.Home == HomeNobody:
		return "the mailbox rule does not name its owner"
	}
	return "not known now"
}

// copies lists an expansion.
func (s *Snapshot) copies(x Expansion) []CopyExplained {
	var out []CopyExplained
	for _, r := range x.Local {
		out = append(out, CopyExplained{To: addressOf(r.Entry), Where: "mailbox", Path: s.path(r.Path)})
	}
	for _, r := range x.Remote {
		out = append(out, CopyExplained{To: r.Recipient.Address.String(), Where: "by " + cmp.Or(r.NextHop, "MX"), Path: s.path(r.Path)})
	}
	for _, r := range x.Held {
		out = append(out, CopyExplained{To: addressOf(r.Entry), Where: "held", Path: s.path(r.Path)})
	}
	for _, r := range x.Refused {
		out = append(out, CopyExplained{To: r.Recipient.Address.String(), Where: "refused", Status: statusText(r.Status)})
	}
	slices.SortStableFunc(out, func(a, b CopyExplained) int { return cmp.Compare(a.To, b.To) })
	return out
}

// path names the lists and forwarders on the way, outermost first.
func (s *Snapshot) path(keys []Key) []string {
	var names []string
	for _, k := range keys {
		if e := s.ByKey(k); e != nil {
			names = append(names, addressOf(e))
		}
	}
	return names
}

// addressOf names e for people: its address, else its DN.
func addressOf(e *Entry) string {
	if e.Primary.IsZero() {
		return e.DN
	}
	return e.Primary.String()
}

func statusText(st envelope.Status) string {
	return fmt.Sprintf("%d %s %s", st.Code, st.Enhanced, st.Text)
}

// explainLogin says what becomes of a login with a name that these have.
func (s *Snapshot) explainLogin(name string, owners []*Entry, now time.Time) *LoginExplained {
	x := &LoginExplained{Name: name}
	switch {
	case len(owners) == 0:
		x.Why = "nobody has this login name"
		return x
	case len(owners) > 1:
		x.Why = fmt.Sprintf("%d entries have this login name, so it belongs to none of them", len(owners))
		return x
	}
	e := owners[0]
	limits := s.Limits(e)
	x.Services = limits.Services
	switch state := e.LoginState(now); {
	case limits.NoLogin:
		x.Why = "a policy of a group refuses logins"
	case state != StateActive:
		x.Why = "the account is " + state.String()
	case limits.Services != nil && len(limits.Services) == 0:
		x.Why = "no protocol is allowed"
	default:
		x.Works, x.Why = true, "if the directory takes the password"
	}
	return x
}

// explainGroups lists the groups of e, the direct ones first.
func (s *Snapshot) explainGroups(e *Entry) []GroupExplained {
	var out []GroupExplained
	direct := make(map[Key]bool)
	for g := range s.groups(e) {
		direct[g.Key] = true
	}
	for key := range s.memberships(e).keys {
		g := s.ByKey(key)
		if g == nil || key == e.Key {
			continue
		}
		x := GroupExplained{DN: g.DN, Direct: direct[key]}
		if !g.Primary.IsZero() {
			x.Address = g.Primary.String()
		}
		out = append(out, x)
	}
	slices.SortFunc(out, func(a, b GroupExplained) int {
		if a.Direct != b.Direct {
			if a.Direct {
				return -1
			}
			return 1
		}
		return cmp.Compare(a.DN, b.DN)
	})
	return out
}

// explainRights lists what e may do with others. It looks at everybody.
func (s *Snapshot) explainRights(e *Entry) []RightExplained {
	if e.Kind != KindPerson {
		return nil
	}
	var out []RightExplained
	for o := range s.All() {
		if o.Key == e.Key {
			continue
		}
		if r := s.Rights(e, o); r != 0 {
			out = append(out, RightExplained{Of: addressOf(o), Rights: r.words()})
		}
	}
	slices.SortFunc(out, func(a, b RightExplained) int { return cmp.Compare(a.Of, b.Of) })
	return out
}

// words names rights.
func (r Rights) words() []string {
	var out []string
	for _, w := range []struct {
		right Rights
		word  string
	}{{RightOpen, "open"}, {RightSendAs, "send as"}, {RightOnBehalf, "send on behalf of"}} {
		if r&w.right != 0 {
			out = append(out, w.word)
		}
	}
	return out
}

// explainHeld lists who may do what with e: whom its attributes name, as far as
// there is such an entry, and the groups of policies that name it.
func (s *Snapshot) explainHeld(e *Entry) *HeldRightExplained {
	there := func(names []string) (out []string) {
		for _, n := range names {
			if s.named(e.Directory, n) != nil || s.outsider(n) != nil {
				out = append(out, strings.TrimPrefix(n, mailScheme))
			}
		}
		return out
	}
	x := &HeldRightExplained{Open: there(e.Access), SendAs: there(e.SendAs), OnBehalf: there(e.OnBehalf), Owners: there(e.Owners), Moderators: there(e.Moderators)}
	if s.policies != nil {
		for _, p := range s.policies.list {
			for _, r := range []struct {
				names []string
				who   *[]string
			}{{p.access, &x.Open}, {p.sendAs, &x.SendAs}, {p.onBehalf, &x.OnBehalf}} {
				if s.names(r.names, e) {
					*r.who = append(*r.who, p.Group)
				}
			}
		}
	}
	if len(x.Open)+len(x.SendAs)+len(x.OnBehalf)+len(x.Owners)+len(x.Moderators) == 0 {
		return nil
	}
	return x
}
