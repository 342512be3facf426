package ldap

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// Visible is what the service account sees of some people of the directory.
type Visible struct {
	Filter  string // by which they were looked for, below Base
	Base    string
	Account string // who has looked, for people
	People  int    // that were looked at, some dozens at most
	// Lacking is what nobody has mail without and none of them has: "address" and
	// "lasting identifier".
	Lacking []LackingField
	// Seen are the other mapped attributes of which somebody has a value, sorted.
	Seen []string
}

// LackingField is what nobody has, with the attributes that it is read from.
type LackingField struct {
	Field   string
	Sources []string
}

// CheckVisible reads some people as the service account and says what it sees of
// them. A server that hides entries or attributes says nothing of it: a search just
// finds less.
func (c *Client) CheckVisible(ctx context.Context) (Visible, error) {
	if _, err := c.Choice(ctx); err != nil { // the mapping must be settled
		return Visible{}, err
	}
	nc, err := c.read.get(ctx)
	if err != nil {
		return Visible{}, err
	}
	m := c.mapping.Load()
	people, err := c.sample(ctx, nc, m.attributes)
	c.read.put(nc, err)
	if err != nil {
		return Visible{}, err
	}
	v := Visible{Filter: m.filter, Base: c.cfg.Base, Account: c.cfg.account(), People: len(people)}
	has := make(map[string]bool)
	for _, e := range people {
		for _, a := range e.Attributes {
			if len(a.Values) > 0 {
				has[a.Name] = true
			}
		}
	}
	seen := make(map[string]bool, len(has))
	for name := range has {
		seen[strings.ToLower(name)] = true
	}
	for _, need := range []LackingField{{Field: "lasting identifier"}, {Field: "address"}} {
		fields := []string{"id"}
		if need.Field == "address" {
			fields = []string{"primary", "alias"}
		}
		found := len(people) == 0
		for _, f := range fields {
			for _, s := range m.fields[f] {
				found = found || seen[s.attribute]
				if !slices.Contains(need.Sources, s.name) {
					need.Sources = append(need.Sources, s.name)
				}
			}
		}
		if !found {
			v.Lacking = append(v.Lacking, need)
		}
	}
	v.Seen = slices.Sorted(maps.Keys(has))
	return v, nil
}

// Clock returns how far our clock is ahead of that of the server which answers, to the
// second, as Active Directory tells it (currentTime of the root DSE, MS-ADTS
// §3.1.1.3.2.6); false where the server does not.
func (c *Client) Clock(ctx context.Context) (ahead time.Duration, known bool, err error) {
	nc, err := c.read.get(ctx)
	if err != nil {
		return 0, false, err
	}
	root, err := nc.readRoot(ctx)
	c.read.put(nc, err)
	if err != nil {
		return 0, false, fmt.Errorf("directory %q: %w", c.cfg.Name, err)
	}
	if root.Time.IsZero() {
		return 0, false, nil
	}
	return time.Since(root.Time).Round(time.Second), true, nil
}
