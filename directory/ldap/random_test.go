package ldap

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/go-ldap/ldap/v3"

	"dirpost/directory"
	"dirpost/internal/testenv"
)

// world is a part of a directory in which things happen at random. It knows what
// there is by its DNs, and is wrong about nothing: whatever is refused is a
// mistake of the test.
type world struct {
	*ldap.Conn
	t          testing.TB
	rand       *rand.Rand
	ad         *adUnit // nil: slapd
	base       string
	outside    string // beside base
	containers []string
	people     []string
	groups     []string
	dead       []string // where the deleted ones of a domain are, by objectGUID
	n          int
}

// step does one thing and says what.
func (w *world) step() string {
	steps := []func() string{
		w.addPerson, w.addPerson, w.addGroup, w.addContainer,
		w.change, w.change, w.change, w.disable,
		w.rename, w.rename, w.move, w.move, w.moveOut,
		w.join, w.join, w.join, w.leave, w.own,
		w.remove, w.removeGroup, w.restore, w.renameContainer,
	}
	for {
		if what := steps[w.rand.IntN(len(steps))](); what != "" {
			return what
		}
	}
}

func (w *world) pick(list []string) string {
	if len(list) == 0 {
		return ""
	}
	return list[w.rand.IntN(len(list))]
}

func (w *world) name(what string) string {
	w.n++
	return fmt.Sprintf("%s%d", what, w.n)
}

func (w *world) add(dn string, attributes map[string][]string) {
	w.t.Helper()
	req := ldap.NewAddRequest(dn, nil)
	for a, v := range attributes {
		req.Attribute(a, v)
	}
	must(w.t, w.Add(req))
}

func (w *world) address(name string) string {
	if w.ad != nil {
		return w.ad.address(name)
	}
	return name + "@corp.example"
}

func (w *world) addPerson() string {
	name := w.name("p")
	dn := "CN=" + name + "," + w.pick(w.containers)
	if w.ad != nil {
		w.ad.person(name, strings.TrimPrefix(dn, "CN="+name+","))
	} else {
		w.add(dn, map[string][]string{"objectClass": {"inetOrgPerson"}, "sn": {name}, "uid": {name}, "mail": {w.address(name)}})
	}
	w.people = append(w.people, dn)
	return "add " + dn
}

func (w *world) addGroup() string {
	name := w.name("g")
	member := w.pick(append(slices.Clone(w.people), w.groups...))
	if member == "" {
		return ""
	}
	dn := "CN=" + name + "," + w.base
	if w.ad != nil {
		w.ad.group(name, member)
	} else {
		w.add(dn, map[string][]string{"objectClass": {"groupOfNames", "dirpostList"}, "mail": {w.address(name)}, "member": {member}})
	}
	w.groups = append(w.groups, dn)
	return "add " + dn + " of " + member
}

func (w *world) addContainer() string {
	if len(w.containers) > 6 {
		return ""
	}
	dn := "OU=" + w.name("o") + "," + w.pick(w.containers)
	w.add(dn, map[string][]string{"objectClass": {"organizationalUnit"}})
	w.containers = append(w.containers, dn)
	return "add " + dn
}

func (w *world) change() string {
	dn := w.pick(w.people)
	if dn == "" {
		return ""
	}
	modify(w.t, w.Conn, dn, "mail", w.address(w.name("m")))
	return "change " + dn
}

func (w *world) disable() string {
	dn := w.pick(w.people)
	if dn == "" || w.ad == nil {
		return ""
	}
	modify(w.t, w.Conn, dn, "userAccountControl", w.pick([]string{"512", "514"}))
	return "disable or enable " + dn
}

// moved takes down that what was at or below from is now at or below to.
func (w *world) moved(from, to string) {
	for _, list := range [][]string{w.containers, w.people, w.groups} {
		for i, dn := range list {
			if dn == from || strings.HasSuffix(dn, ","+from) {
				list[i] = strings.TrimSuffix(dn, from) + to
			}
		}
	}
}

func split2(dn string) (rdn, superior string) {
	rdn, superior, _ = strings.Cut(dn, ",")
	return rdn, superior
}

func (w *world) modifyDN(dn, rdn, superior string) string {
	w.t.Helper()
	err := w.ModifyDN(ldap.NewModifyDNRequest(dn, rdn, true, superior))
	if w.ad == nil && ldap.IsErrorWithCode(err, ldap.LDAPResultOther) {
		return "" // slapd fails now and then: DN index add failed
	}
	must(w.t, err)
	_, old := split2(dn)
	to := rdn + "," + cmp.Or(superior, old)
	w.moved(dn, to)
	return "rename " + dn + " to " + to
}

func (w *world) rename() string {
	dn := w.pick(append(slices.Clone(w.people), w.groups...))
	if dn == "" {
		return ""
	}
	return w.modifyDN(dn, "CN="+w.name("r"), "")
}

func (w *world) move() string {
	dn, to := w.pick(w.people), w.pick(w.containers)
	rdn, from := split2(dn)
	if dn == "" || from == to {
		return ""
	}
	return w.modifyDN(dn, rdn, to)
}

func (w *world) moveOut() string {
	dn := w.pick(w.people)
	rdn, from := split2(dn)
	if dn == "" || from == w.outside {
		return ""
	}
	return w.modifyDN(dn, rdn, w.outside)
}

func (w *world) renameContainer() string {
	dn := w.pick(w.containers)
	if dn == w.base || w.rand.IntN(2) == 0 {
		return ""
	}
	return w.modifyDN(dn, "OU="+w.name("o"), "")
}

// members does what is possible; a member twice, or none at all, is refused.
func (w *world) members(add bool) string {
	group, member := w.pick(w.groups), w.pick(append(slices.Clone(w.people), w.groups...))
	if group == "" || member == "" || group == member {
		return ""
	}
	req := ldap.NewModifyRequest(group, nil)
	if add {
		req.Add("member", []string{member})
	} else {
		req.Delete("member", []string{member})
	}
	err := w.Modify(req)
	if ldap.IsErrorAnyOf(err, ldap.LDAPResultAttributeOrValueExists, ldap.LDAPResultNoSuchAttribute, ldap.LDAPResultUnwillingToPerform,
		ldap.LDAPResultObjectClassViolation, ldap.LDAPResultEntryAlreadyExists, ldap.LDAPResultConstraintViolation) {
		return ""
	}
	must(w.t, err)
	return fmt.Sprintf("member of %s: %s, %v", group, member, add)
}

func (w *world) join() string  { return w.members(true) }
func (w *world) leave() string { return w.members(false) }

func (w *world) own() string {
	group, owner, attribute := w.pick(w.groups), w.pick(w.people), "owner"
	if group == "" || owner == "" {
		return ""
	}
	if w.ad != nil {
		attribute = "managedBy"
	}
	modify(w.t, w.Conn, group, attribute, owner)
	return "owner of " + group + ": " + owner
}

func (w *world) drop(list *[]string, what string) string {
	dn := w.pick(*list)
	if dn == "" || len(*list) < 3 {
		return ""
	}
	if w.ad != nil && what == "person" {
		res, err := w.Search(ldap.NewSearchRequest(dn, ldap.ScopeBaseObject, 0, 0, 0, false, "(objectClass=*)", []string{"objectGUID"}, nil))
		must(w.t, err)
		g, err := entryGUID(res.Entries[0])
		must(w.t, err)
		w.dead = append(w.dead, fmt.Sprintf("<GUID=%x>", g[:]))
	}
	must(w.t, w.Del(ldap.NewDelRequest(dn, nil)))
	*list = slices.DeleteFunc(*list, func(s string) bool { return s == dn })
	return "delete " + dn
}

func (w *world) remove() string      { return w.drop(&w.people, "person") }
func (w *world) removeGroup() string { return w.drop(&w.groups, "group") }

// restore brings a deleted entry of a domain back ([MS-ADTS] §3.1.1.5.3.7). Its
// addresses are lost with a plain tombstone, so they are given anew.
func (w *world) restore() string {
	guid := w.pick(w.dead)
	if guid == "" {
		return ""
	}
	w.dead = slices.DeleteFunc(w.dead, func(s string) bool { return s == guid })
	dn := "CN=" + w.name("b") + "," + w.base
	deleted := []ldap.Control{ldap.NewControlMicrosoftShowDeleted()}
	res, err := w.Search(ldap.NewSearchRequest(guid, ldap.ScopeBaseObject, 0, 0, 0, false, "(objectClass=*)", []string{"1.1"}, deleted))
	must(w.t, err)
	req := ldap.NewModifyRequest(res.Entries[0].DN, deleted)
	req.Delete("isDeleted", nil)
	req.Replace("distinguishedName", []string{dn})
	must(w.t, w.Modify(req))
	modify(w.t, w.Conn, dn, "mail", w.address(w.name("m")))
	w.people = append(w.people, dn)
	return "restore " + dn
}

// fresh is what a comparison from nothing gives.
func fresh(t testing.TB, cfg Config) map[directory.Key]*directory.Entry {
	t.Helper()
	cfg.Follow = FollowPoll
	all := map[directory.Key]*directory.Entry{}
	done := errors.New("done")
	err := client(t, cfg).Source(quiet).Follow(t.Context(), nil, func(_ context.Context, b directory.Batch) error {
		for _, c := range b.Changes {
			if c.Entry != nil {
				all[c.Key] = c.Entry
			}
		}
		if b.Complete {
			return done
		}
		return nil
	})
	if !errors.Is(err, done) {
		t.Fatal(err)
	}
	return all
}

// essence is an entry without the time of its last change, which also moves when
// something changes that mail does not look at, without what the feeder keeps of
// former times, and without members and owners who are not there: nobody says that
// somebody outside the base was deleted.
func essence(t testing.TB, e *directory.Entry, dns map[string]bool) string {
	t.Helper()
	c := *e
	c.Modified, c.Former, c.Claims, c.Origins = time.Time{}, nil, nil, nil
	for _, list := range []*[]string{&c.Members, &c.Owners} {
		*list = append([]string(nil), slices.DeleteFunc(slices.Clone(*list), func(dn string) bool { return !dns[dn] })...)
	}
	b, err := json.Marshal(c)
	must(t, err)
	return string(b)
}

// differences says in what a snapshot differs from what there is.
func differences(t testing.TB, s *directory.Snapshot, want map[directory.Key]*directory.Entry) []string {
	t.Helper()
	var diff []string
	seen, dns := map[directory.Key]bool{}, map[string]bool{}
	for _, e := range want {
		dns[directory.NormalizeDN(e.DN)] = true
	}
	for e := range s.All() {
		if !e.Gone.IsZero() {
			continue
		}
		seen[e.Key] = true
		w := ""
		if want[e.Key] != nil {
			w = essence(t, want[e.Key], dns)
		}
		if got := essence(t, e, dns); got != w {
			diff = append(diff, fmt.Sprintf("\ngot  %s\nwant %s", got, w))
		}
	}
	for key, e := range want {
		if !seen[key] {
			diff = append(diff, "\nmissing "+essence(t, e, dns))
		}
	}
	return diff
}

// randomSteps is how much happens, 60 without the variable: DIRPOST_RANDOM=2000
// go test -run Random for a long night.
func randomSteps(t testing.TB) int {
	if n, err := strconv.Atoi(os.Getenv("DIRPOST_RANDOM")); err == nil {
		return n
	}
	return 60
}

// TestRandom: whatever happens to a directory, soon the snapshot is what a
// comparison from nothing gives, on both nodes.
func TestRandom(t *testing.T) {
	t.Parallel()
	t.Run("ad", func(t *testing.T) {
		t.Parallel()
		u := newADUnit(t)
		w := &world{Conn: u.Conn, ad: u, base: u.base, outside: "OU=out" + u.name + "," + u.s.Base}
		u.unit(w.outside)
		w.play(t, u.cfg)
	})
	// The same while everything is compared all the time, in pages of two.
	t.Run("ad, compared", func(t *testing.T) {
		t.Parallel()
		u := newADUnit(t)
		w := &world{Conn: u.Conn, ad: u, base: u.base, outside: "OU=out" + u.name + "," + u.s.Base}
		u.unit(w.outside)
		u.cfg.RefreshEvery, u.cfg.pageSize = time.Millisecond, 2
		w.play(t, u.cfg)
	})
	t.Run("slapd", func(t *testing.T) {
		t.Parallel()
		s := testenv.Slapd(t)
		cfg := config(t, s)
		w := &world{Conn: admin(t, s), base: "OU=in," + s.Base, outside: "OU=out," + s.Base}
		for _, dn := range []string{w.base, w.outside} {
			w.t = t
			w.add(dn, map[string][]string{"objectClass": {"organizationalUnit"}})
		}
		cfg.Base = w.base
		w.play(t, cfg)
	})
}

// unbraked are rules for a directory of so few entries that any change is a large
// share of it.
func unbraked() directory.Rules {
	return directory.Rules{Domains: []string{"corp.example"}, Brakes: map[string]directory.Brake{"corp": {Share: 1, Least: 1}}}
}

// play does steps while two nodes follow, looking now and then, and at the end
// after a pause of the feeding node.
func (w *world) play(t *testing.T, cfg Config) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	w.t, w.rand, w.containers = t, rand.New(rand.NewPCG(seed, 1)), []string{w.base}
	db, h := testenv.Database(t), &hints{}
	for range 5 {
		w.addPerson()
	}
	rules := unbraked()
	n := startWith(t, db, h, client(t, cfg), rules)
	follower := startWith(t, db, h, nil, rules)
	n.untilComplete(t)
	follower.untilComplete(t)
	var log []string
	same := func(nodes ...*node) {
		t.Helper()
		want := fresh(t, cfg)
		deadline := time.Now().Add(time.Minute)
		for _, n := range nodes {
			n.until(t, "the same", func(s *directory.Snapshot) bool {
				diff := differences(t, s, want)
				if len(diff) > 0 && time.Now().After(deadline) {
					t.Fatalf("after\n%s\ndiffers: %v", strings.Join(log, "\n"), diff)
				}
				time.AfterFunc(100*time.Millisecond, n.hint)
				return len(diff) == 0
			})
		}
	}
	steps := randomSteps(t)
	for i := range steps {
		log = append(log, w.step())
		if i%20 == 19 {
			same(n, follower)
		}
	}
	n.stop()
	for range steps / 6 {
		log = append(log, "while nobody looks: "+w.step())
	}
	same(startWith(t, db, h, client(t, cfg), rules), follower)
}
