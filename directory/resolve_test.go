package directory

import (
	"testing"
	"time"

	"dirpost/internal/envelope"
)

func TestResolve(t *testing.T) {
	t.Parallel()
	s := corp(t)
	tests := []struct {
		name    string
		address string
		home    Home
		key     Key
		detail  string
		target  string
		code    int // 0: may receive
	}{
		{"person", "alice@corp.example", HomeHere, "test:alice", "", "", 0},
		{"case of the local-part", "ALICE@Corp.Example", HomeHere, "test:alice", "", "", 0},
		{"alias", "a.example@corp.example", HomeHere, "test:alice", "", "", 0},
		{"internationalized local-part", "王伟@corp.example", HomeHere, "test:wangwei", "", "", 0},
		{"internationalized domain", "wei@例子.example", HomeHere, "test:wangwei", "", "", 0},
		{"internationalized domain as A-label", "wei@xn--fsqu00a.example", HomeHere, "test:wangwei", "", "", 0},
		{"subaddress", "alice+lists+go@corp.example", HomeHere, "test:alice", "lists+go", "", 0},
		{"subaddress of nobody", "nobody+x@corp.example", HomeNobody, "", "", "", 550},
		{"delimiter first", "+x@corp.example", HomeNobody, "", "", "", 550},
		{"nobody", "nobody@corp.example", HomeNobody, "", "", "", 550},
		{"disabled login goes on receiving", "dave@corp.example", HomeHere, "test:dave", "", "", 0},
		{"in grace", "gone@corp.example", HomeHere, "test:gone", "", "", 0},
		{"held", "held@corp.example", HomeHere, "test:held", "", "", 0},
		{"delivery disabled", "left@corp.example", HomeHere, "test:left", "", "", 550},
		{"two claim it", "twin@corp.example", HomeUnknown, "", "", "", 451},
		{"shared", "office@corp.example", HomeHere, "test:office", "", "", 0},
		{"room", "aula@corp.example", HomeHere, "test:aula", "", "", 0},
		{"contact", "partner@corp.example", HomeContact, "test:partner", "", "Partner@other.example", 0},
		{"elsewhere", "old@corp.example", HomeElsewhere, "test:old", "", "old@corp.example", 0},
		{"elsewhere without next hop", "nowhere@corp.example", HomeUnknown, "test:nowhere", "", "", 451},
		{"list", "sales@corp.example", HomeList, "test:sales", "", "", 0},
		{"not ours", "alice@other.example", HomeNotOurs, "", "", "alice@other.example", 0},
		{"address literal", "alice@[192.0.2.1]", HomeNotOurs, "", "", "alice@[192.0.2.1]", 0},
		{"domain object", "nobody@brand.example", HomeNobody, "", "", "", 550},
		{"postmaster that is not configured", "postmaster@corp.example", HomeUnknown, "", "", "", 451},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := s.Resolve(addr(tt.address))
			var key Key
			if got.Entry != nil {
				key = got.Entry.Key
			}
			if got.Home != tt.home || key != tt.key || got.Detail != tt.detail || got.Status.Code != tt.code || got.Target.String() != tt.target {
				t.Errorf("Resolve(%s) = %v %q detail %q target %q status %d, want %v %q detail %q target %q status %d",
					tt.address, got.Home, key, got.Detail, got.Target, got.Status.Code, tt.home, tt.key, tt.detail, tt.target, tt.code)
			}
		})
	}
}

// RFC 5321 §4.5.1: mail to postmaster of any domain of ours is taken.
func TestResolvePostmaster(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name       string
		postmaster string
		address    string
		home       Home
		key        Key
		code       int
	}{
		{"configured", "alice@corp.example", "Postmaster@brand.example", HomeHere, "test:alice", 0},
		{"abuse", "alice@corp.example", "abuse@corp.example", HomeHere, "test:alice", 0},
		{"a list", "sales@corp.example", "abuse@corp.example", HomeList, "test:sales", 0},
		{"outside", "noc@other.example", "postmaster@corp.example", HomeContact, "", 0},
		{"does not resolve", "nobody@corp.example", "postmaster@corp.example", HomeUnknown, "", 451},
		{"disabled", "left@corp.example", "postmaster@corp.example", HomeHere, "test:left", 451},
		{"of others", "alice@corp.example", "postmaster@other.example", HomeNotOurs, "", 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			l := Open(Rules{Domains: []string{"corp.example"}, Postmaster: addr(tt.postmaster)})
			var changes []Change
			for _, e := range corpEntries() {
				changes = append(changes, Change{e.Key, e})
			}
			l.Apply(1, changes)
			got := l.Snapshot().Resolve(addr(tt.address))
			var key Key
			if got.Entry != nil {
				key = got.Entry.Key
			}
			if got.Home != tt.home || key != tt.key || got.Status.Code != tt.code {
				t.Errorf("Resolve(%s) = %v %q %d, want %v %q %d", tt.address, got.Home, key, got.Status.Code, tt.home, tt.key, tt.code)
			}
		})
	}
}

// A mailbox that exists is never answered 550 because the directory was slow,
// stale or away; neither is one that perhaps exists.
func TestResolveUnknownWhileStale(t *testing.T) {
	t.Parallel()
	now := time.Unix(1000, 0)
	l := Open(Rules{Domains: []string{"corp.example"}, StaleAfter: 10 * time.Second})
	l.Snapshot().fresh.now = func() time.Time { return now }
	check := func(when, address string, home Home, code int) {
		t.Helper()
		got := l.Snapshot().Resolve(addr(address))
		if got.Home != home || got.Status.Code != code {
			t.Errorf("%s: Resolve(%s) = %v %d, want %v %d", when, address, got.Home, got.Status.Code, home, code)
		}
	}
	check("nothing loaded", "alice@corp.example", HomeUnknown, 451)
	check("nothing loaded", "x@other.example", HomeUnknown, 451) // perhaps a domain that the directory names
	l.Apply(1, []Change{{"test:alice", person("alice")}})
	check("half loaded", "alice@corp.example", HomeHere, 0)
	check("half loaded", "bob@corp.example", HomeUnknown, 451)
	l.Confirm(now)
	check("confirmed", "bob@corp.example", HomeNobody, 550)
	now = now.Add(10 * time.Second)
	check("just fresh", "bob@corp.example", HomeNobody, 550)
	now = now.Add(time.Second)
	check("stale", "alice@corp.example", HomeHere, 0)
	check("stale", "bob@corp.example", HomeUnknown, 451)
	l.Confirm(now)
	check("back", "bob@corp.example", HomeNobody, 550)
	l.Confirm(time.Time{})
	check("away", "bob@corp.example", HomeUnknown, 451)
}

func TestMayUse(t *testing.T) {
	t.Parallel()
	s := corp(t)
	tests := []struct {
		person, from string
		want         Usage
	}{
		{"alice", "alice@corp.example", UsageOwn},
		{"alice", "A.Example@corp.example", UsageOwn},
		{"alice", "alice+x@corp.example", UsageOwn},
		{"alice", "bob@corp.example", UsageNone},
		{"alice", "alice@other.example", UsageNone},
		{"alice", "nobody@corp.example", UsageNone},
		{"wangwei", "王伟@corp.example", UsageOwn},
		{"wangwei", "office@corp.example", UsageSendAs},
		{"alice", "office@corp.example", UsageOnBehalf}, // by group
		{"dave", "office@corp.example", UsageNone},
		{"twin1", "twin@corp.example", UsageNone}, // nobody's while two claim it
	}
	for _, tt := range tests {
		if got := s.MayUse(s.ByLogin(tt.person), addr(tt.from)); got != tt.want {
			t.Errorf("MayUse(%s, %s) = %d, want %d", tt.person, tt.from, got, tt.want)
		}
	}
	if got := s.MayUse(nil, addr("alice@corp.example")); got != UsageNone {
		t.Errorf("MayUse(nil) = %d", got)
	}
}

func TestMailboxesOf(t *testing.T) {
	t.Parallel()
	s := corp(t)
	for name, want := range map[string]int{"alice": 1, "carol": 1, "dave": 0} {
		e := s.ByLogin(name)
		got := s.MailboxesOf(e)
		if len(got) != want || want == 1 && got[0].Key != "test:office" {
			t.Errorf("MailboxesOf(%s) = %v, want %d", name, got, want)
		}
		if may := s.MayOpen(e, s.ByKey("test:office")); may != (want == 1) {
			t.Errorf("MayOpen(%s) = %v", name, may)
		}
	}
}

func TestKeeps(t *testing.T) {
	t.Parallel()
	s := corp(t)
	for name, want := range map[string]bool{"alice": true, "office": true, "aula": true, "gone": true, "guest": false, "partner": false, "old": false, "sales": false, "rights": false} {
		if got := s.Keeps(s.ByKey(Key("test:" + name))); got != want {
			t.Errorf("Keeps(%s) = %v", name, got)
		}
	}
	if s.Keeps(nil) {
		t.Error("Keeps(nil)")
	}
}

// Who may send to a list: each policy against each kind of sender.
func TestMayPost(t *testing.T) {
	t.Parallel()
	l := func(name string, f func(*Entry)) *Entry {
		return entry(KindList, name, func(e *Entry) { e.Members = dns("member", "nested"); f(e) })
	}
	barred := func(p ListPolicy) func(*Entry) {
		return func(e *Entry) { e.Policy, e.Barred, e.Owners = p, dns("bad", "badgroup"), dns("owner", "bad") }
	}
	s := NewSnapshot([]string{"corp.example"}, []*Entry{
		person("colleague"), person("member"), person("deep"), person("owner"), person("moderator"), person("sender"), person("bad"), person("worse"),
		entry(KindContact, "friend", func(e *Entry) { e.Primary = addr("friend@far.example") }),
		list("nested", 0, "deep"), list("senders", 0, "sender"), list("badgroup", 0, "worse"), list("staff", 0, "owner"),
		l("unsaid", func(*Entry) {}),
		l("open", func(e *Entry) { e.Policy = ListOpen }),
		l("internal", func(e *Entry) { e.Policy = ListInternal }),
		l("members", func(e *Entry) { e.Policy = ListMembers }),
		l("owners", func(e *Entry) {
			e.Policy, e.Owners, e.Moderators, e.Senders = ListOwners, dns("staff"), dns("moderator"), dns("senders")
		}),
		l("moderated", func(e *Entry) {
			e.Policy, e.Owners, e.Moderators, e.Senders = ListModerated, dns("owner"), dns("moderator"), dns("senders")
		}),
		l("byowners", func(e *Entry) { e.Policy, e.Owners = ListModerated, dns("staff") }),
		l("byoutsider", func(e *Entry) { e.Policy, e.Moderators = ListModerated, []string{"mailto:friend@far.example"} }),
		l("bynobody", func(e *Entry) { e.Policy, e.Moderators = ListModerated, dns("left") }),
		l("baropen", barred(ListOpen)),
		l("ourmoderated", func(e *Entry) { e.Policy, e.Owners, e.NoStrangers = ListModerated, dns("owner"), true }),
		l("ouropen", func(e *Entry) { e.Policy, e.NoStrangers = ListOpen, true }),
		l("somemoderated", func(e *Entry) {
			e.Policy, e.Owners, e.Allowed = ListModerated, dns("owner"), dns("senders", "colleague")
		}),
		l("barinternal", barred(ListInternal)),
		l("barmoderated", barred(ListModerated)),
	})
	senders := []string{"", "colleague", "member", "deep", "owner", "moderator", "sender", "bad", "worse"}
	for name, want := range map[string]string{ // + allowed, - refused, ? held, in the order of senders
		"unsaid":     "-++++++++",
		"open":       "+++++++++",
		"internal":   "-++++++++",
		"members":    "--++-----",
		"owners":     "----+++--",
		"moderated":  "????+++??",
		"byowners":   "????+????",
		"byoutsider": "?????????",
		"bynobody":   "---------",
		"baropen":    "+++++++--",

		// Who may not send at all is not moderated.
		"ourmoderated":  "-???+????",
		"ouropen":       "-++++++++",
		"somemoderated": "-?--+-?--",

		"barinternal":  "-++++++--",
		"barmoderated": "????+??--",
	} {
		got := ""
		for _, sender := range senders {
			got += map[Post]string{PostAllowed: "+", PostRefused: "-", PostHeld: "?"}[s.MayPost(s.ByKey(Key("test:"+name)), s.ByLogin(sender))]
		}
		if got != want {
			t.Errorf("%s: %s, want %s for %q", name, got, want, senders)
		}
	}
}

func TestRulesValidate(t *testing.T) {
	t.Parallel()
	good := Rules{Domains: []string{"corp.example", "例子.example"}, Delimiter: "+"}
	if err := good.Validate(); err != nil {
		t.Errorf("Validate(%+v) = %v", good, err)
	}
	for _, bad := range []Rules{
		{Domains: []string{"not a domain"}},
		{Delimiter: "@"},
		{Delimiter: "--"},
		{StaleAfter: -1},
		{ListPolicy: 99},
	} {
		if bad.Validate() == nil {
			t.Errorf("Validate(%+v) = nil", bad)
		}
	}
}

func TestDomains(t *testing.T) {
	t.Parallel()
	l := NewLive(corp(t))
	if !l.Snapshot().IsLocalDomain("brand.example") || !l.Snapshot().IsLocalDomain("xn--fsqu00a.example") {
		t.Errorf("domains: %v", l.Snapshot().Domains())
	}
	l.Apply(2, []Change{{"test:domain", nil}})
	if l.Snapshot().IsLocalDomain("brand.example") {
		t.Error("the domain of an object that has gone is still ours")
	}
	var zero envelope.Address
	if got := l.Snapshot().Resolve(zero); got.Home != HomeNotOurs {
		t.Errorf("Resolve(zero) = %v", got.Home)
	}
}
