package directory

import (
	"reflect"
	"slices"
	"testing"
)

func TestReferrers(t *testing.T) {
	t.Parallel()
	list := entry(KindList, "list", func(e *Entry) {
		e.Members = []string{dn("alice"), dn("bob")}
		e.Owners = []string{dn("alice")}
	})
	room := entry(KindRoom, "room", func(e *Entry) {
		e.Access = []string{dn("list")}
		e.OnBehalf = []string{dn("bob")}
	})
	elsewhere := person("zoe")
	elsewhere.Key, elsewhere.Directory = "other:zoe", "other"
	s := NewSnapshot([]string{"corp.example"}, []*Entry{person("alice"), person("bob"), list, room, elsewhere})
	for _, tt := range []struct {
		dn   string
		want []Key
	}{
		{dn("alice"), []Key{list.Key}},
		{dn("bob"), []Key{list.Key, room.Key}},
		{dn("list"), []Key{room.Key}},
		{dn("nobody"), nil},
		{"", nil},
	} {
		slices.Sort(tt.want)
		if got := s.Referrers(tt.dn); !slices.Equal(got, tt.want) {
			t.Errorf("%q: %v, want %v", tt.dn, got, tt.want)
		}
	}
	if got := slices.Collect(s.Keys("other")); !slices.Equal(got, []Key{"other:zoe"}) {
		t.Errorf("keys of the other directory: %v", got)
	}
	// An entry that names nobody any more is not found by what it named.
	next := *list
	next.packed, next.Owners, next.Members = "", nil, nil
	if got := s.with(2, []Change{{list.Key, &next}}).Referrers(dn("alice")); got != nil {
		t.Errorf("still %v", got)
	}
}

// TestReferrersOfEveryField: a field that is added and holds DNs is looked at.
func TestReferrersOfEveryField(t *testing.T) {
	t.Parallel()
	other := []string{"Logins", "Services", "Domains", "X500", "MemberLogins", "Queries", "Facts", "Unreadable", "Origins", "Certificates"}
	fields := reflect.TypeFor[Entry]()
	for i := range fields.NumField() {
		f := fields.Field(i)
		if f.Type != reflect.TypeFor[[]string]() || slices.Contains(other, f.Name) {
			continue
		}
		list := entry(KindList, "list", func(e *Entry) { reflect.ValueOf(e).Elem().Field(i).Set(reflect.ValueOf([]string{dn("alice")})) })
		if got := NewSnapshot(nil, []*Entry{list}).Referrers(dn("alice")); !slices.Equal(got, []Key{list.Key}) {
			t.Errorf("%s names alice, and is not found by her DN: add it to Entry.references, or here", f.Name)
		}
	}
}
