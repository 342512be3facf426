package ldap

import (
	"context"
	"fmt"
	"strings"

	"github.com/go-ldap/ldap/v3"

	"dirpost/directory"
	"dirpost/internal/envelope"
)

// maxSought is how many entries with one address are looked at. More than one is a
// mistake that the linter reports.
const maxSought = 16

// Seek implements directory.Seeker, by one search on a connection that is kept.
func (c *Client) Seek(ctx context.Context, names []envelope.Address) (found []directory.Change, err error) {
	nc, err := c.read.get(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { c.read.put(nc, err) }()
	b := base{client: c, log: c.cfg.Log}
	req := b.request()
	req.SizeLimit = maxSought
	if req.Filter = b.mapper().having(names); req.Filter == "" {
		return nil, nil
	}
	res, err := nc.search(ctx, c.cfg.Timeout, req)
	if err != nil && !ldap.IsErrorWithCode(err, ldap.LDAPResultSizeLimitExceeded) {
		return nil, fmt.Errorf("look for an address in directory %q: %w", c.cfg.Name, c.searchError(err))
	}
	c.ignoreReferrals(res.Referrals)
	for _, le := range res.Entries {
		if err := b.completeRanges(ctx, nc, le); err != nil {
			return nil, err
		}
		id, err := b.id(le)
		if err != nil {
			continue // the Source says so when it reads it
		}
		if e, _ := b.mapper().entry(le, id); e != nil {
			found = append(found, directory.Change{Key: b.key(id), Entry: e})
		}
	}
	return found, nil
}

// having is the filter of the entries that mail should know and that may have one of
// these addresses, as far as a filter can find them; "" for none.
func (m *mapper) having(names []envelope.Address) string {
	seen := map[string]bool{}
	var b strings.Builder
	term := func(attribute, value string) {
		t := "(" + attribute + "=" + ldap.EscapeFilter(value) + ")"
		if !seen[t] {
			seen[t] = true
			b.WriteString(t)
		}
	}
	all := []map[string][]source{m.fields}
	for _, v := range m.variants {
		all = append(all, v.fields)
	}
	for _, fields := range all {
		for _, field := range []string{"primary", "alias"} {
			for _, s := range fields[field] {
				if s.list != nil {
					continue
				}
				for _, a := range names {
					for _, spelling := range spellings(a) {
						if strings.EqualFold(s.attribute, "proxyAddresses") {
							term(s.attribute, "smtp:"+spelling)
						}
						term(s.attribute, spelling)
					}
				}
			}
		}
	}
	if b.Len() == 0 {
		return ""
	}
	return "(&" + m.filter + "(|" + b.String() + "))"
}

// spellings are how a directory may write an address: its domain in either form.
func spellings(a envelope.Address) []string {
	out := []string{a.String()}
	if u := a.Unicode(); u != out[0] {
		out = append(out, u)
	}
	return out
}
