package ldap

import (
	"fmt"
	"slices"
	"strings"

	"dirpost/directory"
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
	if e.Policy == directory.ListModerated {
		return
	}
	// "Nobody but these" is what owners and senders may do under ListOwners. Under
	// moderation it would let them pass by the moderators, so that comes first.
	if allowed := r.names("list_allowed"); len(allowed) > 0 {
		e.Senders = slices.Compact(slices.Sorted(slices.Values(append(e.Senders, allowed...))))
		e.Policy = directory.ListOwners
	}
}

// senders fills in who may send to the entry in any case, and who may not.
func (r *reading) senders(e *directory.Entry) {
	e.Senders = r.names("list_sender")
	e.Barred = r.names("list_barred")
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
	values := r.all("query")
	if len(values) == 0 {
		return nil
	}
	base := r.first("query_base")
	if base == "" {
		base = r.m.base
	}
	var out []string
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
	if len(out) == 0 {
		r.cannotRead("query")
	}
	slices.Sort(out)
	return slices.Compact(out)
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
	slices.Sort(out)
	return slices.Compact(out)
}
