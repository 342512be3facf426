package directory

import (
	"encoding/json"
	goflag "flag"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"dirpost/internal/postgres"
	"dirpost/internal/testenv"
)

var update = goflag.Bool("update", false, "write the files in testdata anew")

// What explain says of each kind of question is a page of its own in testdata.
func TestExplain(t *testing.T) {
	t.Parallel()
	s := corp(t)
	now := time.Date(2026, 11, 29, 12, 0, 0, 0, time.UTC)
	for name, asked := range map[string]string{
		"list":       "sales@corp.example",
		"member":     "carol",
		"subaddress": "alice+lists@corp.example",
		"duplicate":  "twin@corp.example",
		"disabled":   "dave@corp.example",
		"refused":    "left@corp.example",
		"forward":    "copier@corp.example",
		"shared":     "office@corp.example",
		"elsewhere":  "old@corp.example",
		"contact":    "partner@corp.example",
		"nobody":     "nobody@corp.example",
		"not-ours":   "friend@far.example",
		"dn":         "CN=Room,DC=corp",
	} {
		if name == "dn" {
			asked = dn("aula")
		}
		got, err := json.MarshalIndent(s.Explain(asked, nil, now), "", "  ")
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join("testdata", "explain", name+".json")
		if *update {
			if err := os.WriteFile(path, append(got, '\n'), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(path)
		if err != nil || string(want) != string(got)+"\n" {
			t.Errorf("%s: %s, want what %s says (%v)", asked, got, path, err)
		}
	}
	// Rights come from policies too, and from nobody who is not there.
	held := SnapshotOf(Rules{Domains: []string{"corp.example"}, Policies: []Policy{{Group: dn("it"), Access: []string{"box@corp.example"}}}}, []*Entry{
		entry(KindShared, "box", func(e *Entry) { e.Access, e.SendAs = dns("mail-access-box"), dns("alice") }), person("alice"), list("it", 0, "alice"),
	}).Explain("box@corp.example", nil, now).Held
	if held == nil || !slices.Equal(held.Open, dns("it")) || !slices.Equal(held.SendAs, dns("alice")) {
		t.Errorf("who may with box@: %+v", held)
	}
	// Who sends decides about a list.
	for who, want := range map[string]string{"carol": "allowed", "dave": "refused", "alice": "refused"} {
		if got := s.Explain("owned@corp.example", s.ByLogin(who), now).Address.Post; got != want {
			t.Errorf("%s sends to owned@: %s, want %s", who, got, want)
		}
	}
}

// The directory as it was: what was changed since, who has left since, who was not
// there yet.
func TestSnapshotAt(t *testing.T) {
	t.Parallel()
	db := testenv.Database(t)
	src := newScript("a")
	_, wait, _ := fed(t, db, &topics{}, src)
	e := func(name string, quota int64) *Entry {
		e := person(name)
		e.Key, e.Directory, e.Quota = Key("a:"+name), "a", quota
		return e
	}
	moment := func() (at time.Time) {
		t.Helper()
		if err := db.QueryRow(t.Context(), postgres.Background, "select clock_timestamp()").Scan(&at); err != nil {
			t.Fatal(err)
		}
		return at
	}
	src.batches <- Batch{Begin: true, Complete: true, Vanish: true, Cookie: []byte("1"), At: time.Now(), Changes: []Change{{"a:one", e("one", 1)}, {"a:two", e("two", 1)}}}
	wait("both are there", has("a:one", "a:two"))
	first := moment()
	src.batches <- Batch{Cookie: []byte("2"), Changes: []Change{{"a:one", e("one", 2)}, {"a:three", e("three", 1)}}}
	wait("three is there", func(s *Snapshot) bool { return s.ByKey("a:three") != nil })
	second := moment()
	for _, tt := range []struct {
		at    time.Time
		quota map[Key]int64
	}{
		{first, map[Key]int64{"a:one": 1, "a:two": 1}},
		{second, map[Key]int64{"a:one": 2, "a:two": 1, "a:three": 1}},
		{first.Add(-time.Hour), nil},
	} {
		s, err := SnapshotAt(t.Context(), db, Rules{Domains: []string{"corp.example"}}, tt.at)
		if err != nil {
			t.Fatal(err)
		}
		if s.Len() != len(tt.quota) {
			t.Errorf("%v: %d entries, want %d", tt.at, s.Len(), len(tt.quota))
		}
		for key, quota := range tt.quota {
			if e := s.ByKey(key); e == nil || e.Quota != quota {
				t.Errorf("%v: %s is %+v, want quota %d", tt.at, key, e, quota)
			}
		}
	}
}
