package directory

import (
	"slices"
	"testing"

	"dirpost/internal/envelope"
)

// homes is a company whose other mail system has some of the mailboxes.
func homes(t *testing.T, change func(*Rules)) *Snapshot {
	t.Helper()
	rules := Rules{Domains: []string{"corp.example"}, Delimiter: "+", NextHop: "exchange.corp.example:25", Postmaster: addr("alice@corp.example")}
	if change != nil {
		change(&rules)
	}
	if err := rules.Validate(); err != nil {
		t.Fatal(err)
	}
	rules = rules.withDefaults()
	in := func(e *Entry) *Entry { e.Directory = "corp"; return e }
	entries := []*Entry{
		in(person("alice")),
		in(entry(KindPerson, "bob", func(e *Entry) { e.Facts = []string{"department=it"} })),
		in(entry(KindPerson, "eve", func(e *Entry) { e.Place = PlaceElsewhere })),
		in(entry(KindPerson, "cloud", func(e *Entry) { e.Place, e.Forward = PlaceElsewhere, addrs("cloud@tenant.example") })),
		in(entry(KindPerson, "forwards", func(e *Entry) { e.Forward, e.KeepCopy = addrs("bob@corp.example"), true })),
		in(entry(KindPerson, "stays", func(e *Entry) { e.Place = PlaceHere })),
		in(entry(KindPerson, "berlin", func(e *Entry) { e.DN = "cn=berlin,ou=Berlin,dc=corp,dc=example" })),
		in(entry(KindShared, "office", func(e *Entry) { e.X500 = []string{FoldX500("/o=Corp/ou=First Group/cn=Recipients/cn=office")} })),
		in(entry(KindPerson, "nested", nil)),
		in(list("moved", 0, "inner")),
		in(list("inner", 0, "nested")),
		in(list("all", ListOpen, "alice", "bob", "eve", "cloud", "nested")),
		entry(KindPerson, "partner", func(e *Entry) { e.Directory = "other" }),
		in(entry(KindPerson, "service", func(e *Entry) { e.Primary = envelope.Address{} })),
		in(entry(KindContact, "friend", func(e *Entry) { e.Primary, e.Aliases = addr("f@far.example"), addrs("friend@corp.example") })),
	}
	changes := make([]Change, len(entries))
	for i, e := range entries {
		changes[i] = Change{Key: e.Key, Entry: e}
	}
	return newSnapshot(&rules).with(1, changes)
}

func TestPlaces(t *testing.T) {
	t.Parallel()
	rule := func(m MailboxRule) func(*Rules) {
		return func(r *Rules) { m.Directory = "corp"; r.Mailboxes = []MailboxRule{m} }
	}
	for _, tt := range []struct {
		name   string
		change func(*Rules)
		want   map[string]Home
	}{
		{"Exchange's attributes alone", nil, map[string]Home{
			"alice": HomeHere, "bob": HomeHere, "eve": HomeElsewhere, "stays": HomeHere, "partner": HomeHere, "nobody": HomeNobody, "all": HomeList, "friend": HomeContact}},
		{"a filter", rule(MailboxRule{Filter: "(department=IT)"}), map[string]Home{
			"alice": HomeElsewhere, "bob": HomeHere, "eve": HomeElsewhere, "stays": HomeHere, "partner": HomeHere, "office": HomeElsewhere}},
		{"a unit", rule(MailboxRule{Under: []string{"OU=Berlin, DC=corp, DC=example"}}), map[string]Home{
			"alice": HomeElsewhere, "berlin": HomeHere}},
		{"a group, with groups in it", rule(MailboxRule{Groups: []string{"CN=moved,DC=corp,DC=example"}}), map[string]Home{
			"alice": HomeElsewhere, "nested": HomeHere}},
		{"the rule wins over Exchange's attributes", rule(MailboxRule{Under: []string{"dc=corp,dc=example"}}), map[string]Home{
			"eve": HomeHere, "cloud": HomeHere}},
		{"a rule without another system", func(r *Rules) { rule(MailboxRule{Filter: "(department=IT)"})(r); r.NextHop = "" }, map[string]Home{
			"alice": HomeNobody, "bob": HomeHere, "partner": HomeHere}},
		{"unknown to the other system", func(r *Rules) { r.UnknownElsewhere = true }, map[string]Home{
			"nobody": HomeElsewhere, "alice+x": HomeHere, "eve+x": HomeElsewhere, "abuse": HomeHere}},
	} {
		s := homes(t, tt.change)
		for local, want := range tt.want {
			a := addr(local + "@corp.example")
			r := s.Resolve(a)
			if r.Home != want {
				t.Errorf("%s: %s is %v, want %v (%v)", tt.name, local, r.Home, want, r.Status)
			}
			if r.Home == HomeElsewhere && (r.NextHop != "exchange.corp.example:25" || r.Target.Domain != "corp.example" || !r.OK()) {
				t.Errorf("%s: %s goes to %v by %q", tt.name, local, r.Target, r.NextHop)
			}
			if e := s.ByAddress(a); e != nil && e.HasMailbox() && s.Keeps(e) != (want == HomeHere) {
				t.Errorf("%s: Keeps(%s) = %t", tt.name, local, !s.Keeps(e))
			}
		}
	}
}

// Who has a target outside is reached there, not by way of the other system.
func TestPlaceWithTarget(t *testing.T) {
	t.Parallel()
	if r := homes(t, nil).Resolve(addr("cloud@corp.example")); r.Home != HomeElsewhere || r.Target != addr("cloud@tenant.example") || r.NextHop != "" {
		t.Errorf("%+v", r)
	}
	s := homes(t, func(r *Rules) { r.Mailboxes = []MailboxRule{{Directory: "corp", Filter: "(department=IT)"}} })
	if r := s.Resolve(addr("forwards@corp.example")); r.Target != addr("forwards@corp.example") || r.NextHop == "" {
		t.Errorf("a forward of somebody whose mailbox is elsewhere: %+v", r)
	}
}

// A list reaches its members wherever their mailboxes are.
func TestListAcrossSystems(t *testing.T) {
	t.Parallel()
	x := homes(t, func(r *Rules) { r.Mailboxes = []MailboxRule{{Directory: "corp", Filter: "(department=IT)"}} }).
		Expand([]envelope.Recipient{{Address: addr("all@corp.example")}}, Terms{})
	var to []string
	for _, r := range x.Remote {
		to = append(to, r.Recipient.Address.String()+" by "+r.NextHop)
	}
	slices.Sort(to)
	want := []string{"alice@corp.example by exchange.corp.example:25", "cloud@tenant.example by ", "eve@corp.example by exchange.corp.example:25", "nested@corp.example by exchange.corp.example:25"}
	if !slices.Equal(to, want) || len(x.Local) != 1 || x.Local[0].Entry.Key != "test:bob" || len(x.Refused) != 0 {
		t.Errorf("local %v, remote %v, refused %v", x.Local, to, x.Refused)
	}
}

// Replies to old mail of Exchange go to its internal address.
func TestIMCEAEX(t *testing.T) {
	t.Parallel()
	s := homes(t, nil)
	for local, want := range map[string]Home{
		"IMCEAEX-_O=CORP_OU=First+20Group_CN=Recipients_CN=office": HomeHere,
		"imceaex-_o=corp_ou=first+20group_cn=recipients_cn=OFFICE": HomeHere,
		"IMCEAEX-_O=CORP_OU=First+20Group_CN=Recipients_CN=gone":   HomeNobody,
		"IMCEAEX-": HomeNobody, "IMCEAEX-_O=+2": HomeNobody, "IMCEAEX-_O=+zz": HomeNobody, "IMCEAEX-plain": HomeNobody,
	} {
		r := s.Resolve(envelope.Address{Local: local, Domain: "corp.example"})
		if r.Home != want || want == HomeHere && r.Entry.Key != "test:office" {
			t.Errorf("%s: %v %v, want %v", local, r.Home, r.Status, want)
		}
	}
}

func FuzzIMCEAEX(f *testing.F) {
	for _, s := range []string{"IMCEAEX-_O=CORP_CN=x+20y", "IMCEAEX-", "imceaex-_+", "alice"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, local string) {
		if address, ok := decodeIMCEAEX(local); ok && (FoldX500(address) != address || address == "") {
			t.Errorf("%q gives %q, which is not in its own form", local, address)
		}
	})
}

// A domain takes no mail before somebody has seen whose mailboxes are here, and
// other rules take nobody's mailbox away unseen.
func TestConfirmation(t *testing.T) {
	t.Parallel()
	ask := func(r *Rules) { r.Confirm = true }
	s := homes(t, ask)
	l := NewLive(s)
	home := func(local string) (Home, int) {
		r := l.Snapshot().Resolve(addr(local + "@corp.example"))
		return r.Home, r.Status.Code
	}
	for _, local := range []string{"alice", "nobody", "eve", "all", "postmaster"} {
		if h, code := home(local); h != HomeUnknown || code != 451 {
			t.Errorf("before: %s is %v, %d", local, h, code)
		}
	}
	if list := s.Unconfirmed(); !slices.Equal(list, []string{"corp.example"}) {
		t.Errorf("Unconfirmed = %v", list)
	}
	l.SetConfirmed(Confirmed{"corp.example": s.rules.Placement()})
	for local, want := range map[string]Home{"alice": HomeHere, "nobody": HomeNobody, "eve": HomeElsewhere, "all": HomeList} {
		if h, _ := home(local); h != want {
			t.Errorf("confirmed: %s is %v, want %v", local, h, want)
		}
	}
	// A system that is older than all this goes on.
	before := NewLive(s)
	before.SetConfirmed(Confirmed{anyDomain: ""})
	if r := before.Snapshot().Resolve(addr("alice@corp.example")); r.Home != HomeHere || len(before.Snapshot().Unconfirmed()) != 0 {
		t.Errorf("in an older system: %+v", r)
	}
	// Another rule, not confirmed: alice would lose her mailbox here.
	old := s.rules.Placement()
	l = NewLive(homes(t, func(r *Rules) { ask(r); r.Mailboxes = []MailboxRule{{Directory: "corp", Filter: "(department=IT)"}} }))
	l.SetConfirmed(Confirmed{"corp.example": old})
	for local, want := range map[string]int{"alice": 451, "nobody": 451, "bob": 0, "all": 0} {
		if _, code := home(local); code != want {
			t.Errorf("other rule: %s gets %d, want %d", local, code, want)
		}
	}
	l.Apply(2, nil)
	if _, code := home("bob"); code != 0 {
		t.Error("a change of the directory forgets what was confirmed")
	}
}

func TestCensus(t *testing.T) {
	t.Parallel()
	seen, without := homes(t, func(r *Rules) { r.Mailboxes = []MailboxRule{{Directory: "corp", Filter: "(department=IT)"}} }).Census()
	want := Census{Domain: "corp.example", Here: 3, Elsewhere: 7, Lists: 3, Contacts: 1}
	if len(seen) != 1 || seen[0] != want || without != 1 {
		t.Errorf("%+v, %d without; want %+v, 1", seen, without, want)
	}
}

func TestMailboxRuleErrors(t *testing.T) {
	t.Parallel()
	for _, m := range []MailboxRule{{}, {Filter: "(("}, {Filter: "(a=b)(c=d)"}} {
		if err := (Rules{Mailboxes: []MailboxRule{m}}).Validate(); err == nil {
			t.Errorf("%+v is taken", m)
		}
	}
	if err := (Rules{UnknownElsewhere: true}).Validate(); err == nil {
		t.Error("unknown elsewhere without another system is taken")
	}
	m := MailboxRule{Filter: "(&(department=IT)(L=x))"}
	if facts, err := m.Facts(); err != nil || !slices.Equal(facts, []string{"department", "l"}) {
		t.Errorf("Facts = %v, %v", facts, err)
	}
}

// TestAwaited: what waits for a mailbox goes where the mailbox is by now.
func TestAwaited(t *testing.T) {
	t.Parallel()
	s := homes(t, nil)
	for _, tt := range []struct {
		key, address string
		home         Home
		target, hop  string
		code         string
	}{
		{"alice", "alice@corp.example", HomeHere, "", "", ""},
		{"alice", "all@corp.example", HomeHere, "", "", ""},
		{"service", "alice@corp.example", HomeHere, "", "", ""}, // it has lost its address, and keeps its mailbox
		{"eve", "eve@corp.example", HomeElsewhere, "eve@corp.example", "exchange.corp.example:25", ""},
		{"eve", "eve+x@corp.example", HomeElsewhere, "eve@corp.example", "exchange.corp.example:25", ""},
		{"eve", "all@corp.example", HomeElsewhere, "eve@corp.example", "exchange.corp.example:25", ""},
		{"cloud", "all@corp.example", HomeElsewhere, "cloud@tenant.example", "", ""},
		{"friend", "all@corp.example", HomeContact, "f@far.example", "", ""},
		{"left", "left@corp.example", HomeNobody, "", "", "5.1.1"},
		{"all", "all@corp.example", HomeNobody, "", "", "5.1.1"},
	} {
		key := Key("test:" + tt.key)
		r := s.Awaited(key, addr(tt.address))
		target := ""
		if !r.Target.IsZero() {
			target = r.Target.String()
		}
		if r.Home != tt.home || target != tt.target || r.NextHop != tt.hop || r.Status.Enhanced != tt.code {
			t.Errorf("%s by %s: %s %s by %q %s, want %+v", tt.key, tt.address, r.Home, target, r.NextHop, r.Status.Enhanced, tt)
		}
	}
	waits := homes(t, func(r *Rules) {
		r.NextHop, r.Mailboxes = "", []MailboxRule{{Directory: "corp", Filter: "(department=IT)"}}
	})
	for name, want := range map[string]Home{"bob": HomeHere, "alice": HomeNobody} {
		if r := waits.Awaited(Key("test:"+name), addr(name+"@corp.example")); r.Home != want {
			t.Errorf("%s by a rule: %s, want %s", name, r.Home, want)
		}
	}
}

// What waits for the other system is decided anew for the person, and not for whoever
// has the address by now.
func TestMoved(t *testing.T) {
	t.Parallel()
	const there, third = "exchange.corp.example:25", "third.corp.example:25"
	s := homes(t, func(r *Rules) { r.UnknownElsewhere = true })
	change := func(name string, f func(e *Entry)) {
		e := *s.ByKey(Key("test:" + name))
		e.packed = ""
		f(&e)
		s = s.with(s.Version()+1, []Change{{e.Key, &e}})
	}
	rename := func(name, address string) { // to the address of somebody else
		change(name, func(e *Entry) { e.Primary = addr(address) })
	}
	rename("stays", "new@corp.example")
	rename("berlin", "stays@corp.example")
	rename("nested", "other@corp.example")
	change("nested", func(e *Entry) { e.Place = PlaceElsewhere })
	change("office", func(e *Entry) { e.Gone = s.now() })
	for _, tt := range []struct {
		name        string
		key         Key
		address     string
		nextHop     string
		want        Key
		home        Home // by Awaited
		to, through string
	}{
		{"still there", "test:eve", "eve@corp.example", there, "", 0, "", ""},
		{"still there, at a target outside", "test:cloud", "cloud@tenant.example", "", "", 0, "", ""},
		{"here by now", "test:alice", "alice@corp.example", there, "test:alice", HomeHere, "", ""},
		{"here by now, and the address is somebody's else", "test:stays", "stays@corp.example", there, "test:stays", HomeHere, "", ""},
		{"there, and the address is somebody's else", "test:nested", "alice@corp.example", there, "test:nested", HomeElsewhere, "other@corp.example", there},
		{"there, by another next hop", "test:eve", "eve@corp.example", third, "test:eve", HomeElsewhere, "eve@corp.example", there},
		{"unknown, and nobody's", "", "nobody@corp.example", there, "", 0, "", ""},
		{"unknown, and somebody's by now", "", "bob@corp.example", there, "test:bob", HomeHere, "", ""},
		{"unknown, and a list's by now", "", "all@corp.example", there, "", 0, "", ""},
		{"has left", "test:office", "office@corp.example", there, "", 0, "", ""},
		{"was never there", "test:x", "alice@corp.example", there, "", 0, "", ""},
	} {
		a := addr(tt.address)
		got := s.Moved(tt.key, a, tt.nextHop)
		if got != tt.want {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
		if tt.home == 0 {
			continue
		}
		if r := s.Awaited(got, a); r.Home != tt.home || tt.to != "" && (r.Target.String() != tt.to || r.NextHop != tt.through) {
			t.Errorf("%s: %v, %v by %q", tt.name, r.Home, r.Target, r.NextHop)
		} else if r.Home == HomeElsewhere && s.Moved(got, r.Target, r.NextHop) != "" {
			t.Errorf("%s: decided anew for ever", tt.name)
		}
	}
	if got := newSnapshot(&Rules{Domains: []string{"corp.example"}}).Moved("", addr("bob@corp.example"), there); got != "" {
		t.Errorf("while nothing is known: %q", got)
	}
}
