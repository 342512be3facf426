package ldap

import (
	"sync"
	"time"

	"github.com/go-ldap/ldap/v3"
)

// replication is what is known of the way of changes from one domain controller to
// the others: which of them have told of each, and which have not yet.
type replication struct {
	mu      sync.Mutex // guards what follows
	live    map[string]bool
	changes map[objectGUID]*spread
}

// spread is a change of one entry on its way.
type spread struct {
	since time.Time
	told  map[string]bool // by which servers
}

const (
	// maxSpread bounds how many changes on their way are known.
	maxSpread = 10_000
	// doubtAfter is after how long a change that a server has not told of is
	// looked for there: it may have told of two at once.
	doubtAfter = 5 * time.Second
)

// up says whether a server tells of changes now.
func (r *replication) up(server string, is bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.live == nil {
		r.live, r.changes = map[string]bool{}, map[objectGUID]*spread{}
	}
	if is {
		r.live[server] = true
	} else {
		delete(r.live, server)
	}
}

// event takes down that a server has told of a change.
func (r *replication) event(server string, le *ldap.Entry) {
	if g, err := entryGUID(le); err == nil {
		r.told(g, server)
	}
}

// told takes down that servers have a change of an entry.
func (r *replication) told(g objectGUID, servers ...string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.live) < 2 {
		clear(r.changes)
		return
	}
	c := r.changes[g]
	if c == nil {
		if len(r.changes) >= maxSpread {
			return
		}
		c = &spread{time.Now(), map[string]bool{}}
		r.changes[g] = c
	}
	for _, s := range servers {
		c.told[s] = true
	}
	for s := range r.live {
		if !c.told[s] {
			return
		}
	}
	delete(r.changes, g)
}

// behind is how long the oldest change has been missing on a server, 0 if none is.
func (r *replication) behind(server string) time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	var most time.Duration
	for _, c := range r.changes {
		if r.live[server] && !c.told[server] {
			most = max(most, time.Since(c.since))
		}
	}
	return most
}

// doubtful are changes that a server, or the followed one, should have told of by
// now.
func (r *replication) doubtful(server, followed string) []objectGUID {
	r.mu.Lock()
	defer r.mu.Unlock()
	var list []objectGUID
	for g, c := range r.changes {
		if time.Since(c.since) > doubtAfter && c.told[server] != c.told[followed] && len(list) < rereadSize {
			list = append(list, g)
		}
	}
	return list
}
