package directory

import (
	"slices"
	"strings"
	"testing"

	"dirpost/internal/envelope"
)

// policySnapshot is a few people in nested groups, with policies.
func policySnapshot(t testing.TB, list ...Policy) *Snapshot {
	t.Helper()
	addr := func(text string) envelope.Address {
		a, err := envelope.ParseAddress(text)
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	person := func(name string, f func(*Entry)) *Entry {
		e := &Entry{Key: Key("corp:" + name), Directory: "corp", DN: "uid=" + name + ",dc=x", Kind: KindPerson, Primary: addr(name + "@x.example"), Login: StateActive, Delivery: StateActive, Logins: []string{name}}
		if f != nil {
			f(e)
		}
		return e
	}
	group := func(name string, f func(*Entry), members ...string) *Entry {
		e := &Entry{Key: Key("corp:" + name), Directory: "corp", DN: "cn=" + name + ",dc=x", Kind: KindList, Login: StateActive, Delivery: StateActive}
		for _, m := range members {
			e.Members = append(e.Members, m+",dc=x")
		}
		if f != nil {
			f(e)
		}
		return e
	}
	rules := Rules{Domains: []string{"x.example"}, Policies: list}.withDefaults()
	if err := rules.Validate(); err != nil {
		t.Fatal(err)
	}
	entries := []*Entry{
		person("alice", nil),
		person("bob", func(e *Entry) { e.Quota, e.Services = 7, []string{"imap", "pop3"} }),
		person("carol", func(e *Entry) { e.SID, e.PrimaryGroup = "S-1-5-21-1-1105", "S-1-5-21-1-513" }),
		person("dave", nil),
		{Key: "corp:office", Directory: "corp", DN: "uid=office,dc=x", Kind: KindShared, Primary: addr("office@x.example")},
		group("inner", nil, "uid=alice", "uid=bob"),
		group("outer", func(e *Entry) { e.Primary = addr("outer@x.example") }, "cn=inner"),
		group("domain-users", func(e *Entry) { e.SID = "S-1-5-21-1-513" }),
		group("held", nil, "uid=dave"),
	}
	changes := make([]Change, len(entries))
	for i, e := range entries {
		changes[i] = Change{Key: e.Key, Entry: e}
	}
	return newSnapshot(&rules).with(1, changes)
}

func TestLimits(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, who string
		policies  []Policy
		want      func(Limits) bool
	}{
		{"none", "bob", nil, func(l Limits) bool {
			return l.Quota == 7 && l.MayUseService("pop3") && !l.MayUseService("sieve") && l.Origins == nil
		}},
		{"by a nested group", "alice", []Policy{{Group: "CN=Outer, DC=X", Quota: 100}}, func(l Limits) bool {
			return l.Quota == 100 && slices.Equal(l.Origins, []string{"quota=CN=Outer, DC=X"})
		}},
		{"by its address", "alice", []Policy{{Group: "outer@x.example", Quota: 100}}, func(l Limits) bool { return l.Quota == 100 }},
		{"by the primary group", "carol", []Policy{{Group: "S-1-5-21-1-513", MaxSend: 5}}, func(l Limits) bool { return l.MaxSend == 5 }},
		{"not in the group", "dave", []Policy{{Group: "cn=outer,dc=x", Quota: 100}}, func(l Limits) bool { return l.Quota == 0 }},
		{"no such group", "alice", []Policy{{Group: "cn=gone,dc=x", Quota: 100}}, func(l Limits) bool { return l.Quota == 0 }},
		{"the own value counts", "bob", []Policy{{Group: "cn=inner,dc=x", Quota: 100}}, func(l Limits) bool { return l.Quota == 7 }},
		{"the largest", "alice", []Policy{{Group: "cn=inner,dc=x", Quota: 100}, {Group: "cn=outer,dc=x", Quota: 50}}, func(l Limits) bool { return l.Quota == 100 }},
		{"unlimited is the largest", "alice", []Policy{{Group: "cn=inner,dc=x", Quota: 100}, {Group: "cn=outer,dc=x", Quota: Unlimited}, {Group: "*", Quota: 9}}, func(l Limits) bool { return l.Quota == 0 }},
		{"everybody, where nothing else is said", "dave", []Policy{{Group: "*", Quota: 900}, {Group: "cn=inner,dc=x", Quota: 100}}, func(l Limits) bool { return l.Quota == 900 }},
		{"everybody, where something is", "alice", []Policy{{Group: "*", Quota: 900}, {Group: "cn=inner,dc=x", Quota: 100}}, func(l Limits) bool { return l.Quota == 100 }},
		{"allowed by two", "alice", []Policy{{Group: "cn=inner,dc=x", Services: []string{"imap"}}, {Group: "cn=outer,dc=x", Services: []string{"sieve"}}}, func(l Limits) bool {
			return l.MayUseService("imap") && l.MayUseService("sieve") && !l.MayUseService("pop3")
		}},
		{"the own services count", "bob", []Policy{{Group: "cn=inner,dc=x", Services: []string{"sieve"}}}, func(l Limits) bool { return l.MayUseService("pop3") && !l.MayUseService("sieve") }},
		{"denied, whatever allows it", "bob", []Policy{{Group: "cn=inner,dc=x", Services: []string{"pop3"}}, {Group: "cn=outer,dc=x", Deny: []string{"pop3"}}}, func(l Limits) bool { return l.MayUseService("imap") && !l.MayUseService("pop3") }},
		{"all denied", "alice", []Policy{{Group: "*", Deny: ServiceNames()}}, func(l Limits) bool { return l.Services != nil && !l.MayUseService("imap") }},
		{"hold before refuse", "dave", []Policy{{Group: "cn=held,dc=x", Delivery: StateHeld}, {Group: "*", Delivery: StateDisabled}}, func(l Limits) bool { return l.Delivery == StateHeld }},
		{"refuse", "dave", []Policy{{Group: "*", Delivery: StateDisabled}}, func(l Limits) bool { return l.Delivery == StateDisabled }},
		{"hidden, and no login", "dave", []Policy{{Group: "cn=held,dc=x", Hidden: true}, {Group: "*", NoLogin: true}}, func(l Limits) bool { return l.Hidden && l.NoLogin }},
	}
	for _, tt := range tests {
		s := policySnapshot(t, tt.policies...)
		if l := s.Limits(s.ByKey(Key("corp:" + tt.who))); !tt.want(l) {
			t.Errorf("%s: %+v", tt.name, l)
		}
	}
}

func TestPolicyRights(t *testing.T) {
	t.Parallel()
	s := policySnapshot(t, Policy{Group: "cn=outer,dc=x", Access: []string{"office@x.example"}, SendAs: []string{"uid=office,dc=x"}, OnBehalf: []string{"dave@x.example"}})
	alice, dave, office := s.ByKey("corp:alice"), s.ByKey("corp:dave"), s.ByKey("corp:office")
	if m := s.MailboxesOf(alice); len(m) != 1 || m[0].Key != office.Key || !s.MayOpen(alice, office) {
		t.Errorf("alice opens %v", m)
	}
	if s.MayUse(alice, office.Primary) != UsageSendAs || s.MayUse(alice, dave.Primary) != UsageOnBehalf {
		t.Error("alice may not send as office, or on behalf of dave")
	}
	if s.MayOpen(dave, office) || s.MayUse(dave, office.Primary) != UsageNone || len(s.MailboxesOf(dave)) != 0 {
		t.Error("dave, who is not in the group, has its rights")
	}
}

func TestPolicyDelivery(t *testing.T) {
	t.Parallel()
	s := policySnapshot(t, Policy{Group: "cn=held,dc=x", Delivery: StateHeld}, Policy{Group: "cn=inner,dc=x", Delivery: StateDisabled, Quota: 5})
	to := func(who string) Expansion {
		return s.Expand([]envelope.Recipient{{Address: s.ByKey(Key("corp:" + who)).Primary}}, Terms{})
	}
	if x := to("dave"); len(x.Held) != 1 || len(x.Local) != 0 {
		t.Errorf("held: %+v", x)
	}
	if x := to("alice"); len(x.Refused) != 1 || x.Refused[0].Status.Code != 550 {
		t.Errorf("refused: %+v", x)
	}
	if x := to("carol"); len(x.Local) != 1 {
		t.Errorf("others: %+v", x)
	}
}

func TestPolicyProblems(t *testing.T) {
	t.Parallel()
	s := policySnapshot(t, Policy{Group: "cn=gone,dc=x", Quota: 1}, Policy{Group: "cn=inner,dc=x", Access: []string{"nobody@x.example"}}, Policy{Group: "*", Quota: 1})
	got := s.PolicyProblems()
	if len(got) != 2 || !strings.Contains(got[0]+got[1], "cn=gone,dc=x") || !strings.Contains(got[0]+got[1], "nobody@x.example") {
		t.Errorf("%q", got)
	}
	for _, bad := range []Policy{{}, {Group: "word"}, {Group: "*", Services: []string{"ftp"}}, {Group: "*", Quota: -5}, {Group: "*", Delivery: StateLocked}, {Group: "*", Access: []string{"x"}}} {
		if bad.Validate() == nil {
			t.Errorf("%+v is valid", bad)
		}
	}
}

func BenchmarkLimitsWithoutPolicies(b *testing.B) {
	s := policySnapshot(b)
	e := s.ByKey("corp:alice")
	b.ReportAllocs()
	for b.Loop() {
		_ = s.Limits(e)
	}
}

func BenchmarkLimits(b *testing.B) {
	s := policySnapshot(b, Policy{Group: "cn=outer,dc=x", Quota: 100}, Policy{Group: "*", Quota: 50})
	e := s.ByKey("corp:alice")
	b.ReportAllocs()
	for b.Loop() {
		_ = s.Limits(e)
	}
}

// Groups that the configuration names: nested, primary, by DN, SID and address.
func TestInGroups(t *testing.T) {
	t.Parallel()
	s := policySnapshot(t)
	for _, tt := range []struct {
		who    string
		groups []string
		want   bool
	}{
		{"alice", []string{"CN=Inner, dc=x"}, true},
		{"alice", []string{"cn=held,dc=x", "outer@x.example"}, true},
		{"carol", []string{"S-1-5-21-1-513"}, true},
		{"carol", []string{"outer@x.example"}, false},
		{"dave", []string{"cn=nobody,dc=x"}, false},
		{"dave", []string{"dave@x.example"}, true},
		{"dave", []string{Everybody}, true},
		{"dave", nil, false},
		{"dave", []string{""}, false},
	} {
		if got := s.InGroups(s.ByLogin(tt.who), tt.groups); got != tt.want {
			t.Errorf("%s in %q: %v", tt.who, tt.groups, got)
		}
	}
	if s.InGroups(nil, []string{Everybody}) {
		t.Error("nobody is in a group")
	}
	if got := s.MissingGroups([]string{"cn=inner,dc=x", "cn=nobody,dc=x", Everybody}); !slices.Equal(got, []string{"cn=nobody,dc=x"}) {
		t.Errorf("missing: %q", got)
	}
	for _, bad := range []string{"", "sales", "uid"} {
		if ValidateGroup(bad) == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}
