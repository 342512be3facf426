package ldap

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/go-ldap/ldap/v3"
)

// maxValues bounds the values of an attribute that come in parts.
const maxValues = 1 << 20

// completeRanges fetches what a server has held back of attributes with many
// values: Active Directory gives 1,500 at a time and says so in the name,
// member;range=0-1499 (MS-ADTS §3.1.1.3.1.3.3).
func (b *base) completeRanges(ctx context.Context, c *conn, le *ldap.Entry) error {
	for _, a := range le.Attributes {
		name, next, more := rangeOf(a.Name)
		for more {
			req := ldap.NewSearchRequest(le.DN, ldap.ScopeBaseObject, ldap.NeverDerefAliases, 0, 0, false,
				"(objectClass=*)", []string{fmt.Sprintf("%s;range=%d-*", name, next)}, nil)
			res, err := c.search(ctx, pageLimit, req)
			if err != nil {
				return fmt.Errorf("read %s of %s from %d: %w", name, le.DN, next, err)
			}
			part := rangePart(res, name)
			if part == nil || len(part.Values) == 0 {
				// A group that is cut short would lose members: rather nothing new
				// from this server than that.
				return fmt.Errorf("%s of %s stops at %d", name, le.DN, next)
			}
			a.Values = append(a.Values, part.Values...)
			at := next
			if _, next, more = rangeOf(part.Name); more && next <= at || len(a.Values) > maxValues {
				return fmt.Errorf("%s of %s does not come to an end", name, le.DN)
			}
		}
		a.Name = name
	}
	// Beside the part there may be the attribute itself, without values.
	le.Attributes = slices.DeleteFunc(le.Attributes, func(a *ldap.EntryAttribute) bool { return len(a.Values) == 0 })
	return nil
}

// rangeOf splits "member;range=0-1499" into the name, the number of the next
// value and whether there are more. The last part ends with "*".
func rangeOf(attribute string) (name string, next int, more bool) {
	name, option, ok := strings.Cut(attribute, ";range=")
	if !ok {
		return attribute, 0, false
	}
	_, last, _ := strings.Cut(option, "-")
	n, err := strconv.Atoi(last)
	if err != nil {
		return name, 0, false
	}
	return name, n + 1, true
}

// rangePart returns the part of attribute name in an answer.
func rangePart(res *ldap.SearchResult, name string) *ldap.EntryAttribute {
	for _, e := range res.Entries {
		for _, a := range e.Attributes {
			if n, _, _ := strings.Cut(a.Name, ";"); strings.EqualFold(n, name) {
				return a
			}
		}
	}
	return nil
}
