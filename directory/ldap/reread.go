package ldap

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"strings"

	"github.com/go-ldap/ldap/v3"

	"dirpost/directory"
)

// objectGUID is an identifier as Active Directory writes it.
type objectGUID [16]byte

// id is its canonical form, as in keys.
func (g objectGUID) id() string {
	id, _ := guid(string(g[:]))
	return id
}

// guidOf is the identifier in a key of the directory.
func (b *base) guidOf(key directory.Key) (g objectGUID, ok bool) {
	id, ok := strings.CutPrefix(string(key), b.Name()+":")
	raw, err := hex.DecodeString(strings.ReplaceAll(id, "-", ""))
	if !ok || err != nil || len(raw) != len(g) {
		return g, false
	}
	copy(g[:], raw)
	binary.LittleEndian.PutUint32(g[:], binary.BigEndian.Uint32(raw))
	binary.LittleEndian.PutUint16(g[4:], binary.BigEndian.Uint16(raw[4:]))
	binary.LittleEndian.PutUint16(g[6:], binary.BigEndian.Uint16(raw[6:]))
	return g, true
}

// entryGUID is the identifier of an entry.
func entryGUID(le *ldap.Entry) (objectGUID, error) {
	v := le.GetEqualFoldRawAttributeValue("objectGUID")
	if len(v) != 16 {
		return objectGUID{}, fmt.Errorf("%s came without objectGUID", le.DN)
	}
	return objectGUID(v), nil
}

// escapeGUID writes an identifier for a filter (RFC 4515 §3).
func escapeGUID(g objectGUID) string {
	var b strings.Builder
	for _, o := range g {
		fmt.Fprintf(&b, `\%02x`, o)
	}
	return b.String()
}

// anyGUID is the filter for all of list.
func anyGUID(list []objectGUID) string {
	var b strings.Builder
	b.WriteString("(|")
	for _, g := range list {
		b.WriteString("(objectGUID=" + escapeGUID(g) + ")")
	}
	b.WriteString(")")
	return b.String()
}

// rereadSize is how many entries are asked for at once, in one filter.
const rereadSize = 100

// reread reads entries again as they are now. What filter and base do not give is
// gone.
type reread struct {
	*dirsyncSession
	queue []objectGUID
	known map[objectGUID]struct{} // was ever in queue
	batch directory.Batch
}

func (s *dirsyncSession) reread() *reread {
	return &reread{dirsyncSession: s, known: map[objectGUID]struct{}{}}
}

// want queues an entry, once.
func (r *reread) want(g objectGUID) {
	if _, ok := r.known[g]; !ok {
		r.known[g] = struct{}{}
		r.queue = append(r.queue, g)
	}
}

// wantKeys queues entries of the snapshot.
func (r *reread) wantKeys(keys []directory.Key) {
	for _, key := range keys {
		if g, ok := r.guidOf(key); ok {
			r.want(g)
		}
	}
}

// snapshot is what is known now, nil for nothing.
func (d *dirsync) snapshot() *directory.Snapshot {
	if d.live == nil {
		return nil
	}
	return d.live.Snapshot()
}

// delta queues what follows from one entry of DirSync, and returns which it is. It
// has the attributes that have changed, those that were removed without values.
func (r *reread) delta(ctx context.Context, le *ldap.Entry) (objectGUID, error) {
	g, err := entryGUID(le)
	if err != nil {
		return g, err
	}
	r.want(g)
	if strings.EqualFold(le.GetEqualFoldAttributeValue("isDeleted"), "TRUE") {
		r.toldOfDeletions(true)
		return g, nil
	}
	if !has(le, "name") || has(le, "objectClass") {
		return g, nil // neither renamed nor moved nor restored
	}
	known := false
	if s := r.snapshot(); s != nil {
		old := s.ByKey(r.key(g.id()))
		known = old != nil && !old.IsGone()
	}
	if !known {
		// Nobody knows how it was called, and so who named it; only who names it now.
		if err := r.namedBy(ctx, le.DN); err != nil {
			return g, err
		}
	}
	return g, r.below(ctx, g)
}

// isThere reports whether the snapshot has an entry, other than as one that has
// left.
func isThere(e *directory.Entry) bool { return e != nil && !e.IsGone() }

// has reports whether an entry has an attribute, if only an empty one.
func has(le *ldap.Entry, attribute string) bool {
	for _, a := range le.Attributes {
		if name, _, _ := strings.Cut(a.Name, ";"); strings.EqualFold(name, attribute) {
			return true
		}
	}
	return false
}

// below queues everything below a renamed or moved entry: it has another DN, and
// the server does not say so.
func (r *reread) below(ctx context.Context, g objectGUID) error {
	return r.identifiers(ctx, fmt.Sprintf("<GUID=%x>", g[:]), r.mapper().filter)
}

// namedBy queues the entries that name dn.
func (r *reread) namedBy(ctx context.Context, dn string) error {
	var f strings.Builder
	for _, field := range dnFields {
		for _, s := range r.mapper().fields[field] {
			if s.list != nil {
				continue // SIDs, which stay
			}
			fmt.Fprintf(&f, "(%s=%s)", s.attribute, ldap.EscapeFilter(dn))
		}
	}
	if f.Len() == 0 {
		return nil
	}
	return r.identifiers(ctx, r.client.cfg.Base, "(&"+r.mapper().filter+"(|"+f.String()+"))")
}

// dnFields are the logical fields whose values may be DNs.
var dnFields = []string{"member", "query_base", "owner", "moderator", "list_sender", "list_allowed", "list_barred", "access", "send_as", "on_behalf", "forward_to"}

// identifiers queues what a search finds.
func (r *reread) identifiers(ctx context.Context, base, filter string) error {
	req := ldap.NewSearchRequest(base, ldap.ScopeWholeSubtree, ldap.NeverDerefAliases, 0, 0, false, filter, []string{"objectGUID"}, nil)
	err := r.pages(ctx, r.conn, req, func(entries []*ldap.Entry, _ bool) error {
		for _, le := range entries {
			g, err := entryGUID(le)
			if err != nil {
				return err
			}
			r.want(g)
		}
		return nil
	})
	if ldap.IsErrorWithCode(err, ldap.LDAPResultNoSuchObject) {
		return nil // moved on or deleted meanwhile: another delta says so
	}
	return err
}

// finish reads the queue, hands everything over, and with it the cookie.
func (r *reread) finish(ctx context.Context, cookie []byte) error {
	for len(r.queue) > 0 {
		changes, err := r.next(ctx)
		if err != nil {
			return err
		}
		r.batch.Changes = append(r.batch.Changes, changes...)
		if len(r.batch.Changes) >= batchSize && len(r.queue) > 0 {
			if err := r.emit(ctx, r.batch); err != nil {
				return err
			}
			r.batch = directory.Batch{}
		}
	}
	r.batch.Cookie = cookie
	return r.emit(ctx, r.batch)
}

// next reads the front of the queue, and queues what follows from it.
func (r *reread) next(ctx context.Context) ([]directory.Change, error) {
	n := min(len(r.queue), rereadSize)
	list := r.queue[:n]
	r.queue = r.queue[n:]
	changes, err := r.read(ctx, list)
	if err == nil {
		r.follow(changes)
	}
	return changes, err
}

// read reads a part of the queue.
func (r *reread) read(ctx context.Context, list []objectGUID) ([]directory.Change, error) {
	req := r.request()
	req.Filter = "(&" + anyGUID(list) + r.mapper().filter + ")"
	var b directory.Batch
	found := make(map[objectGUID]struct{}, len(list))
	err := r.pages(ctx, r.conn, req, func(entries []*ldap.Entry, _ bool) error {
		for _, le := range entries {
			g, err := entryGUID(le)
			if err != nil {
				return err
			}
			found[g] = struct{}{}
			if _, err := r.add(ctx, r.conn, &b, le); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read changed entries: %w", err)
	}
	for _, g := range list {
		if _, ok := found[g]; !ok {
			b.Changes = append(b.Changes, directory.Change{Key: r.key(g.id())})
		}
	}
	return b.Changes, nil
}

// follow queues the entries that named what is now called otherwise, or gone.
func (r *reread) follow(changes []directory.Change) {
	s := r.snapshot()
	if s == nil {
		return
	}
	for _, c := range changes {
		old := s.ByKey(c.Key)
		if old != nil && (c.Entry == nil || c.Entry.DN != old.DN) {
			r.wantKeys(s.Referrers(old.DN))
		}
	}
}
