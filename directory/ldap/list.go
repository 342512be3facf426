package ldap

import (
	"fmt"
	"slices"
	"strings"

	"github.com/go-ldap/ldap/v3"

	"dirpost/directory"
	"dirpost/internal/envelope"
)

// list fills in what only lists have.
func (r *reading) list(e *directory.Entry) {
	e.Members = r.dns("member")
	e.ExternalMembers = r.allAddresses("external_member")
	e.Owners = r.names("owner")
	e.Moderators = r.names("moderator")
	e.MemberLogins = r.memberLogins()
	e.Queries = r.queries(e)
	if policy, ok := directory.ParseListPolicy(r.first("list_policy")); ok {
		e.Policy = policy
	}
	// "Nobody but these" is what owners and senders may do under ListOwners. Under
	// moderation that would let them pass by the moderators, who decide about these
	// alone.
	allowed := r.names("list_allowed")
	switch {
	case len(allowed) == 0:
	case e.Policy == directory.ListModerated:
		e.Allowed = allowed
	default:
		e.Senders = slices.Compact(slices.Sorted(slices.Values(append(e.Senders, allowed...))))
		e.Policy = directory.ListOwners
	}
}

// senders fills in who may send to the entry in any case, and who may not.
func (r *reading) senders(e *directory.Entry) {
	e.Senders = r.names("list_sender")
	e.Barred = r.names("list_barred")
	e.NoStrangers = r.first("require_login") == "true"
	if e.Kind != directory.KindList { // which has more to say about it
		e.Allowed = r.names("list_allowed")
	}
}

// memberLogins returns the members that a group names by their login.
func (r *reading) memberLogins() []string {
	var out []string
	for _, v := range r.all("member_login") {
		if f := directory.FoldLogin(v); f != "" {
			out = append(out, f)
		} else {
			r.problem("member_login", "its source", fmt.Errorf("no login name: %.80q", v))
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// queries returns what defines the members of a list: LDAP URLs as they are,
// filters as URLs. What asks for an attribute that is not kept of each entry
// would never match, or, negated, match everybody: it is left out.
func (r *reading) queries(e *directory.Entry) []string {
	out := r.byMemberOf(e)
	values := r.all("query")
	if len(values) == 0 {
		return out
	}
	before := len(out)
	base := r.first("query_base")
	if base == "" {
		base = r.m.base
	}
	for _, v := range values {
		text, err := v, error(nil)
		if strings.HasPrefix(v, "(") {
			text, err = directory.FilterQuery(base, v)
		}
		if err == nil {
			err = r.checkQuery(text)
		}
		if err != nil {
			r.problem("query", "its source", err)
			continue
		}
		out = append(out, text)
	}
	if len(out) == before {
		r.cannotRead("query")
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// policy takes the word of a list policy, alone or as "mail-policy: word" on a
// line of its own in a free text.
func policy(v string) (string, error) {
	for _, line := range strings.Split(v, "\n") {
		word := strings.ToLower(strings.TrimSpace(line))
		if after, ok := strings.CutPrefix(word, "mail-policy:"); ok {
			word = strings.TrimSpace(after)
		} else if len(v) != len(line) {
			continue
		}
		if _, ok := directory.ParseListPolicy(word); ok {
			return word, nil
		}
		if word != strings.ToLower(strings.TrimSpace(line)) {
			return "", fmt.Errorf("no list policy: %.40q", word)
		}
	}
	return "", nil
}

// addressOnly takes a value that is an address, and nothing else: no local-parts,
// no programs.
func addressOnly(v string) (string, error) {
	a, err := envelope.ParseAddress(strings.TrimSpace(v))
	if err != nil {
		return "", nil
	}
	return a.String(), nil
}

// queryFilter takes a filter (RFC 4515), which people write without its outermost
// parentheses too.
func queryFilter(v string) (string, error) {
	v, err := text(v)
	if err == nil && v != "" && !strings.HasPrefix(v, "(") {
		v = "(" + v + ")"
	}
	return v, err
}

// memberOfList is the fact of an entry that says itself which lists it is in.
const memberOfList = "member-of-list"

// byMemberOf returns the query for those who say themselves that they are in the
// list e, for directories that have it that way round.
func (r *reading) byMemberOf(e *directory.Entry) []string {
	if len(r.m.fields["member_of"]) == 0 || e.Primary.IsZero() {
		return nil
	}
	var filter strings.Builder
	filter.WriteString("(|")
	for _, a := range append([]envelope.Address{e.Primary}, e.Aliases...) {
		filter.WriteString("(" + memberOfList + "=" + ldap.EscapeFilter(a.Key()) + ")")
	}
	filter.WriteString(")")
	text, err := directory.FilterQuery(r.m.base, filter.String())
	if err != nil {
		r.problem("member_of", "its source", err)
		return nil
	}
	return []string{text}
}

func (r *reading) checkQuery(text string) error {
	q, err := directory.ParseQuery(text)
	if err != nil {
		return err
	}
	for _, a := range q.Attributes() {
		if a != "memberof" && !slices.Contains(r.m.facts, a) {
			return fmt.Errorf("%.200q asks for %s, which is not kept: add it to facts", text, a)
		}
	}
	return nil
}

// The bounds of what is kept for queries: of one value in octets, and of values.
const (
	maxFact  = 512
	maxFacts = 100
)

// facts returns what queries may ask of the entry.
func (r *reading) facts() []string {
	var out []string
	for _, attribute := range r.m.facts {
		for _, v := range r.values[attribute] {
			v, err := text(v)
			if err != nil || v == "" || len(v) > maxFact || len(out) == maxFacts || attribute == "objectclass" && strings.EqualFold(v, "top") {
				continue
			}
			out = append(out, attribute+"="+v)
		}
	}
	for _, a := range r.allAddresses("member_of") {
		if len(out) < maxFacts {
			out = append(out, memberOfList+"="+a.Key())
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}
