package ldap

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/go-ldap/ldap/v3"

	"dirpost/directory"
)

const (
	// batchSize is how many changes are handed over at once during a refresh.
	batchSize = 2000
	// defaultPageSize is how many entries are asked for at once. Active Directory
	// gives at most 1,000.
	defaultPageSize = 500
	// pageLimit bounds one page. Samba looks for all of a domain before it gives
	// the first; a server that has not answered by then never will, and whoever
	// follows changes on the connection would wait with it.
	pageLimit = time.Minute
)

// base is what the sources share.
type base struct {
	client *Client
	log    *slog.Logger
}

// mapper is the mapping by which the directory is read now.
func (b *base) mapper() *mapper { return b.client.mapping.Load() }

// Name implements directory.Source.
func (b *base) Name() string { return b.client.cfg.Name }

// request is the search for everything that mail should know of.
func (b *base) request() *ldap.SearchRequest {
	return ldap.NewSearchRequest(b.client.cfg.Base, ldap.ScopeWholeSubtree, ldap.NeverDerefAliases, 0, 0, false,
		b.mapper().filter, b.mapper().attributes, b.mapper().controls())
}

// change maps an entry. What cannot be read of it is logged; an entry that is
// of no use to mail is gone, as far as mail goes.
func (b *base) change(le *ldap.Entry, id string) directory.Change {
	e, problems := b.mapper().entry(le, id)
	for i, p := range problems {
		if i == 10 {
			b.log.Warn("directory entry has more values that cannot be read", "dn", le.DN, "count", len(problems))
			break
		}
		b.log.Warn("directory entry has a value that cannot be read", "dn", le.DN, "err", p)
	}
	return directory.Change{Key: b.key(id), Entry: e}
}

func (b *base) key(id string) directory.Key { return directory.Key(b.client.cfg.Name + ":" + id) }

// sleep waits for d or until ctx is done.
func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// poller compares everything again and again, for servers that tell no
// changes. It reads in pages and hands over as it reads, so its memory does
// not grow with the directory.
type poller struct {
	base
	standing
}

// Lag implements directory.Source.
func (p *poller) Lag() time.Duration { return p.client.cfg.PollEvery }

// Follow implements directory.Source. It has no use for a cookie.
func (p *poller) Follow(ctx context.Context, _ []byte, emit func(context.Context, directory.Batch) error) error {
	if err := p.client.settle(ctx); err != nil {
		return err
	}
	for {
		if err := p.compare(ctx, emit); err != nil {
			return fmt.Errorf("compare directory %q: %w", p.Name(), err)
		}
		if err := sleep(ctx, p.client.cfg.PollEvery); err != nil {
			return err
		}
	}
}

// compare reads everything once.
func (p *poller) compare(ctx context.Context, emit func(context.Context, directory.Batch) error) (err error) {
	start := time.Now()
	c, err := p.client.read.get(ctx)
	if err != nil {
		return err
	}
	defer func() { p.client.read.put(c, err) }()
	p.at(c.server.url)
	last, err := p.readAll(ctx, c, emit, nil)
	if err != nil {
		return err
	}
	last.At = start
	return emit(ctx, last)
}

// readAll reads everything on c and hands it over page by page, all but the last
// batch, which completes the comparison. After each page it calls between, if
// there is one.
func (b *base) readAll(ctx context.Context, c *conn, emit func(context.Context, directory.Batch) error, between func(context.Context) error) (directory.Batch, error) {
	// An empty or missing base is an error of configuration or rights, never
	// the news that everybody has left.
	if err := b.client.readBase(ctx, c); err != nil {
		return directory.Batch{}, err
	}
	batch, named := directory.Batch{Begin: true}, true
	err := b.pages(ctx, c, b.request(), func(entries []*ldap.Entry, more bool) error {
		for _, le := range entries {
			ok, err := b.add(ctx, c, &batch, le)
			if err != nil {
				return err
			}
			named = named && ok
		}
		if !more {
			return nil
		}
		err := emit(ctx, batch)
		batch = directory.Batch{}
		if err == nil && between != nil {
			err = between(ctx)
		}
		return err
	})
	// As long as there are entries that cannot be told apart, perhaps since the
	// account may not read their identifier any more, nobody has gone.
	batch.Complete, batch.Vanish = true, named
	return batch, err
}

// pages searches in pages (RFC 2696) and hands each to page, with whether there
// are more.
func (b *base) pages(ctx context.Context, c *conn, req *ldap.SearchRequest, page func(entries []*ldap.Entry, more bool) error) error {
	paging := ldap.NewControlPaging(b.client.cfg.pageSize)
	controls := req.Controls
	for {
		req.Controls = append(controls[:len(controls):len(controls)], paging)
		res, err := c.search(ctx, pageLimit, req)
		if err != nil {
			return b.client.searchError(err)
		}
		b.client.ignoreReferrals(res.Referrals)
		answer, _ := ldap.FindControl(res.Controls, ldap.ControlTypePaging).(*ldap.ControlPaging)
		more := answer != nil && len(answer.Cookie) > 0
		if err := page(res.Entries, more); err != nil || !more {
			return err
		}
		paging.SetCookie(answer.Cookie)
	}
}

// add appends one entry to batch, unless nothing names it.
func (b *base) add(ctx context.Context, c *conn, batch *directory.Batch, le *ldap.Entry) (named bool, err error) {
	if err := b.completeRanges(ctx, c, le); err != nil {
		return false, err
	}
	id, err := b.id(le)
	if err != nil {
		b.log.Warn("directory entry without identifier is not used", "dn", le.DN, "err", err)
		return false, nil
	}
	batch.Changes = append(batch.Changes, b.change(le, id))
	return true, nil
}

// id returns the identifier of an entry that came without one in a control.
func (b *base) id(le *ldap.Entry) (string, error) {
	for _, s := range b.mapper().fields["id"] {
		for _, v := range le.GetEqualFoldRawAttributeValues(s.attribute) {
			return s.decode(string(v))
		}
	}
	return "", fmt.Errorf("no attribute that names it for ever; may %s read it?", b.client.cfg.account())
}
