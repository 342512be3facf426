package ldap

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/go-ldap/ldap/v3"

	"dirpost/directory"
	"dirpost/internal/envelope"
)

// maxValue bounds one value that is looked at, in octets. Anything longer is
// no address, name or DN.
const maxValue = 4 << 10

// reading is one LDAP entry while it is mapped.
type reading struct {
	m        *mapper
	values   map[string][]string // by attribute in lower case
	problems []error
}

// entry maps one LDAP entry with the identifier id. What cannot be read is left
// out and reported; only an entry that mail has no use for gives nil.
func (m *mapper) entry(le *ldap.Entry, id string) (*directory.Entry, []error) {
	r := reading{m: m, values: make(map[string][]string, len(le.Attributes))}
	for _, a := range le.Attributes {
		r.values[strings.ToLower(a.Name)] = a.Values
	}
	e := &directory.Entry{
		Key:         directory.Key(m.directory + ":" + id),
		Directory:   m.directory,
		DN:          le.DN,
		Kind:        r.kind(),
		DisplayName: r.first("name"),
		Login:       r.state("login_state"),
		Expires:     r.time("expires"),
		Delivery:    r.state("delivery_state"),
		Quota:       r.number("quota"),
		QuotaSend:   r.number("quota_send"),
		QuotaWarn:   r.number("quota_warn"),
		Hidden:      r.first("hidden") == "true",
		Modified:    r.latest("modified"),
		Access:      r.dns("access"),
		SendAs:      r.dns("send_as"),
		OnBehalf:    r.dns("on_behalf"),
	}
	switch e.Kind {
	case 0:
		return nil, r.problems
	case directory.KindDomain:
		e.Domains = r.domains()
		return e, r.problems
	}
	r.addresses(e)
	r.routing(e)
	switch e.Kind {
	case directory.KindPerson:
		r.logins(e)
		e.Services = r.all("service")
	case directory.KindList:
		r.list(e)
	}
	return e, r.problems
}

func (r *reading) problem(field, attribute string, err error) {
	r.problems = append(r.problems, fmt.Errorf("%s from %s: %w", field, attribute, err))
}

// each decodes the values of one source of a field.
func (r *reading) each(field string, s source) []string {
	var out []string
	for _, v := range r.values[s.attribute] {
		if len(v) > maxValue {
			r.problem(field, s.attribute, fmt.Errorf("value of %d octets", len(v)))
			continue
		}
		d, err := s.decode(v)
		if err != nil {
			r.problem(field, s.attribute, err)
		} else if d != "" {
			out = append(out, d)
		}
	}
	return out
}

// first returns the first value of the first source that has any.
func (r *reading) first(field string) string {
	for _, s := range r.m.fields[field] {
		if v := r.each(field, s); len(v) > 0 {
			return v[0]
		}
	}
	return ""
}

// all returns the values of all sources, each once.
func (r *reading) all(field string) []string {
	var out []string
	for _, s := range r.m.fields[field] {
		out = append(out, r.each(field, s)...)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// kind says what the entry is, 0 for nothing that mail knows.
func (r *reading) kind() directory.Kind {
	switch strings.ToLower(r.first("kind")) {
	case "personal":
		return directory.KindPerson
	case "shared":
		return directory.KindShared
	case "room", "equipment":
		return directory.KindRoom
	case "contact":
		return directory.KindContact
	case "elsewhere":
		return directory.KindElsewhere
	}
	kind := directory.Kind(0)
	for _, class := range r.values["objectclass"] {
		switch strings.ToLower(class) {
		case "groupofnames", "groupofuniquenames", "group", "dirpostlist", "nismailalias", "mailgroup":
			return directory.KindList
		case "contact":
			return directory.KindContact
		case "maildomain":
			return directory.KindDomain
		case "inetorgperson", "organizationalperson", "person", "user", "dirpostmailbox", "inetlocalmailrecipient", "mailrecipient":
			kind = directory.KindPerson
		}
	}
	return kind
}

// states are the words of login_state and delivery_state.
func stateOf(word string) (directory.State, bool) {
	switch word {
	case "active":
		return directory.StateActive, true
	case "disabled":
		return directory.StateDisabled, true
	case "expired":
		return directory.StateExpired, true
	case "locked":
		return directory.StateLocked, true
	case "must-change":
		return directory.StateMustChange, true
	case "held":
		return directory.StateHeld, true
	}
	return 0, false
}

// state returns the first state that is not active.
func (r *reading) state(field string) directory.State {
	for _, s := range r.m.fields[field] {
		for _, v := range r.each(field, s) {
			st, ok := stateOf(v)
			if !ok {
				r.problem(field, s.attribute, fmt.Errorf("no state: %.40q", v))
			} else if st != directory.StateActive {
				return st
			}
		}
	}
	return directory.StateActive
}

func (r *reading) number(field string) int64 {
	v := r.first(field)
	if v == "" {
		return 0
	}
	n, err := strconv.ParseInt(v, 10, 64)
	if err != nil || n < 0 {
		r.problem(field, "its source", fmt.Errorf("not a size: %.40q", v))
		return 0
	}
	return n
}

func (r *reading) time(field string) time.Time {
	t, err := time.Parse(timeForm, r.first(field))
	if err != nil {
		return time.Time{}
	}
	return t
}

// latest returns the latest of all times of a field. A password that changes
// twice in a second must look like two changes, which modifyTimestamp alone
// would not show.
func (r *reading) latest(field string) time.Time {
	var last time.Time
	for _, v := range r.all(field) {
		if t, err := time.Parse(timeForm, v); err == nil && t.After(last) {
			last = t
		}
	}
	return last
}

// dns returns all values of a field as normalised DNs.
func (r *reading) dns(field string) []string {
	list := r.all(field)
	for i, dn := range list {
		list[i] = directory.NormalizeDN(dn)
	}
	slices.Sort(list)
	return slices.Compact(list)
}

// addressesOf parses values as addresses. What is none is reported: programs,
// files and includes, as some mail systems have them among addresses, are
// never run or opened.
func (r *reading) addressesOf(field string, s source) []envelope.Address {
	var out []envelope.Address
	for _, v := range r.each(field, s) {
		a, err := envelope.ParseAddress(v)
		if err != nil {
			r.problem(field, s.attribute, fmt.Errorf("%.80q: %w", v, err))
			continue
		}
		if !slices.Contains(out, a) {
			out = append(out, a)
		}
	}
	return out
}

func (r *reading) allAddresses(field string) []envelope.Address {
	var out []envelope.Address
	for _, s := range r.m.fields[field] {
		for _, a := range r.addressesOf(field, s) {
			if !slices.Contains(out, a) {
				out = append(out, a)
			}
		}
	}
	slices.SortFunc(out, func(a, b envelope.Address) int { return strings.Compare(a.Key(), b.Key()) })
	return out
}

// addresses fills in the primary address and the further ones. Of several
// values without order, that which begins with a login name is primary, else
// the first in the order of letters, so that it is always the same.
func (r *reading) addresses(e *directory.Entry) {
	for _, s := range r.m.fields["primary"] {
		found := r.addressesOf("primary", s)
		if len(found) == 0 {
			continue
		}
		slices.SortFunc(found, func(a, b envelope.Address) int { return strings.Compare(a.Key(), b.Key()) })
		e.Primary = found[0]
		if len(found) > 1 {
			logins := r.all("login")
			if i := slices.IndexFunc(found, func(a envelope.Address) bool { return slices.Contains(logins, a.Local) }); i >= 0 {
				e.Primary = found[i]
			}
		}
		break
	}
	for _, a := range r.allAddresses("alias") {
		if a.Key() != e.Primary.Key() {
			e.Aliases = append(e.Aliases, a)
		}
	}
}

// routing fills in where the mail goes besides the mailbox.
func (r *reading) routing(e *directory.Entry) {
	for _, s := range r.m.fields["forward"] {
		if e.Forward = r.addressesOf("forward", s); len(e.Forward) > 0 {
			break
		}
	}
	e.KeepCopy = r.first("keep_copy") == "true"
	if e.Kind != directory.KindElsewhere {
		return
	}
	if hop := r.first("next_hop"); hop != "" {
		var err error
		if e.NextHop, err = nextHop(hop); err != nil {
			r.problem("next_hop", "its source", err)
		}
	}
}

// logins fills in the names that a person may type.
func (r *reading) logins(e *directory.Entry) {
	names := r.all("login")
	if !e.Primary.IsZero() {
		names = append(names, e.Primary.String())
	}
	if r.m.aliases {
		for _, a := range e.Aliases {
			names = append(names, a.String())
		}
	}
	for _, n := range names {
		if f := directory.FoldLogin(n); f != "" {
			e.Logins = append(e.Logins, f)
		} else {
			r.problem("login", "its source", fmt.Errorf("no login name: %.80q", n))
		}
	}
	slices.Sort(e.Logins)
	e.Logins = slices.Compact(e.Logins)
}

// list fills in what only lists have.
func (r *reading) list(e *directory.Entry) {
	e.Members = r.dns("member")
	e.ExternalMembers = r.allAddresses("external_member")
	e.Owners = r.dns("owner")
	e.Senders = r.dns("list_sender")
	e.Policy, _ = directory.ParseListPolicy(r.first("list_policy"))
}

func (r *reading) domains() []string {
	var out []string
	for _, v := range r.all("domain") {
		d, err := envelope.ParseDomain(v)
		if err != nil {
			r.problem("domain", "its source", fmt.Errorf("%.80q: %w", v, err))
			continue
		}
		out = append(out, d)
	}
	return out
}
