package ldap

import (
	"context"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/go-ldap/ldap/v3"
)

// selfByRules reads the access rules of an OpenLDAP server (slapd.access(5)), where its
// configuration may be read.
func (c *Client) selfByRules(ctx context.Context, nc *conn, mapped map[string][]string) (SelfPower, error) {
	db, err := c.configuration(ctx, nc)
	if err != nil || db == nil {
		return SelfPower{}, err
	}
	rules, end := reached(db.rules)
	check := SelfCheck{}
	for _, a := range slices.Sorted(maps.Keys(mapped)) {
		if selfMayWrite(rules, a) {
			check.add(a, mapped[a])
		}
	}
	found := SelfPower{How: "access rules of the server", Writable: check.Writable}
	if !end && !db.front {
		found.Unknown = frontUnknown
	}
	return found, nil
}

// selfMayWrite reports whether access rules let people write an attribute in their own
// entry. Of the rules that are about it the first one counts; one for some entries
// only may be for people, or not, so that the next one is looked at too.
func selfMayWrite(rules []string, attribute string) bool {
	about := map[string]bool{strings.ToLower(attribute): true}
	for _, rule := range rules {
		words := strings.Fields(strings.ToLower(rule))
		by := slices.Index(words, "by")
		if by < 0 || !mayBeAbout(rule, about) {
			continue
		}
		access, onward := selfAccess(words[by:])
		if letsWrite(access) {
			return true
		}
		some := slices.ContainsFunc(words[:by], func(w string) bool {
			return strings.HasPrefix(w, "dn") || strings.HasPrefix(w, "filter=")
		})
		if !some && !onward {
			return false
		}
	}
	return false
}

// selfAccess returns what the clauses of a rule, "by WHO ACCESS CONTROL", give to whom
// the entry is of, and whether the rules behind it count too.
func selfAccess(words []string) (access string, onward bool) {
	var got []string
	for len(words) > 1 {
		end := slices.Index(words[1:], "by") + 1
		if end == 0 {
			end = len(words)
		}
		clause := words[1:end]
		words = words[end:]
		if len(clause) == 0 || !slices.Contains([]string{"self", "users", "*"}, clause[0]) {
			continue
		}
		got = append(got, clause[1:]...)
		switch {
		case slices.Contains(clause, "break"):
			return strings.Join(got, " "), true
		case !slices.Contains(clause, "continue"):
			return strings.Join(got, " "), false
		}
	}
	return strings.Join(got, " "), false
}

// selfACE is an entry of an access list in text ([MS-DTYP] §2.5.1.1) that allows
// something to the object itself: rights and the GUID that they are about.
var selfACE = regexp.MustCompile(`(?i)\(O?A;[^;()]*;([A-Z]*);([0-9a-f-]*);[^;()]*;(?:PS|S-1-5-10)\)`)

// selfByDefault returns the GUIDs of the attributes and sets of attributes that people
// may write in themselves as the schema makes them, "" for all. That it may not be
// read is no error.
func (c *Client) selfByDefault(ctx context.Context, nc *conn) ([]string, error) {
	root, err := readOne(ctx, nc, c.cfg.Timeout, "", "(objectClass=*)", "schemaNamingContext")
	if err != nil || root == nil {
		return nil, err
	}
	req := ldap.NewSearchRequest(root.GetEqualFoldAttributeValue("schemaNamingContext"), ldap.ScopeSingleLevel, ldap.NeverDerefAliases, 1, 0, false,
		"(&(objectClass=classSchema)(lDAPDisplayName=user))", []string{"defaultSecurityDescriptor"}, nil)
	res, err := nc.search(ctx, c.cfg.Timeout, req)
	if err != nil && broken(err) {
		return nil, err
	}
	if err != nil || len(res.Entries) == 0 {
		return nil, nil
	}
	return selfWrites(res.Entries[0].GetEqualFoldAttributeValue("defaultSecurityDescriptor")), nil
}

// selfWrites is selfByDefault of a descriptor in text.
func selfWrites(sddl string) []string {
	var all []string
	for _, m := range selfACE.FindAllStringSubmatch(sddl, -1) {
		rights := strings.ToUpper(m[1])
		for i := 0; i+1 < len(rights); i += 2 {
			if r := rights[i : i+2]; r == "WP" || r == "GW" || r == "GA" {
				all = append(all, strings.ToLower(m[2]))
				break
			}
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}
