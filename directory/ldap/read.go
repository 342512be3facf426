package ldap

import (
	"context"
	"crypto/sha256"
	"fmt"
	"log/slog"
	"strings"

	"github.com/go-ldap/ldap/v3"

	"dirpost/directory"
)

// Reading is everything that a directory says at one moment, as mail sees it.
type Reading struct {
	Entries []*directory.Entry
	// Problems are the values that could not be read, and entries without
	// identifier.
	Problems []Problem
}

// Problem is what could not be read of one entry.
type Problem struct {
	DN  string
	Err error
}

// Read reads the whole directory once, changed by what changes say should be done
// to it, as far as they are about entries below its base: nothing is written. It is for reports, and keeps everything in memory.
func (c *Client) Read(ctx context.Context, log *slog.Logger, changes []LDIFChange) (Reading, error) {
	if _, err := c.Choice(ctx); err != nil { // the mapping must be settled
		return Reading{}, err
	}
	b := base{client: c, log: log}
	nc, err := c.read.get(ctx)
	if err != nil {
		return Reading{}, err
	}
	defer func() { c.read.put(nc, err) }()
	if err = c.readBase(ctx, nc); err != nil {
		return Reading{}, err
	}
	raw, known := make(tree), make(map[*ldap.Entry]bool)
	var order []string
	err = b.pages(ctx, nc, b.request(), func(entries []*ldap.Entry, _ bool) error {
		for _, le := range entries {
			if err := b.completeRanges(ctx, nc, le); err != nil {
				return err
			}
			dn := directory.NormalizeDN(le.DN)
			raw[dn], known[le] = le, true
			order = append(order, dn)
		}
		return nil
	})
	if err != nil {
		return Reading{}, fmt.Errorf("read directory %q: %w", c.cfg.Name, err)
	}
	for _, change := range changes {
		if !c.holds(change.DN) {
			continue // of another directory
		}
		added, cerr := raw.apply(change)
		if cerr != nil {
			return Reading{}, cerr
		}
		order = append(order, added...)
	}
	var r Reading
	for _, dn := range order {
		le, ok := raw[dn]
		if !ok {
			continue // deleted, or renamed
		}
		delete(raw, dn)
		r.add(&b, le, known[le])
	}
	return r, nil
}

// holds reports whether a DN stands in the directory.
func (c *Client) holds(dn string) bool {
	dn, base := directory.NormalizeDN(dn), directory.NormalizeDN(c.cfg.Base)
	return dn == base || strings.HasSuffix(dn, ","+base)
}

// add maps one entry. One that the directory does not know yet has no identifier
// of its own.
func (r *Reading) add(b *base, le *ldap.Entry, known bool) {
	id, err := b.id(le)
	if err != nil && known {
		r.Problems = append(r.Problems, Problem{le.DN, err})
		return
	}
	if err != nil {
		id = newID(directory.NormalizeDN(le.DN))
	}
	e, problems := b.mapper().entry(le, id)
	for _, p := range problems {
		r.Problems = append(r.Problems, Problem{le.DN, p})
	}
	if e != nil {
		r.Entries = append(r.Entries, e)
	}
}

// newID names an entry that a directory has not named yet.
func newID(dn string) string {
	sum := sha256.Sum256([]byte(dn))
	return formatUUID([16]byte(sum[:16]))
}
