package ldap

import (
	"strings"
	"testing"
	"time"

	"github.com/go-ldap/ldap/v3"

	"dirpost/directory"
	"dirpost/internal/testenv"
)

// TestAsk: while nobody follows a directory, it is asked itself for who is not known,
// and what it says counts by the rules that hold for everybody.
func TestAsk(t *testing.T) {
	t.Parallel()
	behindProxies(t, askAbout)
}

// behindProxy is a directory that is followed through a proxy. add adds somebody who has
// an address, and more if they are given.
type behindProxy struct {
	cfg     Config
	p       *testenv.LDAPProxy
	address func(name string) string
	add     func(name string, more ...string)
}

// behindProxies tests with each kind of directory.
func behindProxies(t *testing.T, test func(t *testing.T, d behindProxy)) {
	t.Run("slapd", func(t *testing.T) {
		t.Parallel()
		s := testenv.Slapd(t)
		cfg, a := config(t, s), admin(t, s)
		p := testenv.ProxyLDAP(t, s.TLSURL, "localhost", cfg.CA, testenv.LDAPBehaviour{})
		cfg.URLs, cfg.CA, cfg.ServerName, cfg.Follow = []string{p.URL}, p.CA, "localhost", FollowSyncrepl
		address := func(name string) string { return name + "@corp.example" }
		test(t, behindProxy{cfg, p, address, func(name string, more ...string) {
			add := ldap.NewAddRequest("uid="+name+",ou=people,"+s.Base, nil)
			for attribute, values := range map[string][]string{"objectClass": {"inetOrgPerson"}, "cn": {name}, "sn": {name}, "uid": {name}, "mail": append([]string{address(name)}, more...)} {
				add.Attribute(attribute, values)
			}
			must(t, a.Add(add))
		}})
	})
	t.Run("ad", func(t *testing.T) {
		t.Parallel()
		u := newADUnit(t)
		p, cfg := proxied(t, testenv.LDAPBehaviour{})
		cfg.Base, cfg.Follow = u.base, FollowDirSync
		test(t, behindProxy{cfg, p, u.address, func(name string, more ...string) {
			dn := u.person(name)
			for _, m := range more {
				change := ldap.NewModifyRequest(dn, nil)
				change.Add("proxyAddresses", []string{"smtp:" + m})
				must(t, u.Modify(change))
			}
		}})
	})
}

func askAbout(t *testing.T, d behindProxy) {
	address := d.address
	d.add("old")
	c := client(t, d.cfg)
	n := start(t, testenv.Database(t), &hints{}, c)
	n.untilComplete(t)
	n.stop()
	asker := directory.NewAsker([]directory.Seeker{c}, quiet)
	ask := func(a string) (*directory.Snapshot, directory.Resolution) {
		return asker.Resolve(t.Context(), n.live.Snapshot(), "192.0.2.1", addr(a))
	}
	d.add("new", address("alias"), address("old"))
	detail := strings.Replace(address("new"), "@", "+detail@", 1)

	n.live.Confirm(time.Now())
	if _, r := ask(address("new")); r.Home != directory.HomeNobody {
		t.Errorf("a snapshot of this moment is not believed: %v", r)
	}
	n.live.Confirm(time.Now().Add(-7 * time.Second))
	for _, a := range []string{address("new"), address("alias"), detail} {
		s, r := ask(a)
		if r.Home != directory.HomeHere || r.Entry.Primary.Key() != addr(address("new")).Key() {
			t.Errorf("%s, who is new: %+v", a, r)
			continue
		}
		if r := s.Resolve(addr(address("old"))); r.Home != directory.HomeHere || r.Entry.Primary.Key() != addr(address("old")).Key() {
			t.Errorf("%s has been given to who claims it, too: %+v", address("old"), r)
		}
	}
	for _, nobody := range []string{address("nobody"), `"*"@corp.example`, `"new)(mail=*"@corp.example`} {
		if _, r := ask(nobody); r.Home != directory.HomeNobody || r.Status.Code != 550 {
			t.Errorf("%s, which nobody has: %+v", nobody, r)
		}
	}
	n.live.Confirm(time.Time{})
	if _, r := ask(address("unheard")); r.Status.Code != 451 {
		t.Errorf("nobody, while it is not known how old the snapshot is: %+v", r)
	}
	if _, r := ask(address("new")); r.Home != directory.HomeHere {
		t.Errorf("who is new, likewise: %+v", r)
	}

	d.p.Set(testenv.LDAPBehaviour{BindResult: int(ldap.LDAPResultUnavailable)})
	d.p.HangUp()
	n.live.Confirm(time.Now().Add(-7 * time.Second))
	if _, r := ask(address("other")); r.Status.Code != 451 {
		t.Errorf("nobody, while the directory cannot be asked: %+v", r)
	}
}
