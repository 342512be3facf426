package directory

import (
	"slices"
	"strings"
	"testing"

	"dirpost/internal/envelope"
)

// TestRoles: whoever may write an address into an entry does not speak for the
// domain; whom the configuration names does.
func TestRoles(t *testing.T) {
	t.Parallel()
	addr := func(text string) envelope.Address {
		a, err := envelope.ParseAddress(text)
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	person := func(name string, aliases ...string) *Entry {
		e := &Entry{Key: Key("corp:" + name), Directory: "corp", DN: "uid=" + name + ",dc=x", Kind: KindPerson, Primary: addr(name + "@x.example"), Delivery: StateActive}
		for _, a := range aliases {
			e.Aliases = append(e.Aliases, addr(a))
		}
		return e
	}
	rules := Rules{
		Domains: []string{"x.example", "y.example"}, Delimiter: "+", Postmaster: addr("postmaster@x.example"),
		Roles: map[string]string{"security": "UID=Team, DC=X", "webmaster": "alice@x.example", "noc": "uid=gone,dc=x"},
	}.withDefaults()
	if err := rules.Validate(); err != nil {
		t.Fatal(err)
	}
	entries := []*Entry{
		person("alice"), person("team"), person("mallory", "Security@x.example", "admin@x.example", "root@y.example", "hostmaster@x.example", "abuse@x.example", "admin@elsewhere.example"),
		person("postmaster"), person("sales"),
	}
	changes := make([]Change, len(entries))
	for i, e := range entries {
		changes[i] = Change{Key: e.Key, Entry: e}
	}
	s := newSnapshot(&rules).with(1, changes)
	mallory := s.ByKey("corp:mallory")
	for _, tt := range []struct {
		to, who string // "" for nobody
		code    int
	}{
		{"security@x.example", "team", 0},
		{"SECURITY+x@y.example", "team", 0},
		{"webmaster@x.example", "alice", 0},
		{"admin@x.example", "", 550},
		{"root@y.example", "", 550},
		{"hostmaster@x.example", "", 550},
		{"abuse@x.example", "postmaster", 0},
		{"postmaster@y.example", "postmaster", 0},
		{"postmaster@x.example", "postmaster", 0},
		{"noc@x.example", "", 451}, // named, and not there
		{"sales@x.example", "sales", 0},
	} {
		r := s.Resolve(addr(tt.to))
		who := ""
		if r.Entry != nil {
			who = strings.TrimPrefix(string(r.Entry.Key), "corp:")
		}
		if who != tt.who || r.Status.Code != tt.code {
			t.Errorf("%s leads to %q %v, want %q %d", tt.to, who, r.Status, tt.who, tt.code)
		}
		if s.MayUse(mallory, addr(tt.to)) != UsageNone {
			t.Errorf("mallory may send as %s", tt.to)
		}
	}
	if s.MayUse(s.ByKey("corp:team"), addr("security@x.example")) != UsageOwn {
		t.Error("whom the rules name may not send as security")
	}
	problems := strings.Join(s.RoleProblems(), "\n")
	for _, want := range []string{"uid=mallory,dc=x claims security@x.example", "claims admin@x.example", "claims root@y.example", "claims abuse@x.example", "roles.noc"} {
		if !strings.Contains(strings.ToLower(problems), strings.ToLower(want)) {
			t.Errorf("%q is not in\n%s", want, problems)
		}
	}
	if strings.Contains(problems, "uid=postmaster") {
		t.Errorf("the postmaster of the configuration: %s", problems)
	}
	if !slices.IsSorted(roleNames) {
		t.Error("the names are not sorted")
	}
	for role, name := range map[string]string{"sales": "uid=a,dc=x", "Security": "uid=a,dc=x", "root": "somebody"} {
		if (Rules{Roles: map[string]string{role: name}}).Validate() == nil {
			t.Errorf("roles %s = %s is valid", role, name)
		}
	}
}
