package directory

import (
	"cmp"
	"hash/fnv"
	"iter"
	"maps"
	"slices"
	"strconv"
	"strings"

	"dirpost/internal/envelope"
)

// named returns the entry that one of the directory dir names: by DN, by an
// address (MailName), or, as the DN of a foreign security principal, by SID. A DN
// of which there are two means the one of dir. It is nil for nobody, and where it
// cannot be told who is meant.
func (s *Snapshot) named(dir, name string) *Entry {
	if address, ok := strings.CutPrefix(name, mailScheme); ok {
		a, err := envelope.ParseAddress(address)
		if err != nil {
			return nil
		}
		return s.ByAddress(a)
	}
	var own, other *Entry
	var nOwn, nOther int
	for _, c := range s.candidates(byDN, name) {
		e := s.entry(c)
		switch {
		case !e.has(byDN, name):
		case e.Directory == dir:
			own, nOwn = e, nOwn+1
		default:
			other, nOther = e, nOther+1
		}
	}
	switch {
	case nOwn == 1:
		return own
	case nOwn == 0 && nOther == 1:
		return other
	case nOwn+nOther > 0:
		return nil
	}
	return s.BySID(foreignSID(name))
}

// ForeignName is the name of whoever has a SID, as a member of another domain is named
// in Active Directory, in normal form: for those who are known by nothing else.
func ForeignName(sid string) string {
	return "cn=" + strings.ToLower(sid) + ",cn=foreignsecurityprincipals,cn=sid"
}

// foreignSID returns the SID in the DN, in normal form, of a foreign security
// principal: what Active Directory puts into a group for a member of another
// domain. "" for any other DN.
func foreignSID(dn string) string {
	rest, ok := strings.CutPrefix(dn, "cn=s-1-")
	if !ok {
		return ""
	}
	sid, rest, ok := strings.Cut(rest, ",")
	if !ok || !strings.HasPrefix(rest, "cn=foreignsecurityprincipals,") {
		return ""
	}
	return "S-1-" + sid
}

// loggedIn returns the one entry of a directory that logs in as name: whom a
// memberUid means.
func (s *Snapshot) loggedIn(dir, name string) *Entry {
	var found *Entry
	for _, e := range s.all(byLogin, name) {
		if e.Directory != dir {
			continue
		}
		if found != nil {
			return nil
		}
		found = e
	}
	return found
}

// members yields the members of a group, one by one, however it names them; nil
// for one whose entry is not there. ExternalMembers are not among them.
func (s *Snapshot) members(g *Entry) iter.Seq[*Entry] {
	return func(yield func(*Entry) bool) {
		for _, dn := range g.Members {
			if !yield(s.named(g.Directory, dn)) {
				return
			}
		}
		for _, login := range g.MemberLogins {
			if !yield(s.loggedIn(g.Directory, login)) {
				return
			}
		}
		if g.SID != "" && s.primaries[g.SID] > 0 {
			for bucket := range primaryBuckets {
				for _, e := range s.all(byPrimary, primaryName(g.SID, bucket)) {
					if !yield(e) {
						return
					}
				}
			}
		}
		if len(g.Queries) > 0 {
			for _, key := range s.found.matching(s, g) {
				if !yield(s.ByKey(key)) {
					return
				}
			}
		}
	}
}

// Active Directory names the primary group in the member only. Nearly everybody
// has the same one, so the members of a group are spread over many names of the
// index: else one shard would hold them all, and each change of a person copy it.
const primaryBuckets = 1024

// primaryName is the name of a part of the people whose primary group is sid.
func primaryName(sid string, bucket int) string { return sid + "/" + strconv.Itoa(bucket) }

// primaryBucket returns the part in which an entry is.
func primaryBucket(key Key) int {
	h := fnv.New32a()
	h.Write([]byte(key))
	return int(h.Sum32() % primaryBuckets)
}

// countPrimary notes that n more entries have the primary group sid.
func (b *builder) countPrimary(sid string, n int) {
	if sid == "" {
		return
	}
	if !b.ownPrimaries {
		b.s.primaries, b.ownPrimaries = maps.Clone(b.s.primaries), true
	}
	if b.s.primaries[sid] += n; b.s.primaries[sid] == 0 {
		delete(b.s.primaries, sid)
	}
}

// dynamic is a group whose members are whoever matches one of its queries.
type dynamic struct {
	group   *Entry
	queries []*Query
	roaming bool // a query asks for memberOf, so a change of another entry may matter
}

// matches reports whether e is a member. Only entries of the directory of the
// group are.
func (d *dynamic) matches(s *Snapshot, e *Entry) bool {
	if e.Directory != d.group.Directory || e.Key == d.group.Key {
		return false
	}
	return slices.ContainsFunc(d.queries, func(q *Query) bool { return s.Matches(q, e) })
}

// setDynamic puts the group with key into the list of dynamic groups, or takes it
// out; e nil is one that is not there any more.
func (b *builder) setDynamic(key Key, e *Entry) {
	i, there := slices.BinarySearchFunc(b.s.dynamic, key, func(d *dynamic, key Key) int { return cmp.Compare(d.group.Key, key) })
	if there {
		b.s.dynamic = slices.Delete(slices.Clone(b.s.dynamic), i, i+1)
	}
	if e == nil || len(e.Queries) == 0 {
		return
	}
	d := &dynamic{group: e}
	for _, text := range e.Queries {
		q, err := ParseQuery(text)
		if err != nil {
			continue // the mapping has reported it
		}
		d.queries = append(d.queries, q)
		d.roaming = d.roaming || slices.Contains(q.Attributes(), "memberof")
	}
	b.s.dynamic = slices.Insert(slices.Clone(b.s.dynamic), i, d)
}
