package main

import (
	"strings"
	"testing"
)

// A command line that cannot be meant so says how it is written.
func TestUsage(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{{"auth", "app-password", "create", "alice", "My phone"}, {"auth", "app-password", "create"}, {"auth", "app-password", "create", "--nmae", "x", "alice"}} {
		var out strings.Builder
		code := run(t.Context(), append([]string{"dirpost"}, args...), streams{nil, &out, &out})
		if want := "usage: dirpost auth app-password create"; code == 0 || !strings.Contains(out.String(), want) {
			t.Errorf("%q ends with %d and\n%s", args, code, out.String())
		}
	}
}
