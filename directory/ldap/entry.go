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
	m          *mapper
	variant    *compiledVariant    // nil: as all others
	values     map[string][]string // by attribute in lower case
	problems   []error
	unreadable []string // fields whose value could not be read
	origins    []string // "field=attribute"
}

// entry maps one LDAP entry with the identifier id. What cannot be read is left
// out and reported; only an entry that mail has no use for gives nil.
func (m *mapper) entry(le *ldap.Entry, id string) (*directory.Entry, []error) {
	r := reading{m: m, values: make(map[string][]string, len(le.Attributes))}
	for _, a := range le.Attributes {
		r.values[strings.ToLower(a.Name)] = a.Values
	}
	r.variant = r.variantOf()
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
		MaxReceive:  r.number("max_receive"),
		MaxSend:     r.number("max_send"),
		Hidden:      r.first("hidden") == "true",
		Modified:    r.latest("modified"),
		Access:      r.names("access"),
		SendAs:      r.names("send_as"),
		OnBehalf:    r.names("on_behalf"),
		SID:         r.first("sid"),
		Facts:       r.facts(),
	}
	if r.first("quota_default") == "true" {
		e.Quota, e.QuotaSend, e.QuotaWarn = 0, 0, 0
	}
	switch e.Kind {
	case 0:
		return nil, r.problems
	case directory.KindDomain:
		e.Domains = r.domains()
	default:
		r.mailObject(e)
	}
	slices.Sort(r.unreadable)
	e.Unreadable = slices.Compact(r.unreadable)
	slices.Sort(r.origins)
	e.Origins = slices.Compact(r.origins)
	return e, r.problems
}

// mailObject fills in what everything with an address has, and then what people
// and lists have.
func (r *reading) mailObject(e *directory.Entry) {
	r.addresses(e)
	r.routing(e)
	r.x500(e)
	if e.HasMailbox() && r.first("place") == "elsewhere" {
		e.Place = directory.PlaceElsewhere
	}
	e.PrimaryGroup = primaryGroup(e.SID, r.first("primary_group"))
	r.senders(e)
	switch e.Kind {
	case directory.KindPerson:
		r.logins(e)
		e.Certificates = r.all("certificate")
		e.Services = r.services()
	case directory.KindList:
		r.list(e)
	}
	r.rightGroups(e)
}

func (r *reading) problem(field, attribute string, err error) {
	r.problems = append(r.problems, fmt.Errorf("%s from %s: %w", field, attribute, err))
}

// variantOf returns the variant that one of the classes of the entry makes it.
func (r *reading) variantOf() *compiledVariant {
	if len(r.m.variants) == 0 {
		return nil
	}
	for _, class := range r.values["objectclass"] {
		if v := r.m.variants[strings.ToLower(class)]; v != nil {
			return v
		}
	}
	return nil
}

// sources returns where a field comes from in this entry.
func (r *reading) sources(field string) []source {
	if r.variant != nil {
		if s, ok := r.variant.fields[field]; ok {
			return s
		}
	}
	return r.m.fields[field]
}

// cannotRead notes that a field has a value that could not be read, so that what
// it was before counts on.
func (r *reading) cannotRead(field string) { r.unreadable = append(r.unreadable, field) }

// origin notes which attribute said what a field is.
func (r *reading) origin(field string, s source) {
	switch field {
	case "id", "modified": // of no interest to whoever asks why
	default:
		r.origins = append(r.origins, field+"="+s.name)
	}
}

// each decodes the values of one source of a field. all is whether every value
// could be read.
func (r *reading) each(field string, s source) (out []string, all bool) {
	all = true
	for _, v := range r.values[s.attribute] {
		found, err := s.read(v)
		if err != nil {
			r.problem(field, s.name, err)
			all = false
		}
		out = append(out, found...)
	}
	return out, all
}

// read takes what one value says.
func (s source) read(v string) ([]string, error) {
	switch {
	case s.list != nil && len(v) <= maxDescriptor:
		return s.list(v)
	case s.list != nil || len(v) > maxValue:
		return nil, fmt.Errorf("value of %d octets", len(v))
	}
	d, err := s.decode(v)
	if err != nil || d == "" {
		return nil, err
	}
	return []string{d}, nil
}

// first returns the first value of the first source that has any. A source
// whose value cannot be read ends the search for a field with power: what comes
// after it was not meant to count.
func (r *reading) first(field string) string {
	level, _ := levelOf(field)
	for _, s := range r.sources(field) {
		v, all := r.each(field, s)
		if len(v) > 0 {
			r.origin(field, s)
			return v[0]
		}
		if !all {
			r.cannotRead(field)
			if level == Power {
				return ""
			}
		}
	}
	return ""
}

// all returns the values of all sources, each once.
func (r *reading) all(field string) []string {
	var out []string
	good := true
	for _, s := range r.sources(field) {
		v, all := r.each(field, s)
		if out, good = append(out, v...), good && all; len(v) > 0 {
			r.origin(field, s)
		}
	}
	if !good && len(out) == 0 {
		r.cannotRead(field)
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
	if r.variant != nil && r.variant.kind != 0 {
		return r.variant.kind
	}
	kind := directory.Kind(0)
	for _, class := range r.values["objectclass"] {
		switch strings.ToLower(class) {
		case "groupofnames", "groupofuniquenames", "group", "dirpostlist", "nismailalias", "mailgroup", "posixgroup", "groupofurls", "dynamicgroup",
			"msexchdynamicdistributionlist":
			return directory.KindList
		case "contact":
			return directory.KindContact
		case "maildomain":
			return directory.KindDomain
		case "inetorgperson", "organizationalperson", "person", "user", "dirpostmailbox", "inetlocalmailrecipient", "mailrecipient",
			"qmailuser", "postfixbookmailaccount", "mailuser", "kolabinetorgperson", "univentionmail":
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

// state returns the first state that is not active. One that takes something
// away counts even if another source cannot be read.
func (r *reading) state(field string) directory.State {
	good := true
	for _, s := range r.sources(field) {
		values, all := r.each(field, s)
		for _, v := range values {
			st, ok := stateOf(v)
			if !ok {
				r.problem(field, s.name, fmt.Errorf("no state: %.40q", v))
				all = false
			} else if st != directory.StateActive {
				r.origin(field, s)
				return st
			}
		}
		good = good && all
	}
	if !good {
		r.cannotRead(field)
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
		r.cannotRead(field)
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

// names returns all values of a field as normalised DNs, or, where they are
// addresses, by MailName.
func (r *reading) names(field string) []string {
	list := r.all(field)
	for i, v := range list {
		bare, isURL := strings.CutPrefix(strings.ToLower(v), "mailto:")
		if !isURL {
			bare = v
		}
		if a, err := envelope.ParseAddress(bare); err == nil && (isURL || !strings.Contains(v, "=")) {
			list[i] = directory.MailName(a)
			continue
		}
		list[i] = directory.NormalizeDN(v)
	}
	slices.Sort(list)
	return slices.Compact(list)
}

// addressesOf parses the values of one source as addresses. What is none is
// reported: programs, files and includes, as some mail systems have them among
// addresses, are never run or opened.
func (r *reading) addressesOf(field string, s source) (out []envelope.Address, all bool) {
	values, all := r.each(field, s)
	for _, v := range values {
		a, err := envelope.ParseAddress(v)
		if err != nil {
			r.problem(field, s.name, fmt.Errorf("%.80q: %w", v, err))
			all = false
			continue
		}
		if !slices.Contains(out, a) {
			out = append(out, a)
		}
	}
	if len(out) > 0 {
		r.origin(field, s)
	}
	slices.SortFunc(out, func(a, b envelope.Address) int { return strings.Compare(a.Key(), b.Key()) })
	return out, all
}

// firstAddresses returns the addresses of the first source that has any.
func (r *reading) firstAddresses(field string) []envelope.Address {
	good := true
	for _, s := range r.sources(field) {
		out, all := r.addressesOf(field, s)
		if len(out) > 0 {
			return out
		}
		good = good && all
	}
	if !good {
		r.cannotRead(field)
	}
	return nil
}

// allAddresses returns those of all sources.
func (r *reading) allAddresses(field string) []envelope.Address {
	var out []envelope.Address
	good := true
	for _, s := range r.sources(field) {
		found, all := r.addressesOf(field, s)
		good = good && all
		for _, a := range found {
			if !slices.Contains(out, a) {
				out = append(out, a)
			}
		}
	}
	if !good && len(out) == 0 {
		r.cannotRead(field)
	}
	slices.SortFunc(out, func(a, b envelope.Address) int { return strings.Compare(a.Key(), b.Key()) })
	return out
}

// addresses fills in the primary address and the further ones. Of several
// values without order, that which begins with a login name is primary, else
// the first in the order of letters, so that it is always the same.
func (r *reading) addresses(e *directory.Entry) {
	if found := r.firstAddresses("primary"); len(found) > 0 {
		e.Primary = found[0]
		if len(found) > 1 {
			logins := r.all("login")
			if i := slices.IndexFunc(found, func(a envelope.Address) bool { return slices.Contains(logins, a.Local) }); i >= 0 {
				e.Primary = found[i]
			}
		}
	}
	for _, a := range r.allAddresses("alias") {
		if a.Key() != e.Primary.Key() {
			e.Aliases = append(e.Aliases, a)
		}
	}
}

// routing fills in where the mail goes besides the mailbox.
func (r *reading) routing(e *directory.Entry) {
	e.Forward = r.firstAddresses("forward")
	e.ForwardTo = r.names("forward_to")
	if state := r.all("forward_state"); slices.Contains(state, "off") && !slices.Contains(state, "on") {
		e.Forward, e.ForwardTo = nil, nil
	}
	e.KeepCopy = r.first("keep_copy") == "true"
	// The own address among the targets is how some schemas keep a copy.
	e.Forward = slices.DeleteFunc(e.Forward, func(a envelope.Address) bool {
		own := e.Owns(a)
		e.KeepCopy = e.KeepCopy || own
		return own
	})
	if len(e.Forward) == 0 {
		e.Forward = nil
	}
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
