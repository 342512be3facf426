package ldap

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"

	"github.com/go-ldap/ldap/v3"

	"dirpost/directory"
	"dirpost/internal/envelope"
	"dirpost/internal/postgres"
	"dirpost/internal/testenv"
)

// hints connects the nodes of a test.
type hints struct {
	mu   sync.Mutex
	subs map[int]func(string)
	n    int
}

func (h *hints) Publish(_, payload string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, f := range h.subs {
		f(payload)
	}
}

func (h *hints) Subscribe(_ string, f func(string)) func() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.subs == nil {
		h.subs = map[int]func(string){}
	}
	h.n++
	id := h.n
	h.subs[id] = f
	return func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		delete(h.subs, id)
	}
}

// node is one node of a test.
type node struct {
	live    *directory.Live
	stop    func()
	changed chan struct{} // a hint that the snapshot may have changed
}

// start runs a node on db; without a client it follows only.
func start(t testing.TB, db *postgres.DB, h *hints, c *Client) *node {
	t.Helper()
	return startWith(t, db, h, c, directory.Rules{Domains: []string{"corp.example"}, Delimiter: "+"})
}

// startWith is start with other rules.
func startWith(t testing.TB, db *postgres.DB, h *hints, c *Client, rules directory.Rules) *node {
	t.Helper()
	n := &node{live: directory.Open(rules), changed: make(chan struct{}, 1)}
	n.live.Watch(func(*directory.Snapshot, []directory.Key) { n.hint() })
	h.Subscribe("", func(string) { n.hint() })
	var sources []directory.Source
	if c != nil {
		sources = append(sources, c.Source(quiet))
	}
	f := directory.NewFeeder(db, n.live, sources, h, "test", slog.New(slog.NewTextHandler(t.Output(), nil)))
	must(t, f.Load(t.Context()))
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = f.Run(ctx)
	}()
	n.stop = sync.OnceFunc(func() {
		cancel()
		<-done
	})
	t.Cleanup(n.stop)
	return n
}

func (n *node) hint() {
	select {
	case n.changed <- struct{}{}:
	default:
	}
}

// until waits until the snapshot is as it should be.
func (n *node) until(t testing.TB, what string, ok func(s *directory.Snapshot) bool) {
	t.Helper()
	for !ok(n.live.Snapshot()) {
		select {
		case <-n.changed:
		case <-t.Context().Done():
			t.Fatalf("never: %s", what)
		}
	}
}

func (n *node) untilComplete(t testing.TB) {
	t.Helper()
	n.until(t, "complete", func(s *directory.Snapshot) bool { return s.Ready() && !s.Stale() })
}

func addr(s string) envelope.Address {
	a, err := envelope.ParseAddress(s)
	if err != nil {
		panic(err)
	}
	return a
}

func home(s *directory.Snapshot, address string) string {
	r := s.Resolve(addr(address))
	if r.Entry != nil && r.Entry.IsGone() {
		return "left" // and the mail is still taken
	}
	return r.Home.String()
}

// sources are the ways to follow one and the same slapd. Every test here holds
// for all of them.
func sources(t *testing.T, test func(t *testing.T, s *testenv.SlapdServer, cfg Config)) {
	for _, follow := range []string{FollowSyncrepl, FollowPoll} {
		t.Run(follow, func(t *testing.T) {
			t.Parallel()
			s := testenv.Slapd(t)
			cfg := config(t, s)
			cfg.Follow = follow
			if follow == FollowPoll {
				cfg.PollEvery = 1 // as fast as it goes
			}
			test(t, s, cfg)
		})
	}
}

func TestExampleCorp(t *testing.T) {
	t.Parallel()
	sources(t, func(t *testing.T, _ *testenv.SlapdServer, cfg Config) { corpAsMailSeesIt(t, cfg) })
}

// corpAsMailSeesIt is what mail makes of Example Corp, whatever server it is in.
func corpAsMailSeesIt(t *testing.T, cfg Config) {
	n := start(t, testenv.Database(t), &hints{}, client(t, cfg))
	n.untilComplete(t)
	snap := n.live.Snapshot()
	for address, want := range map[string]string{
		"alice@corp.example": "here", "a.example@corp.example": "here", "dave@corp.example": "here",
		"sales@corp.example": "list", "office@corp.example": "here", "nobody@corp.example": "nobody",
		"李娜@corp.example": "here", "alice+x@corp.example": "here", "x@far.example": "not ours",
	} {
		if got := home(snap, address); got != want {
			t.Errorf("%s: %s, want %s", address, got, want)
		}
	}
	if e := snap.ByLogin("dave"); e == nil || e.Login != directory.StateDisabled || e.Delivery != directory.StateActive {
		t.Errorf("dave: %+v", e)
	}
	if e := snap.ByLogin("office"); e != nil {
		t.Errorf("office can log in: %+v", e)
	}
	if e := snap.ByLogin("noor"); e == nil || e.Quota != 1<<30 {
		t.Errorf("noor: %+v", e)
	}
	x := snap.Expand([]envelope.Recipient{{Address: addr("sales@corp.example")}}, directory.Terms{})
	if len(x.Local) != 4 || len(x.Refused)+len(x.Held)+len(x.Remote) != 0 {
		t.Errorf("sales: %+v", x)
	}
	shared := snap.MailboxesOf(snap.ByLogin("carol")) // through the nested group
	if len(shared) != 1 || shared[0].Primary != addr("office@corp.example") || shared[0].Kind != directory.KindShared {
		t.Errorf("mailboxes of carol: %v", shared)
	}
	if u := snap.MayUse(snap.ByLogin("alice"), addr("office@corp.example")); u != directory.UsageSendAs {
		t.Errorf("alice as office: %v", u)
	}
}

func TestChanges(t *testing.T) {
	t.Parallel()
	sources(t, func(t *testing.T, s *testenv.SlapdServer, cfg Config) { changes(t, admin(t, s), cfg) })
}

// changes are made by a, and seen on two nodes.
func changes(t *testing.T, a *ldap.Conn, cfg Config) {
	db, h := testenv.Database(t), &hints{}
	n := start(t, db, h, client(t, cfg))
	follower := start(t, db, h, nil)
	n.untilComplete(t)
	follower.untilComplete(t)
	both := func(what string, ok func(*directory.Snapshot) bool) {
		t.Helper()
		n.until(t, what, ok)
		follower.until(t, what+" on the other node", ok)
	}
	is := func(address, want string) func(*directory.Snapshot) bool {
		return func(s *directory.Snapshot) bool { return home(s, address) == want }
	}
	people := ",ou=people," + cfg.Base
	key := n.live.Snapshot().ByLogin("alice").Key

	modify(t, a, "uid=alice"+people, "dirpostAlias", "a.example@corp.example", "sales.head@corp.example")
	both("an alias more", is("sales.head@corp.example", "here"))
	modify(t, a, "uid=alice"+people, "dirpostAlias")
	both("no alias", is("a.example@corp.example", "nobody"))

	// A rename keeps the key, so the mailbox stays.
	must(t, a.ModifyDN(ldap.NewModifyDNRequest("uid=alice"+people, "uid=abrand", true, "")))
	modify(t, a, "uid=abrand"+people, "mail", "alice.brand@corp.example")
	both("renamed", func(s *directory.Snapshot) bool {
		e := s.ByLogin("abrand")
		return e != nil && e.Key == key && e.Primary == addr("alice.brand@corp.example") && s.ByLogin("alice") == nil
	})

	modify(t, a, "uid=bob"+people, "dirpostEnabled", "nologin")
	both("disabled", func(s *directory.Snapshot) bool { return s.ByLogin("bob").Login == directory.StateDisabled })
	modify(t, a, "uid=bob"+people, "dirpostEnabled", "off")
	both("off", func(s *directory.Snapshot) bool { return s.Resolve(addr("bob@corp.example")).Status.Code == 550 })

	must(t, a.Del(ldap.NewDelRequest("uid=carol"+people, nil)))
	both("deleted", func(s *directory.Snapshot) bool {
		return home(s, "carol@corp.example") == "left" && s.ByLogin("carol") == nil
	})

	add := ldap.NewAddRequest("uid=new"+people, nil)
	add.Attribute("objectClass", []string{"inetOrgPerson"})
	add.Attribute("cn", []string{"New"})
	add.Attribute("sn", []string{"New"})
	add.Attribute("uid", []string{"new"})
	add.Attribute("mail", []string{"new@corp.example"})
	must(t, a.Add(add))
	both("added", is("new@corp.example", "here"))
	if u := n.live.Snapshot().ByLogin("new"); u == nil {
		t.Error("new cannot log in")
	}

	// Moved out of the base of people: the same entry.
	newKey := n.live.Snapshot().ByLogin("new").Key
	must(t, a.ModifyDN(ldap.NewModifyDNRequest("uid=new"+people, "uid=new", true, "ou=contacts,"+cfg.Base)))
	both("moved", func(s *directory.Snapshot) bool {
		e := s.ByKey(newKey)
		return e != nil && strings.Contains(e.DN, "ou=contacts")
	})
}

// The directory is away: known people go on, unknown ones are deferred, a node
// started afresh serves from the rows, and when the directory is back, what
// has changed meanwhile is seen.
func TestOutage(t *testing.T) {
	t.Parallel()
	sources(t, func(t *testing.T, s *testenv.SlapdServer, cfg Config) {
		outage(t, s, func() *ldap.Conn { return admin(t, s) }, cfg)
	})
}

// restartable is a server that goes away and comes back.
type restartable interface {
	Stop()
	Start(t testing.TB)
}

func outage(t *testing.T, s restartable, admin func() *ldap.Conn, cfg Config) {
	db, h := testenv.Database(t), &hints{}
	n := start(t, db, h, client(t, cfg))
	n.untilComplete(t)
	before := n.live.Snapshot().Len()
	s.Stop()
	away := func(s *directory.Snapshot) bool {
		return home(s, "alice@corp.example") == "here" && home(s, "nobody@corp.example") == "unknown"
	}
	n.until(t, "away", away)
	n.stop()

	fresh := start(t, db, h, client(t, cfg))
	fresh.until(t, "started from rows", func(s *directory.Snapshot) bool { return away(s) && s.Len() == before })
	fresh.stop()

	s.Start(t)
	a := admin()
	must(t, a.Del(ldap.NewDelRequest("uid=bob,ou=people,"+cfg.Base, nil)))
	modify(t, a, "uid=wangwei,ou=people,"+cfg.Base, "dirpostAlias", "ww@corp.example")
	again := start(t, db, h, client(t, cfg))
	again.until(t, "caught up", func(s *directory.Snapshot) bool {
		return home(s, "ww@corp.example") == "here" && home(s, "bob@corp.example") == "left"
	})
	if got := again.live.Snapshot().Len(); got != before {
		t.Errorf("%d entries, want %d, with that of bob", got, before)
	}
}

// Without cookie and without session log the server cannot say what has gone:
// what it does not name has.
func TestVanishedWhileAway(t *testing.T) {
	t.Parallel()
	s := testenv.Slapd(t)
	vanishedWhileAway(t, admin(t, s), config(t, s))
}

func vanishedWhileAway(t *testing.T, a *ldap.Conn, cfg Config) {
	db, h := testenv.Database(t), &hints{}
	n := start(t, db, h, client(t, cfg))
	n.untilComplete(t)
	n.stop()
	for _, uid := range []string{"bob", "carol", "lina"} {
		must(t, a.Del(ldap.NewDelRequest("uid="+uid+",ou=people,"+cfg.Base, nil)))
	}
	_, err := db.Exec(t.Context(), postgres.Background, "update directory_source set cookie = null")
	must(t, err)
	again := start(t, db, h, client(t, cfg))
	again.until(t, "gone", func(s *directory.Snapshot) bool {
		return home(s, "bob@corp.example") == "left" && home(s, "lina@corp.example") == "left" && home(s, "alice@corp.example") == "here"
	})
}

// A cookie that means nothing to the server leads to a comparison, not to a
// standstill.
func TestBadCookie(t *testing.T) {
	t.Parallel()
	badCookie(t, config(t, testenv.Slapd(t)), "rid=000,csn=garbage")
}

func badCookie(t *testing.T, cfg Config, garbage string) {
	db, h := testenv.Database(t), &hints{}
	cfg.Follow = FollowSyncrepl
	c := client(t, cfg)
	must(t, c.Check(t.Context())) // the mapping is part of the view
	cookie := append(c.Source(quiet).(*syncrepl).view(), garbage...)
	_, err := db.Exec(t.Context(), postgres.Background, "insert into directory_source (name, cookie) values ('corp', $1)", cookie)
	must(t, err)
	n := start(t, db, h, c)
	n.untilComplete(t)
	if home(n.live.Snapshot(), "alice@corp.example") != "here" {
		t.Error("alice is not here")
	}
}

// Another filter finds people about whom the server has nothing to say since the
// last cookie. They exist, and mail for them must not be refused.
func TestFilterChanged(t *testing.T) {
	t.Parallel()
	s := testenv.Slapd(t)
	db, h := testenv.Database(t), &hints{}
	cfg := config(t, s)
	cfg.Filter = "(&" + openLDAPFilter + "(!(uid=bob)))"
	n := start(t, db, h, client(t, cfg))
	n.untilComplete(t)
	if got := home(n.live.Snapshot(), "bob@corp.example"); got != "nobody" {
		t.Fatalf("bob is %s", got)
	}
	n.stop()
	start(t, db, h, client(t, config(t, s))).until(t, "bob is found", func(s *directory.Snapshot) bool {
		return home(s, "bob@corp.example") == "here"
	})
}

// A renamed container moves everybody in it, and syncrepl does not say so.
func TestContainerRenamed(t *testing.T) {
	t.Parallel()
	sources(t, func(t *testing.T, s *testenv.SlapdServer, cfg Config) {
		containerRenamed(t, admin(t, s), cfg, s.UserPassword)
	})
}

func containerRenamed(t *testing.T, a *ldap.Conn, cfg Config, password string) {
	c := client(t, cfg)
	db, h := testenv.Database(t), &hints{}
	n := start(t, db, h, c)
	n.untilComplete(t)
	must(t, a.ModifyDN(ldap.NewModifyDNRequest("ou=people,"+cfg.Base, "ou=staff", true, "")))
	in := func(ou string) func(s *directory.Snapshot) bool {
		return func(s *directory.Snapshot) bool { return strings.Contains(s.ByLogin("alice").DN, ou) }
	}
	n.until(t, "moved", in("ou=staff"))
	must(t, c.Verify(t.Context(), n.live.Snapshot().ByLogin("alice"), password))
	n.stop()
	must(t, a.ModifyDN(ldap.NewModifyDNRequest("ou=staff,"+cfg.Base, "ou=team", true, "")))
	start(t, db, h, c).until(t, "moved while nobody looked", in("ou=team"))
}

// When the feeding node goes, another one takes over, and no change is lost or
// written twice.
func TestTakeover(t *testing.T) {
	t.Parallel()
	s := testenv.Slapd(t)
	a, db, h := admin(t, s), testenv.Database(t), &hints{}
	first := start(t, db, h, client(t, config(t, s)))
	first.untilComplete(t)
	second := start(t, db, h, client(t, config(t, s)))
	second.untilComplete(t)
	version := second.live.Snapshot().Version()
	first.stop()
	modify(t, a, "uid=alice,ou=people,"+s.Base, "dirpostAlias", "taken.over@corp.example")
	second.until(t, "takeover", func(s *directory.Snapshot) bool { return home(s, "taken.over@corp.example") == "here" })
	if got := second.live.Snapshot().Version(); got != version+1 {
		t.Errorf("version %d after one change, want %d", got, version+1)
	}
	var kept int
	must(t, db.QueryRow(t.Context(), postgres.Background, "select count(*) from directory_history").Scan(&kept))
	if kept != 1 {
		t.Errorf("%d versions in the history, want 1", kept)
	}
}

// What cannot be used of an entry is left out; the rest of it, and everybody
// else, goes on.
func TestHostileValues(t *testing.T) {
	t.Parallel()
	sources(t, func(t *testing.T, s *testenv.SlapdServer, cfg Config) {
		a := admin(t, s)
		n := start(t, testenv.Database(t), &hints{}, client(t, cfg))
		n.untilComplete(t)
		people := ",ou=people," + s.Base
		names := []string{`Doe\, John`, `\"best\"`, `\#1`, `a\+b`, `a\=b\<c\>`, `王伟`, `\ space\ `, `back\\slash`, `semi\;colon`}
		var members []string
		for i, name := range names {
			dn := "cn=" + name + people
			add := ldap.NewAddRequest(dn, nil)
			add.Attribute("objectClass", []string{"inetOrgPerson"})
			add.Attribute("sn", []string{"x"})
			add.Attribute("uid", []string{fmt.Sprintf("h%d", i)})
			add.Attribute("mail", []string{fmt.Sprintf("h%d@corp.example", i)})
			must(t, a.Add(add))
			members = append(members, dn)
		}
		add := ldap.NewAddRequest("cn=hostile,ou=groups,"+s.Base, nil)
		add.Attribute("objectClass", []string{"groupOfNames", "dirpostList"})
		add.Attribute("mail", []string{"hostile@corp.example"})
		add.Attribute("dirpostListPolicy", []string{"open"})
		add.Attribute("member", members)
		must(t, a.Add(add))

		huge := ldap.NewAddRequest("uid=huge"+people, nil)
		huge.Attribute("objectClass", []string{"inetOrgPerson", "dirpostMailbox"})
		huge.Attribute("cn", []string{"huge"})
		huge.Attribute("sn", []string{"huge"})
		huge.Attribute("displayName", []string{strings.Repeat("x", 10<<20)})
		huge.Attribute("mail", []string{"huge@corp.example"})
		huge.Attribute("dirpostAlias", []string{"|/bin/sh", ":include:/etc/passwd", "/dev/null", "no address", "\"|x\"@corp.example", "h.uge@corp.example", "a@b@c", "\u202eevil@corp.example"})
		huge.Attribute("dirpostForward", []string{"|/usr/bin/vacation"})
		must(t, a.Add(huge))

		n.until(t, "all of them", func(s *directory.Snapshot) bool {
			return home(s, "h.uge@corp.example") == "here" && home(s, "hostile@corp.example") == "list"
		})
		snap := n.live.Snapshot()
		x := snap.Expand([]envelope.Recipient{{Address: addr("hostile@corp.example")}}, directory.Terms{})
		if len(x.Local) != len(names) {
			t.Errorf("%d members of %d found", len(x.Local), len(names))
		}
		e := snap.ByAddress(addr("huge@corp.example"))
		if e == nil || len(e.Forward) != 0 || len(e.DisplayName) > 100 || len(e.Aliases) != 2 {
			t.Errorf("huge: forward %v, aliases %v", e.Forward, e.Aliases)
		}
		if home(snap, "alice@corp.example") != "here" {
			t.Error("alice is gone")
		}
	})
}

// An empty or missing base never means that everybody has left.
func TestBaseGone(t *testing.T) {
	t.Parallel()
	sources(t, func(t *testing.T, s *testenv.SlapdServer, cfg Config) {
		db, h := testenv.Database(t), &hints{}
		n := start(t, db, h, client(t, cfg))
		n.untilComplete(t)
		n.stop()
		before := n.live.Snapshot().Len()
		cfg.Base = "ou=moved," + s.Base
		again := start(t, db, h, client(t, cfg))
		again.until(t, "away", func(s *directory.Snapshot) bool { return s.Stale() })
		if got := again.live.Snapshot().Len(); got != before {
			t.Errorf("%d entries of %d left", got, before)
		}
	})
}
