package ldap

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf16"

	"github.com/go-ldap/ldap/v3"

	"dirpost/directory"
	"dirpost/internal/postgres"
	"dirpost/internal/testenv"
)

// adUnit is an organizational unit of a test's own in the shared domain, with the
// connection of an administrator.
type adUnit struct {
	*ldap.Conn
	t    testing.TB
	s    *testenv.ADServer
	base string // its DN
	name string // part of every name in it, which are unique in the domain
	cfg  Config // follows it and nothing else
}

func newADUnit(t testing.TB) *adUnit {
	t.Helper()
	s, configs := adConfigs(t)
	cfg := configs["ldaps"]
	cfg.BindDN, cfg.BindPassword = s.AdminDN, s.AdminPassword
	c, err := client(t, cfg).dialService(t.Context())
	must(t, err)
	t.Cleanup(c.end)
	c.SetTimeout(time.Minute)
	u := &adUnit{Conn: c.Conn, t: t, s: s, name: fmt.Sprintf("t%x", time.Now().UnixNano()&0xffffffffff)}
	u.base = "OU=" + u.name + "," + s.Base
	u.cfg = configs["ldaps"]
	u.cfg.Base, u.cfg.Follow = u.base, FollowDirSync
	u.unit(u.base)
	return u
}

func (u *adUnit) add(dn string, attributes map[string][]string) {
	u.t.Helper()
	req := ldap.NewAddRequest(dn, nil)
	for a, v := range attributes {
		req.Attribute(a, v)
	}
	must(u.t, u.Add(req))
}

func (u *adUnit) unit(dn string) {
	u.t.Helper()
	u.add(dn, map[string][]string{"objectClass": {"organizationalUnit"}})
}

// address is the address of somebody in the unit.
func (u *adUnit) address(name string) string { return name + "." + u.name + "@corp.example" }

// person adds somebody and returns the DN.
func (u *adUnit) person(name string, below ...string) string {
	u.t.Helper()
	dn := "CN=" + name + "," + u.base
	if len(below) > 0 {
		dn = "CN=" + name + "," + below[0]
	}
	u.add(dn, map[string][]string{"objectClass": {"user"}, "sAMAccountName": {name + u.name[len(u.name)-8:]}, "mail": {u.address(name)},
		"userAccountControl": {"512"}, "unicodePwd": {unicodePwd(u.s.UserPassword)}})
	return dn
}

// unicodePwd is a password as the attribute wants it ([MS-ADTS] §3.1.1.3.1.5).
func unicodePwd(password string) string {
	var b []byte
	for _, c := range utf16.Encode([]rune(`"` + password + `"`)) {
		b = append(b, byte(c), byte(c>>8))
	}
	return string(b)
}

func (u *adUnit) group(name string, members ...string) string {
	u.t.Helper()
	dn := "CN=" + name + "," + u.base
	a := map[string][]string{"objectClass": {"group"}, "sAMAccountName": {name + u.name[len(u.name)-8:]}, "mail": {u.address(name)}, "groupType": {"8"}}
	if len(members) > 0 {
		a["member"] = members
	}
	u.add(dn, a)
	return dn
}

func (u *adUnit) rename(dn, rdn, superior string) {
	u.t.Helper()
	must(u.t, u.ModifyDN(ldap.NewModifyDNRequest(dn, rdn, true, superior)))
}

func (u *adUnit) members(dn string, add bool, members ...string) {
	u.t.Helper()
	req := ldap.NewModifyRequest(dn, nil)
	if add {
		req.Add("member", members)
	} else {
		req.Delete("member", members)
	}
	must(u.t, u.Modify(req))
}

func (u *adUnit) del(dn string) {
	u.t.Helper()
	must(u.t, u.Del(ldap.NewDelRequest(dn, nil)))
}

// homeIs says that an address has a home, or that nobody has it.
func (u *adUnit) homeIs(name, want string) func(*directory.Snapshot) bool {
	return func(s *directory.Snapshot) bool { return home(s, u.address(name)) == want }
}

// memberIs says that a list has members, by name.
func (u *adUnit) memberIs(list string, dns ...string) func(*directory.Snapshot) bool {
	return func(s *directory.Snapshot) bool {
		e := s.ByAddress(addr(u.address(list)))
		if e == nil || len(e.Members) != len(dns) {
			return false
		}
		for _, dn := range dns {
			if m := s.ByDN(dn); m == nil || !slices.Contains(e.Members, directory.NormalizeDN(dn)) {
				return false
			}
		}
		return true
	}
}

// TestDirSyncChanges: what is done to a domain is seen on both nodes, although the
// account is an ordinary one.
func TestDirSyncChanges(t *testing.T) {
	t.Parallel()
	u := newADUnit(t)
	alice, bob, carol := u.person("alice"), u.person("bob"), u.person("carol")
	list := u.group("list", alice, bob, carol)
	db, h := testenv.Database(t), &hints{}
	n := start(t, db, h, client(t, u.cfg))
	follower := start(t, db, h, nil)
	n.untilComplete(t)
	both := func(what string, ok func(*directory.Snapshot) bool) {
		t.Helper()
		n.until(t, what, ok)
		follower.until(t, what+" on the other node", ok)
	}
	both("all of them", u.memberIs("list", alice, bob, carol))
	key := n.live.Snapshot().ByAddress(addr(u.address("alice"))).Key

	modify(t, u.Conn, alice, "proxyAddresses", "SMTP:"+u.address("alice"), "smtp:"+u.address("head"))
	both("an alias more", u.homeIs("head", "here"))
	modify(t, u.Conn, alice, "proxyAddresses")
	both("no alias", u.homeIs("head", "nobody"))
	modify(t, u.Conn, bob, "userAccountControl", "514")
	both("disabled", func(s *directory.Snapshot) bool {
		return s.ByAddress(addr(u.address("bob"))).Login == directory.StateDisabled
	})
	modify(t, u.Conn, bob, "userAccountControl", "512")
	both("enabled", func(s *directory.Snapshot) bool {
		return s.ByAddress(addr(u.address("bob"))).Login == directory.StateActive
	})
	modify(t, u.Conn, bob, "altSecurityIdentities", "X509:<SKI>ABCD"+u.name[1:5])
	claimed := func(s *directory.Snapshot) *directory.Entry { return s.ByCertificate("ski:abcd" + u.name[1:5]) }
	both("a certificate mapped", func(s *directory.Snapshot) bool {
		return claimed(s) != nil && claimed(s).Key == s.ByAddress(addr(u.address("bob"))).Key
	})
	modify(t, u.Conn, bob, "altSecurityIdentities", "X509:<RFC822>"+u.address("bob"))
	both("the mapping weakened", func(s *directory.Snapshot) bool { return claimed(s) == nil })
	u.members(list, false, bob)
	both("a member less", u.memberIs("list", alice, carol))
	u.members(list, true, bob)
	both("a member more", u.memberIs("list", alice, bob, carol))

	// The server says nothing about the list, whose member has another name now.
	u.rename(alice, "CN=abrand", "")
	abrand := "CN=abrand," + u.base
	both("renamed", u.memberIs("list", abrand, bob, carol))
	if e := n.live.Snapshot().ByDN(abrand); e == nil || e.Key != key {
		t.Errorf("%v has another key than %s", e, key)
	}
	staff := "OU=staff," + u.base
	u.unit(staff)
	u.rename(abrand, "CN=abrand", staff)
	both("moved", u.memberIs("list", "CN=abrand,"+staff, bob, carol))
	// Nor about those below a container.
	u.rename(staff, "OU=team", "")
	both("container renamed", u.memberIs("list", "CN=abrand,OU=team,"+u.base, bob, carol))

	// The base ends where the unit does.
	u.rename(carol, "CN=carol"+u.name, u.s.Base)
	both("moved away", u.homeIs("carol", "left"))
	outside := "CN=carol" + u.name + "," + u.s.Base
	u.rename(outside, "CN=outside"+u.name, "")
	u.rename("CN=outside"+u.name+","+u.s.Base, "CN=carol", u.base)
	both("moved back", u.memberIs("list", "CN=abrand,OU=team,"+u.base, bob, carol))

	// The account does not see deletions.
	u.del(bob)
	both("deleted", u.homeIs("bob", "left"))
	both("no member any more", u.memberIs("list", "CN=abrand,OU=team,"+u.base, carol))
	u.person("new")
	both("added", u.homeIs("new", "here"))
}

// TestDirSyncResumes: a node that starts again goes on from the cookie, and what
// happened meanwhile, deletions too, is seen.
func TestDirSyncResumes(t *testing.T) {
	t.Parallel()
	u := newADUnit(t)
	alice, bob := u.person("alice"), u.person("bob")
	db, h := testenv.Database(t), &hints{}
	n := start(t, db, h, client(t, u.cfg))
	n.untilComplete(t)
	n.until(t, "both", func(s *directory.Snapshot) bool { return s.Len() == 2 })
	n.stop()
	version := n.live.Snapshot().Version()

	n = start(t, db, h, client(t, u.cfg))
	n.untilComplete(t)
	n.stop()
	if got := n.live.Snapshot().Version(); got != version {
		t.Errorf("version %d after nothing has changed, want %d", got, version)
	}
	modify(t, u.Conn, alice, "mail", u.address("abrand"))
	u.del(bob)
	n = start(t, db, h, client(t, u.cfg))
	n.until(t, "changed while nobody looked", u.homeIs("abrand", "here"))
	n.until(t, "deleted while nobody looked", u.homeIs("bob", "left"))
}

// TestDirSyncCookies: a cookie of another controller, of another copy of the
// database, or of nobody, leads to a comparison and not to a standstill.
func TestDirSyncCookies(t *testing.T) {
	t.Parallel()
	u := newADUnit(t)
	u.person("alice")
	db := testenv.Database(t)
	c := client(t, u.cfg)
	n := start(t, db, &hints{}, c)
	n.until(t, "alice", u.homeIs("alice", "here"))
	n.stop()
	d := c.Source(quiet).(*dirsync)
	var kept []byte
	must(t, db.QueryRow(t.Context(), postgres.Background, "select cookie from directory_source").Scan(&kept))
	var k dirsyncCookie
	must(t, json.Unmarshal(d.ownCookie(kept), &k))
	for name, change := range map[string]func(k *dirsyncCookie){
		"its own":         func(*dirsyncCookie) {},
		"another server":  func(k *dirsyncCookie) { k.Server = "dc9.corp.example" },
		"another copy":    func(k *dirsyncCookie) { k.Invocation = "2f0c5a0e-0000-0000-0000-000000000000" },
		"garbage":         func(k *dirsyncCookie) { k.DirSync = []byte("garbage") },
		"no cookie in it": func(k *dirsyncCookie) { k.DirSync = nil },
	} {
		other := k
		change(&other)
		b, err := json.Marshal(other)
		must(t, err)
		complete, done := false, errors.New("done")
		follow := func(cookie []byte) error {
			return d.Follow(t.Context(), cookie, func(_ context.Context, b directory.Batch) error {
				complete = complete || b.Complete
				if !b.At.IsZero() {
					return done
				}
				return nil
			})
		}
		err = follow(append(d.view(), b...))
		if name == "garbage" {
			if !errors.Is(err, directory.ErrRefresh) {
				t.Errorf("%s: %v, want a refresh", name, err)
			}
			continue
		}
		if !errors.Is(err, done) || complete != (name != "its own") {
			t.Errorf("%s: compared %v, %v", name, complete, err)
		}
	}
}

// TestDirSyncStatus: what the feeding node says is there for all.
func TestDirSyncStatus(t *testing.T) {
	t.Parallel()
	u := newADUnit(t)
	db := testenv.Database(t)
	c := client(t, u.cfg)
	u.person("alice")
	n := start(t, db, &hints{}, c)
	n.untilComplete(t)
	var got *directory.SourceStatus
	n.until(t, "status", func(*directory.Snapshot) bool {
		reports, err := directory.Reports(t.Context(), db)
		must(t, err)
		if len(reports) != 1 || reports[0].Status == nil || reports[0].Status.Wake != wakeNotification {
			time.AfterFunc(100*time.Millisecond, n.hint)
			return false
		}
		got = reports[0].Status
		return true
	})
	if got.Mode != FollowDirSync || got.Server != u.s.TLSURL || got.Deletions != DeletionsCompared {
		t.Errorf("%+v", got)
	}
}

// TestDNFields: what says of itself that its values are DNs is looked for when an
// entry is renamed.
func TestDNFields(t *testing.T) {
	t.Parallel()
	var want []string
	for _, f := range Fields() {
		if strings.HasPrefix(f.Meaning, "DN") {
			want = append(want, f.Name)
		}
	}
	slices.Sort(want)
	if got := slices.Sorted(slices.Values(dnFields)); !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}
