package directory

import (
	"testing"

	"dirpost/internal/envelope"
)

// TestForwardTo: mail goes to the entries that an entry names, and stays where these
// lead nowhere.
func TestForwardTo(t *testing.T) {
	t.Parallel()
	person := func(name string, keep bool, to ...string) *Entry {
		return &Entry{Key: Key("corp:" + name), Directory: "corp", DN: "uid=" + name + ",dc=x", Kind: KindPerson, KeepCopy: keep, ForwardTo: to,
			Primary: envelope.Address{Local: name, Domain: "x.example"}, Delivery: StateActive}
	}
	s := NewSnapshot([]string{"x.example"}, []*Entry{
		person("alice", false), person("away", false, "uid=alice,dc=x"), person("both", true, "mailto:alice@x.example"),
		person("lost", false, "uid=gone,dc=x"), person("self", false, "uid=self,dc=x"), person("round", false, "uid=trip,dc=x"), person("trip", false, "uid=round,dc=x"),
	})
	for to, want := range map[string][]string{
		"away": {"alice"}, "both": {"alice", "both"}, "lost": {"lost"}, "self": {"self"}, "round": {"trip"},
	} {
		x := s.Expand([]envelope.Recipient{{Address: envelope.Address{Local: to, Domain: "x.example"}}}, Terms{})
		var got []string
		for _, l := range x.Local {
			got = append(got, l.Entry.Primary.Local)
		}
		if len(got) != len(want) || got[0] != want[0] || got[len(got)-1] != want[len(want)-1] {
			t.Errorf("%s: %q, want %q", to, got, want)
		}
	}
}
