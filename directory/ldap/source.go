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
	// pageSize is how many entries are asked for at once. Active Directory gives
	// at most 1,000.
	pageSize = 500
)

// Source returns the change source of the directory, by Config.Follow.
func (c *Client) Source(log *slog.Logger) directory.Source {
	m, _ := newMapper(c.cfg) // New has made sure that it compiles
	b := base{client: c, mapper: m, log: log.With("directory", c.cfg.Name)}
	if c.cfg.Follow == FollowSyncrepl {
		return &syncrepl{base: b}
	}
	return &poller{base: b}
}

// base is what the sources share.
type base struct {
	client *Client
	mapper *mapper
	log    *slog.Logger
}

// Name implements directory.Source.
func (b *base) Name() string { return b.client.cfg.Name }

// request is the search for everything that mail should know of.
func (b *base) request() *ldap.SearchRequest {
	return ldap.NewSearchRequest(b.client.cfg.Base, ldap.ScopeWholeSubtree, ldap.NeverDerefAliases, 0, 0, false,
		b.client.cfg.Filter, b.mapper.attributes, nil)
}

// change maps an entry. What cannot be read of it is logged; an entry that is
// of no use to mail is gone, as far as mail goes.
func (b *base) change(le *ldap.Entry, id string) directory.Change {
	e, problems := b.mapper.entry(le, id)
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
type poller struct{ base }

// Lag implements directory.Source.
func (p *poller) Lag() time.Duration { return p.client.cfg.PollEvery }

// Follow implements directory.Source. It has no use for a cookie.
func (p *poller) Follow(ctx context.Context, _ []byte, emit func(context.Context, directory.Batch) error) error {
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
	// An empty or missing base is an error of configuration or rights, never
	// the news that everybody has left.
	if err := p.client.readBase(ctx, c); err != nil {
		return err
	}
	paging := ldap.NewControlPaging(pageSize)
	batch, named := directory.Batch{Begin: true}, true
	for {
		req := p.request()
		req.Controls = []ldap.Control{paging}
		var res *ldap.SearchResult
		if err := c.do(ctx, func() (err error) { res, err = c.Search(req); return err }); err != nil {
			return err
		}
		for _, le := range res.Entries {
			ok, err := p.add(ctx, c, &batch, le)
			if err != nil {
				return err
			}
			named = named && ok
		}
		answer, _ := ldap.FindControl(res.Controls, ldap.ControlTypePaging).(*ldap.ControlPaging)
		if answer == nil || len(answer.Cookie) == 0 {
			break
		}
		paging.SetCookie(answer.Cookie)
		if err := emit(ctx, batch); err != nil {
			return err
		}
		batch = directory.Batch{}
	}
	// As long as there are entries that cannot be told apart, perhaps since the
	// account may not read their identifier any more, nobody has gone.
	batch.Complete, batch.Vanish, batch.At = true, named, start
	return emit(ctx, batch)
}

// add appends one entry to batch, unless nothing names it.
func (p *poller) add(ctx context.Context, c *conn, batch *directory.Batch, le *ldap.Entry) (named bool, err error) {
	if err := p.completeRanges(ctx, c, le); err != nil {
		return false, err
	}
	id, err := p.id(le)
	if err != nil {
		p.log.Warn("directory entry without identifier is not used", "dn", le.DN, "err", err)
		return false, nil
	}
	batch.Changes = append(batch.Changes, p.change(le, id))
	return true, nil
}

// id returns the identifier of an entry that came without one in a control.
func (b *base) id(le *ldap.Entry) (string, error) {
	for _, s := range b.mapper.fields["id"] {
		for _, v := range le.GetEqualFoldRawAttributeValues(s.attribute) {
			return s.decode(string(v))
		}
	}
	return "", fmt.Errorf("no attribute that names it for ever; may %s read it?", b.client.cfg.account())
}
