package directory

import (
	"iter"
	"slices"
	"strings"
)

// Referrers returns the keys of the entries that name a DN, in any spelling: as
// member, owner or sender, or with a right. Each is in it once, in order.
func (s *Snapshot) Referrers(dn string) []Key {
	name := NormalizeDN(dn)
	var keys []Key
	for _, i := range [...]index{byMember, byAccess, byReference} {
		for _, e := range s.all(i, name) {
			keys = append(keys, e.Key)
		}
	}
	slices.Sort(keys)
	return slices.Compact(keys)
}

// references yields the DNs that e names apart from members and those who may
// open it, which have indexes of their own.
func (e *Entry) references() iter.Seq[string] {
	return func(yield func(string) bool) {
		for _, list := range [...][]string{e.Owners, e.Moderators, e.Senders, e.Allowed, e.Barred, e.SendAs, e.OnBehalf, e.ForwardTo} {
			for _, dn := range list {
				if !yield(dn) {
					return
				}
			}
		}
	}
}

// Keys yields the keys of all entries of one directory that are in it, in no order.
func (s *Snapshot) Keys(directory string) iter.Seq[Key] {
	prefix, gone := directory+":", s.tally[directory].Gone > 0
	return func(yield func(Key) bool) {
		for packed := range s.packed() {
			key := packedKey(packed)
			if !strings.HasPrefix(string(key), prefix) || gone && mustUnpack(packed).IsGone() {
				continue
			}
			if !yield(key) {
				return
			}
		}
	}
}
