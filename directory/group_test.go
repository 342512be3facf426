package directory

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// groupCorp has a group for each way to name a member.
func groupCorp(t testing.TB) *Snapshot {
	t.Helper()
	const fsp = "cn=s-1-5-21-9-9-9-1001,cn=foreignsecurityprincipals,dc=corp,dc=example"
	with := func(facts ...string) func(*Entry) { return func(e *Entry) { e.Facts = facts } }
	return NewSnapshot([]string{"corp.example"}, []*Entry{
		entry(KindPerson, "alice", with("l=Köln", "objectclass=inetOrgPerson")),
		entry(KindPerson, "bob", with("l=Bonn", "objectclass=inetOrgPerson")),
		entry(KindPerson, "carol", func(e *Entry) { e.SID, e.PrimaryGroup = "S-1-5-21-1-1-1-1103", "S-1-5-21-1-1-1-513" }),
		entry(KindPerson, "dan", func(e *Entry) { e.SID, e.PrimaryGroup = "S-1-5-21-1-1-1-1104", "S-1-5-21-1-1-1-513" }),
		entry(KindPerson, "eva", func(e *Entry) { e.Directory, e.DN, e.SID = "other", "cn=eva,dc=other", "S-1-5-21-9-9-9-1001" }),
		// The same DN and the same login in another directory: somebody else.
		entry(KindPerson, "alice2", func(e *Entry) { e.Directory, e.DN, e.Logins = "other", dn("alice"), []string{"alice"} }),
		entry(KindContact, "partner", func(e *Entry) { e.Primary = addr("partner@far.example") }),
		list("dns", ListOpen, "alice", "partner", "nobody"),
		entry(KindList, "logins", func(e *Entry) { e.Policy, e.MemberLogins = ListOpen, []string{"alice", "bob", "nobody"} }),
		entry(KindList, "everybody", func(e *Entry) { e.Policy, e.SID = ListOpen, "S-1-5-21-1-1-1-513" }),
		entry(KindList, "foreign", func(e *Entry) {
			e.Policy, e.Members = ListOpen, []string{fsp, "cn=s-1-5-21-9-9-9-9999,cn=foreignsecurityprincipals,dc=corp,dc=example"}
		}),
		entry(KindList, "koeln", func(e *Entry) {
			e.Policy, e.Queries = ListOpen, []string{"ldap:///dc=corp,dc=example??sub?(&(objectClass=inetOrgPerson)(l=köln))", "no URL"}
		}),
		entry(KindList, "buddies", func(e *Entry) { e.Policy, e.Queries = ListOpen, []string{"ldap:///??sub?(memberOf=" + dn("dns") + ")"} }),
		entry(KindList, "addresses", func(e *Entry) {
			e.Policy, e.ExternalMembers = ListOpen, addrs("bob@corp.example", "x@far.example")
		}),
		list("all", ListOpen, "dns", "logins", "everybody", "foreign", "koeln", "addresses", "all", "nest"),
		list("nest", ListOpen, "all"),
		entry(KindShared, "office", func(e *Entry) { e.Access = []string{dn("nest"), fsp} }),
		entry(KindShared, "archive", func(e *Entry) { e.Access = dns("koeln") }),
	})
}

// A group has the same members whether it is expanded or a member is asked for
// its groups.
func TestMembers(t *testing.T) {
	t.Parallel()
	s := groupCorp(t)
	for group, want := range map[string]string{
		"dns":       ">partner@far.example alice",
		"logins":    "alice bob",
		"everybody": "carol dan",
		"foreign":   "eva",
		"koeln":     "alice",
		"buddies":   ">partner@far.example alice",
		"addresses": ">x@far.example bob",
		"all":       ">partner@far.example >x@far.example alice bob carol dan eva",
		"nest":      ">partner@far.example >x@far.example alice bob carol dan eva",
	} {
		var got []string
		for _, line := range describe(s.Expand(recipients(group), Terms{})) {
			name, _, _ := strings.Cut(line, "<")
			got = append(got, name)
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%s expands to %v, want %s", group, got, want)
		}
		g := s.ByKey(Key("test:" + group))
		for _, name := range []string{"alice", "bob", "carol", "dan", "eva", "alice2"} {
			if is := s.memberships(s.ByKey(Key("test:" + name))).has(g); is != slices.Contains(got, name) {
				t.Errorf("%s is in %s: %v, but it expands to %v", name, group, is, got)
			}
		}
	}
	for name, want := range map[string]string{"alice": "archive office", "bob": "office", "eva": "office", "dan": "office", "alice2": ""} {
		var got []string
		for _, m := range s.MailboxesOf(s.ByKey(Key("test:" + name))) {
			got = append(got, m.Primary.Local)
			if !s.MayOpen(s.ByKey(Key("test:"+name)), m) {
				t.Errorf("MailboxesOf and MayOpen differ about %s and %s", name, m.Key)
			}
		}
		if strings.Join(got, " ") != want {
			t.Errorf("mailboxes of %s: %v, want %s", name, got, want)
		}
	}
}

// Who is in a dynamic group follows each change, whoever has asked before.
func TestDynamicFollows(t *testing.T) {
	t.Parallel()
	l := NewLive(groupCorp(t))
	at := func(name, town string) Change {
		return Change{Key("test:" + name), entry(KindPerson, name, func(e *Entry) { e.Facts = []string{"l=" + town, "objectclass=inetOrgPerson"} })}
	}
	count := func(group string, want int) {
		t.Helper()
		s := l.Snapshot()
		if x := s.Expand(recipients(group), Terms{}); len(x.Local) != want {
			t.Errorf("%s has %v, want %d", group, describe(x), want)
		}
	}
	count("koeln", 1)
	l.Apply(2, []Change{at("bob", "Köln")})
	l.Apply(3, []Change{at("zoe", "Köln")})
	count("koeln", 3)
	before := l.Snapshot()
	l.Apply(4, []Change{at("alice", "Bonn"), {"test:zoe", nil}})
	count("koeln", 1)
	if x := before.Expand(recipients("koeln"), Terms{}); len(x.Local) != 3 {
		t.Errorf("the snapshot before has changed: %v", describe(x))
	}
	count("buddies", 1)
	l.Apply(5, []Change{{"test:dns", list("dns", ListOpen, "alice", "bob")}})
	count("buddies", 2) // the filter asks for memberOf: bob's own entry has not changed
	l.Apply(6, []Change{{"test:koeln", entry(KindList, "koeln", func(e *Entry) {
		e.Policy, e.Queries = ListOpen, []string{"ldap:///dc=corp,dc=example??sub?(l=bonn)"}
	})}})
	count("koeln", 1)
	l.Apply(7, []Change{{"test:koeln", nil}})
	if len(l.Snapshot().dynamic) != 1 {
		t.Errorf("%d dynamic groups, want 1", len(l.Snapshot().dynamic))
	}
}

// The people of one primary group are spread over the index.
func TestPrimaryGroupIsSpread(t *testing.T) {
	t.Parallel()
	l := NewLive(NewSnapshot([]string{"corp.example"}, []*Entry{entry(KindList, "users", func(e *Entry) { e.Policy, e.SID = ListOpen, "S-1-5-21-1-1-1-513" })}))
	var changes []Change
	for i := range 5000 {
		e := entry(KindPerson, fmt.Sprintf("u%04d", i), func(e *Entry) { e.PrimaryGroup = "S-1-5-21-1-1-1-513" })
		changes = append(changes, Change{e.Key, e})
	}
	l.Apply(2, changes)
	s := l.Snapshot()
	if x := s.Expand(recipients("users"), Terms{}); len(x.Local) != 5000 {
		t.Errorf("%d members, want 5000", len(x.Local))
	}
	longest := 0
	for _, row := range s.shards {
		for _, sh := range row {
			longest = max(longest, len(sh))
		}
	}
	if longest > 50 {
		t.Errorf("a shard has %d names", longest)
	}
	for i := range changes {
		changes[i].Entry = nil
	}
	l.Apply(3, changes)
	if n := len(l.Snapshot().primaries); n != 0 || len(s.primaries) != 1 {
		t.Errorf("%d primary groups are left", n)
	}
}

// Expansion and memberships are two ways through the same graph, whatever it is.
func TestGroupsProperty(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(3, 4))
	const people, groups = 12, 10
	for round := range 60 {
		var entries []*Entry
		for i := range people {
			entries = append(entries, entry(KindPerson, fmt.Sprint("p", i), func(e *Entry) {
				e.SID = fmt.Sprint("S-1-5-21-1-1-1-", 1000+i)
				e.Facts = []string{fmt.Sprint("l=", r.IntN(4))}
				if r.IntN(3) == 0 {
					e.PrimaryGroup = fmt.Sprint("S-1-5-21-1-1-1-", 500+r.IntN(groups))
				}
			}))
		}
		for i := range groups {
			entries = append(entries, entry(KindList, fmt.Sprint("g", i), func(e *Entry) {
				e.Policy, e.SID = ListOpen, fmt.Sprint("S-1-5-21-1-1-1-", 500+i)
				for range r.IntN(4) {
					switch r.IntN(5) {
					case 0:
						e.Members = append(e.Members, dn(fmt.Sprint("p", r.IntN(people))))
					case 1:
						e.Members = append(e.Members, dn(fmt.Sprint("g", r.IntN(groups))))
					case 2:
						e.MemberLogins = append(e.MemberLogins, fmt.Sprint("p", r.IntN(people)))
					case 3:
						e.Members = append(e.Members, fmt.Sprintf("cn=s-1-5-21-1-1-1-%d,cn=foreignsecurityprincipals,dc=x", 1000+r.IntN(people)))
					case 4:
						e.ExternalMembers = addrs(fmt.Sprintf("p%d@corp.example", r.IntN(people)))
					}
				}
				if r.IntN(6) == 0 {
					e.Queries = []string{fmt.Sprintf("ldap:///??sub?(l=%d)", r.IntN(4))}
				}
			}))
		}
		s := NewSnapshot([]string{"corp.example"}, entries)
		for g := range groups {
			name := fmt.Sprint("g", g)
			in := map[Key]bool{}
			for _, r := range s.Expand(recipients(name), Terms{}).Local {
				if in[r.Entry.Key] {
					t.Errorf("round %d: %s is in %s twice", round, r.Entry.Key, name)
				}
				in[r.Entry.Key] = true
			}
			for p := range people {
				e := s.ByKey(Key(fmt.Sprint("test:p", p)))
				if is := s.memberships(e).has(s.ByKey(Key("test:" + name))); is != in[e.Key] {
					t.Errorf("round %d: expansion of %s has %s: %v, its memberships: %v", round, name, e.Key, in[e.Key], is)
				}
			}
		}
	}
}
