package directory

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestDifferences(t *testing.T) {
	t.Parallel()
	s := corp(t)
	if all := s.Differences(corp(t)); len(all) != 0 {
		t.Errorf("with itself: %+v", all)
	}
	entries := slices.DeleteFunc(corpEntries(), func(e *Entry) bool { return e.Key == "test:bob" })
	for _, e := range entries {
		switch e.Key {
		case "test:alice":
			e.Primary, e.Aliases, e.Quota = addr("alice.new@corp.example"), append(e.Aliases, addr("alice@corp.example")), 1<<30
			e.Modified = time.Now()
		case "test:dave":
			e.Login = StateActive
		case "test:sales":
			e.Members = e.Members[:2]
		}
	}
	entries = append(entries, person("zoe"))
	var got []string
	for _, d := range s.Differences(NewSnapshot([]string{"corp.example", "例子.example"}, entries)) {
		got = append(got, fmt.Sprintf("%s %s %q %q", d.Name, d.What, d.Was, d.Is))
	}
	want := []string{
		`alice@corp.example primary "alice@corp.example" "alice.new@corp.example"`,
		`alice@corp.example address "" "alice@corp.example"`,
		`alice@corp.example quota "" "1073741824"`,
		`bob@corp.example entry "person" ""`,
		`bob@corp.example home "here" ""`,
		`bob@corp.example primary "bob@corp.example" ""`,
		`bob@corp.example login name "bob" ""`,
		`bob@corp.example login name "bob@corp.example" ""`,
		`dave@corp.example login "disabled" "active"`,
		`sales@corp.example member "cn=emea-sales,dc=corp,dc=example" ""`,
		`zoe@corp.example entry "" "person"`,
		`zoe@corp.example home "" "here"`,
		`zoe@corp.example primary "" "zoe@corp.example"`,
		`zoe@corp.example login name "" "zoe"`,
		`zoe@corp.example login name "" "zoe@corp.example"`,
	}
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestLint(t *testing.T) {
	t.Parallel()
	entries := append(corpEntries(),
		entry(KindPerson, "odd", func(e *Entry) {
			e.Origins, e.Unreadable = []string{"alias=proxyAddresses", "primary=mail"}, []string{"quota"}
		}),
		entry(KindList, "silent", func(e *Entry) { e.Policy, e.Members = ListModerated, dns("alice", "nobody") }))
	var got []string
	for _, f := range NewSnapshot([]string{"corp.example", "例子.example"}, entries).Lint() {
		got = append(got, f.What+": "+f.Of)
	}
	want := []string{
		"duplicate login name: twin", "empty list: dead@corp.example", "empty list: empty@corp.example",
		"nobody moderates: silent@corp.example", "primary not in proxyAddresses: odd@corp.example",
		"unknown members: silent@corp.example", "unreadable value: odd@corp.example",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}
