package ldap

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/go-ldap/ldap/v3"

	"dirpost/directory"
)

// Where there are many entries, to compare all identifiers takes longer than a change
// may. Two cheaper questions come before. Which numbers of changes are those of entries
// that can be seen: a deletion has one that is nobody's, so that mostly nothing need be
// compared. And who is missing among the members of the largest groups: to read a
// member costs a domain controller a small part of what an entry costs it, and whoever
// was deleted is no member any more, while the group itself does not count as changed.
const (
	// manyEntries is from how many entries on these are asked.
	manyEntries = 2000
	// mostNumbers is for how many numbers it is asked whose they are.
	mostNumbers = 5000
	// mostGroups is the members of how many groups are compared.
	mostGroups = 500
	// groupsAtOnce and membersAtOnce bound what is asked for in one search.
	groupsAtOnce, membersAtOnce = 50, 20_000
	// mostSuspects is how many who are missing are looked for by name; where there are
	// more, the comparison of identifiers finds the others.
	mostSuspects = 2000
	// chooseEvery is how often the groups are chosen anew.
	chooseEvery = 10 * time.Minute
)

// hasMany reports whether the cheaper questions are worth it.
func (s *dirsyncSession) hasMany() bool {
	return s.live != nil && s.snapshot().Len() >= s.client.cfg.manyEntries
}

// explain takes down that the number of the last change has moved on to usn, and that
// DirSync has named some entries since.
func (s *dirsyncSession) explain(ctx context.Context, usn, named int64) error {
	if s.deleted.told || !s.hasMany() {
		s.deleted.moved(usn-s.usn, named)
		return nil
	}
	seen, err := s.visible(ctx, s.usn, usn)
	if err != nil {
		return fmt.Errorf("look whose changes there were: %w", err)
	}
	s.deleted.looked(s.usn, usn, seen)
	return nil
}

// visible is how many of the numbers behind from, up to to, are those of the last change
// of an entry that can be seen, wherever it is. An entry with two changes has one of
// them only, so that it may be too few.
func (s *dirsyncSession) visible(ctx context.Context, from, to int64) (int64, error) {
	if from == 0 || to-from > mostNumbers {
		return 0, nil
	}
	numbers := make(map[int64]struct{}, to-from)
	for _, nc := range s.dsa.contexts {
		req := ldap.NewSearchRequest(nc, ldap.ScopeWholeSubtree, ldap.NeverDerefAliases, 0, 0, false,
			fmt.Sprintf("(&(uSNChanged>=%d)(uSNChanged<=%d))", from+1, to), []string{"uSNChanged"}, nil)
		err := s.pages(ctx, s.conn, req, func(entries []*ldap.Entry, _ bool) error {
			for _, le := range entries {
				if n, err := strconv.ParseInt(le.GetEqualFoldAttributeValue("uSNChanged"), 10, 64); err == nil && n > from && n <= to {
					numbers[n] = struct{}{}
				}
			}
			return nil
		})
		if broken(err) {
			return 0, err
		}
		if int64(len(numbers)) == to-from {
			break
		}
	}
	return int64(len(numbers)), nil
}

// compareLinksIfDue compares what groups name, if it is time.
func (s *dirsyncSession) compareLinksIfDue(ctx context.Context) error {
	if wait, due := s.deleted.waitLinks(time.Now(), s.client.cfg.PollEvery); wait > 0 || !due {
		return nil
	}
	start, unseen := time.Now(), s.deleted.links.unseen
	if s.hasMany() {
		if err := s.compareLinks(ctx); err != nil {
			return fmt.Errorf("compare members: %w", err)
		}
	}
	s.deleted.links.unseen -= unseen
	s.deleted.links.spend(time.Now(), time.Since(start))
	return nil
}

// compareLinks looks for those who are members of groups no more, and hands over who of
// them is gone.
func (s *dirsyncSession) compareLinks(ctx context.Context) error {
	if time.Since(s.chosen) >= chooseEvery {
		s.groups, s.chosen = largestGroups(s.snapshot(), s.Name()), time.Now()
	}
	missing := s.reread()
	var some []*directory.Entry
	members := 0
	ask := func() error {
		err := missing.suspects(ctx, some)
		some, members = nil, 0
		return err
	}
	for _, key := range s.groups {
		g := s.snapshot().ByKey(key)
		if !isThere(g) {
			continue
		}
		if len(some) == groupsAtOnce || len(some) > 0 && members+len(g.Members) > membersAtOnce {
			if err := ask(); err != nil {
				return err
			}
		}
		some, members = append(some, g), members+len(g.Members)
	}
	if err := ask(); err != nil || len(missing.queue) == 0 {
		return err
	}
	return missing.judge(ctx, s.snapshot())
}

// largestGroups chooses groups of one directory that name most of those who are members
// of any, and few of them twice.
func largestGroups(s *directory.Snapshot, name string) []directory.Key {
	type group struct {
		key     directory.Key
		members int
	}
	var all []group
	for key := range s.Keys(name) {
		if e := s.ByKey(key); e.Kind == directory.KindList && len(e.Members) > 0 {
			all = append(all, group{key, len(e.Members)})
		}
	}
	slices.SortFunc(all, func(a, b group) int {
		return cmp.Or(cmp.Compare(b.members, a.members), cmp.Compare(a.key, b.key))
	})
	var chosen []directory.Key
	named := map[string]struct{}{}
	for _, g := range all {
		if len(chosen) == mostGroups {
			break
		}
		members, fresh := s.ByKey(g.key).Members, 0
		for _, m := range members {
			if _, is := named[m]; !is {
				fresh++
			}
		}
		if 2*fresh < len(members) {
			continue
		}
		for _, m := range members {
			named[m] = struct{}{}
		}
		chosen = append(chosen, g.key)
	}
	return chosen
}

// suspects queues who was a member of some groups and is none now, and groups that are
// not there.
func (r *reread) suspects(ctx context.Context, groups []*directory.Entry) error {
	known := make(map[objectGUID]*directory.Entry, len(groups))
	var list []objectGUID
	for _, g := range groups {
		if id, ok := r.guidOf(g.Key); ok {
			known[id] = g
			list = append(list, id)
		}
	}
	attributes := r.memberAttributes()
	if len(list) == 0 || len(attributes) == 0 || len(r.queue) >= mostSuspects {
		return nil
	}
	err := r.few(ctx, anyGUID(list), append(attributes, "objectGUID"), func(le *ldap.Entry) error {
		id, err := entryGUID(le)
		if err != nil {
			return err
		}
		g := known[id]
		delete(known, id)
		if err := r.completeRanges(ctx, r.conn, le); broken(err) {
			return err
		} else if err == nil && g != nil { // else it changes in this moment
			r.lost(g, le)
		}
		return nil
	})
	if err != nil {
		return err
	}
	for id := range known {
		r.want(id)
	}
	return nil
}

// memberAttributes are those that name members by DN.
func (r *reread) memberAttributes() []string {
	var all []string
	for _, s := range r.mapper().fields["member"] {
		if s.list == nil {
			all = append(all, s.attribute)
		}
	}
	return all
}

// lost queues who was a member of a group, and is none in what was read of it now.
func (r *reread) lost(was *directory.Entry, is *ldap.Entry) {
	there := make(map[string]struct{}, len(was.Members))
	for _, a := range is.Attributes {
		if strings.EqualFold(a.Name, "objectGUID") {
			continue
		}
		for _, v := range a.Values {
			there[directory.NormalizeDN(v)] = struct{}{}
		}
	}
	s := r.snapshot()
	for _, m := range was.Members {
		if len(r.queue) >= mostSuspects {
			return
		}
		if _, is := there[m]; is {
			continue
		}
		if e := s.ByDN(m); isThere(e) {
			r.wantKeys([]directory.Key{e.Key})
		}
	}
}
