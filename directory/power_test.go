package directory

import (
	"fmt"
	"slices"
	"testing"
)

// TestPowerGroups: every group whose members gain something by it is named, with what.
func TestPowerGroups(t *testing.T) {
	t.Parallel()
	in := func(e *Entry) *Entry { e.Directory = "corp"; return e }
	rules := Rules{
		Domains: []string{"corp.example"}, NextHop: "exchange.corp.example",
		Policies:  []Policy{{Group: dn("vip"), Quota: Unlimited}, {Group: Everybody, Quota: 1 << 30}, {Group: dn("nowhere"), Quota: 1}},
		Mailboxes: []MailboxRule{{Directory: "corp", Groups: []string{dn("moved")}}},
	}
	if err := rules.Validate(); err != nil {
		t.Fatal(err)
	}
	s := SnapshotOf(rules, []*Entry{
		in(person("alice")), in(person("bob")), in(list("vip", 0, "alice")), in(list("moved", 0, "alice")), in(list("desk", 0, "bob")), in(list("plain", 0, "bob")),
		in(entry(KindShared, "office", func(e *Entry) { e.Access, e.SendAs = dns("desk", "bob"), dns("desk", "vip") })),
	})
	var got []string
	for _, g := range s.PowerGroups() {
		got = append(got, fmt.Sprint(g.Group.Primary.Local, g.Gives))
	}
	slices.Sort(got)
	if want := []string{"desk[open send as]", "moved[mailbox here]", "vip[policy send as]"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}
