package envelope

import (
	"math"
	"slices"
	"strings"
	"testing"
)

func TestQueueID(t *testing.T) {
	t.Parallel()
	ids := []QueueID{0, 1, 29, 30, 31, 1 << 21, 1763720000000 << 21, math.MaxInt64 - 1, math.MaxInt64}
	var texts []string
	for _, id := range ids {
		s := id.String()
		texts = append(texts, s)
		if back, err := ParseQueueID(s); back != id || err != nil || len(s) != 13 {
			t.Errorf("%d is written %q, which is read as %d (%v)", id, s, back, err)
		}
	}
	if !slices.IsSorted(texts) {
		t.Errorf("ids do not sort like their numbers: %q", texts)
	}
	for _, s := range []string{"", "1", "00000000000000", "000000000000a", "000000000000B", "zzzzzzzzzzzzz", "0000000 00000"} {
		if id, err := ParseQueueID(s); err == nil {
			t.Errorf("%q is read as %d", s, id)
		}
	}
	if strings.ContainsAny(queueIDAlphabet, "aeiouAEIOUl") {
		t.Errorf("the alphabet %q has vowels or look-alikes", queueIDAlphabet)
	}
}

func FuzzParseQueueID(f *testing.F) {
	f.Add("0000000000001")
	f.Add("zzzzzzzzzzzzz")
	f.Fuzz(func(t *testing.T, s string) {
		if id, err := ParseQueueID(s); err == nil && (id < 0 || id.String() != s) {
			t.Errorf("%q is read as %d, which is written %q", s, id, id)
		}
	})
}
