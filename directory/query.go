package directory

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"dirpost/directory/filter"
)

// Scope says how far below its base a Query looks (RFC 4516 §2).
type Scope uint8

// The scopes of a query.
const (
	ScopeBase Scope = iota
	ScopeOne
	ScopeSubtree
)

// Query is a list defined by a filter: whoever of the replica matches is a
// member. It is never sent to a server.
type Query struct {
	Base  string // by NormalizeDN; "" is everything
	Scope Scope

	filter filter.Filter
}

// maxQuery bounds the text of a query, in octets.
const maxQuery = filter.MaxSize

// ParseQuery reads an LDAP URL without a host, such as
// ldap:///ou=People,dc=example??sub?(department=Sales) (RFC 4516, RFC 4515). A
// URL that names a server, a critical extension or a matching rule is refused,
// since a replica cannot answer it.
func ParseQuery(text string) (*Query, error) {
	if len(text) > maxQuery {
		return nil, fmt.Errorf("query of %d octets, there may be %d", len(text), maxQuery)
	}
	scheme, rest, ok := strings.Cut(text, "://")
	if !ok || !strings.EqualFold(scheme, "ldap") && !strings.EqualFold(scheme, "ldaps") {
		return nil, errors.New("query: want an LDAP URL, ldap:///BASE??sub?(FILTER)")
	}
	host, rest, _ := strings.Cut(rest, "/")
	if host != "" {
		return nil, fmt.Errorf("query names the server %.80q: only what is in the directory itself can be looked through, ldap:///", host)
	}
	parts := strings.Split(rest, "?")
	for len(parts) < 5 {
		parts = append(parts, "")
	}
	if len(parts) > 5 {
		return nil, errors.New("query has too many question marks")
	}
	for i, p := range parts {
		var err error
		if parts[i], err = url.PathUnescape(p); err != nil {
			return nil, fmt.Errorf("query: %w", err)
		}
	}
	if strings.Contains(","+parts[4], ",!") {
		return nil, errors.New("query has a critical extension, and none is known here")
	}
	q := &Query{Base: NormalizeDN(parts[0])}
	switch strings.ToLower(parts[2]) {
	case "", "base": // the default of RFC 4516
		q.Scope = ScopeBase
	case "one", "onelevel":
		q.Scope = ScopeOne
	case "sub", "subtree":
		q.Scope = ScopeSubtree
	default:
		return nil, fmt.Errorf("query has the scope %.20q: want base, one or sub", parts[2])
	}
	if parts[3] == "" {
		parts[3] = "(objectClass=*)"
	}
	var err error
	if q.filter, err = filter.Parse(parts[3]); err != nil {
		return nil, fmt.Errorf("query: %w", err)
	}
	return q, nil
}

// FilterQuery returns the LDAP URL of all entries below base that match a
// filter.
func FilterQuery(base, text string) (string, error) {
	if _, err := filter.Parse(text); err != nil {
		return "", fmt.Errorf("query: %w", err)
	}
	escape := strings.NewReplacer("%", "%25", "?", "%3F", "#", "%23", " ", "%20")
	text = "ldap:///" + escape.Replace(base) + "??sub?" + escape.Replace(text)
	if len(text) > maxQuery {
		return "", fmt.Errorf("query of %d octets, there may be %d", len(text), maxQuery)
	}
	return text, nil
}

// Attributes returns what the filter asks for, in lower case, sorted. All of
// them must be among the facts of the entries (Entry.Facts), or be memberOf.
func (q *Query) Attributes() []string { return q.filter.Attributes() }

// Matches reports whether e stands below the base of q and matches its filter.
// memberOf is answered from the groups that name e.
func (s *Snapshot) Matches(q *Query, e *Entry) bool {
	if q == nil || !q.holds(e.normalDN()) {
		return false
	}
	return q.filter.Match(func(attribute string, match func(string) bool) bool {
		if attribute == "memberof" {
			return slices.ContainsFunc(s.all(byMember, e.normalDN()), func(g *Entry) bool { return match(g.normalDN()) })
		}
		for _, fact := range e.Facts {
			if v, ok := strings.CutPrefix(fact, attribute); ok && strings.HasPrefix(v, "=") && match(v[1:]) {
				return true
			}
		}
		return false
	})
}

// holds reports whether the DN dn is within the scope of q.
func (q *Query) holds(dn string) bool {
	if q.Base == "" {
		return q.Scope == ScopeSubtree
	}
	if dn == q.Base {
		return q.Scope != ScopeOne
	}
	above, ok := strings.CutSuffix(dn, ","+q.Base)
	if !ok || q.Scope == ScopeBase {
		return false
	}
	return q.Scope == ScopeSubtree || isRDN(above)
}

// isRDN reports whether a part of a DN in normal form is one name only.
func isRDN(s string) bool {
	for i := 0; i < len(s); i++ {
		switch s[i] {
		case '\\':
			i++
		case ',':
			return false
		}
	}
	return true
}
