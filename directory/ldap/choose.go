package ldap

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"dirpost/directory"
)

// Source returns the change source of the directory, by Config.Follow.
func (c *Client) Source(log *slog.Logger) directory.Source {
	b := base{client: c, log: log.With("directory", c.cfg.Name)}
	if c.cfg.Follow == FollowAuto {
		return &chosen{base: b}
	}
	return b.source(c.cfg.Follow)
}

// source returns the source of one kind.
func (b base) source(follow string) directory.Source {
	switch follow {
	case FollowSyncrepl:
		return &syncrepl{base: b}
	case FollowDirSync:
		return &dirsync{base: b}
	}
	return &poller{base: b}
}

// chosen asks the server what it offers, and follows in that way.
type chosen struct {
	base
	live *directory.Live

	mu     sync.Mutex // guards source
	source directory.Source
}

// Look implements directory.Looker.
func (c *chosen) Look(live *directory.Live) { c.live = live }

func (c *chosen) current() directory.Source {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.source
}

// Lag implements directory.Source.
func (c *chosen) Lag() time.Duration {
	if s := c.current(); s != nil {
		return s.Lag()
	}
	return 0
}

// Status implements directory.Reporter.
func (c *chosen) Status() directory.SourceStatus {
	if r, ok := c.current().(directory.Reporter); ok {
		return r.Status()
	}
	return directory.SourceStatus{}
}

// Follow implements directory.Source. The choice is made anew each time: the
// servers of a directory need not all offer the same, and may be reconfigured.
func (c *chosen) Follow(ctx context.Context, cookie []byte, emit func(context.Context, directory.Batch) error) error {
	follow, err := c.choose(ctx)
	if err != nil {
		return err
	}
	source := c.current()
	if source == nil || kind(source) != follow {
		source = c.base.source(follow)
		if looker, ok := source.(directory.Looker); ok && c.live != nil {
			looker.Look(c.live)
		}
		c.mu.Lock()
		c.source = source
		c.mu.Unlock()
		c.log.Info("directory is followed", "by", follow)
	}
	return source.Follow(ctx, cookie, emit)
}

// kind is the word of the configuration for a source.
func kind(s directory.Source) string {
	switch s.(type) {
	case *syncrepl:
		return FollowSyncrepl
	case *dirsync:
		return FollowDirSync
	}
	return FollowPoll
}

// choose asks the server that answers now.
func (c *chosen) choose(ctx context.Context) (follow string, err error) {
	nc, err := c.client.read.get(ctx)
	if err != nil {
		return "", err
	}
	defer func() { c.client.read.put(nc, err) }()
	e, err := c.readObject(ctx, nc, "", "supportedControl")
	if err != nil {
		return "", fmt.Errorf("ask directory %q what it offers: %w", c.Name(), err)
	}
	for _, oid := range e.GetEqualFoldAttributeValues("supportedControl") {
		switch {
		case oid == oidSyncrepl:
			return FollowSyncrepl, nil
		case oid == oidDirSync && c.byGUID() == nil:
			return FollowDirSync, nil
		}
	}
	return FollowPoll, nil
}

// byGUID reports whether the identifier is objectGUID, by which DirSync names
// entries.
func (b *base) byGUID() error {
	if id := b.mapper().fields["id"]; len(id) == 0 || id[0].attribute != "objectguid" {
		return errors.New(`follow = "dirsync" wants objectGUID as identifier: drop mapping.id, or set follow = "poll"`)
	}
	return nil
}
