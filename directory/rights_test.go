package directory

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
)

// The ways to ask for a right give one answer: one person and one mailbox, all
// mailboxes of a person, an address.
func TestRightsAgree(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(5, 6))
	pick := func(n int) string { return dn(fmt.Sprint([]string{"p", "g"}[r.IntN(2)], r.IntN(n))) }
	const n = 8
	for round := range 40 {
		var entries []*Entry
		for i := range n {
			entries = append(entries, person(fmt.Sprint("p", i)), entry(KindList, fmt.Sprint("g", i), func(e *Entry) {
				e.Members = []string{pick(n), pick(n)}
				e.SendAs = []string{pick(n)}
			}))
			entries = append(entries, entry([]Kind{KindShared, KindPerson, KindRoom}[i%3], fmt.Sprint("m", i), func(e *Entry) {
				e.Access, e.SendAs, e.OnBehalf = []string{pick(n)}, []string{pick(n)}, []string{pick(n), pick(n)}
			}))
		}
		l := Open(Rules{Domains: []string{"corp.example"}, Policies: []Policy{
			{Group: dn("g0"), Access: []string{"m0@corp.example"}, SendAs: []string{dn("m1")}},
			{Group: "g1@corp.example", OnBehalf: []string{"m2@corp.example"}},
		}})
		var changes []Change
		for _, e := range entries {
			changes = append(changes, Change{e.Key, e})
		}
		l.Apply(1, changes)
		s := l.Snapshot()
		for e := range s.All() {
			opened := s.MailboxesOf(e)
			for of := range s.All() {
				rights := s.Rights(e, of)
				isIn := slices.ContainsFunc(opened, func(m *Entry) bool { return m.Key == of.Key })
				if may := s.MayOpen(e, of); e.Key != of.Key && (may != isIn || may != (of.HasMailbox() && rights&RightOpen != 0)) {
					t.Errorf("round %d: %s and %s: MayOpen %v, MailboxesOf %v, Rights %b", round, e.Key, of.Key, may, isIn, rights)
				}
				want := UsageNone
				switch {
				case rights&RightOwn != 0:
					want = UsageOwn
				case rights&RightSendAs != 0:
					want = UsageSendAs
				case rights&RightOnBehalf != 0:
					want = UsageOnBehalf
				}
				if got := s.MayUse(e, of.Primary); got != want {
					t.Errorf("round %d: MayUse(%s, %s) = %d, Rights say %d", round, e.Key, of.Primary, got, want)
				}
			}
		}
	}
}
