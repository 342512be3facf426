package postgres_test

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"dirpost/internal/postgres"
)

var update = flag.Bool("update", false, "add new migrations to testdata/migrations.sha256")

// A migration that has left this machine is never edited, not even its comments:
// databases that have it refuse another content. What was wrong in one is mended by
// the next.
func TestMigrationsAreFinal(t *testing.T) {
	t.Parallel()
	const path = "testdata/migrations.sha256"
	b, err := os.ReadFile(path)
	if err != nil && !*update {
		t.Fatal(err)
	}
	known := make(map[string]string)
	for line := range strings.Lines(string(b)) {
		sum, name, _ := strings.Cut(strings.TrimSpace(line), "  ")
		known[name] = sum
	}
	all, err := postgres.Migrations()
	if err != nil {
		t.Fatal(err)
	}
	var list strings.Builder
	for _, m := range all {
		fmt.Fprintf(&list, "%s  %s\n", m.Checksum, m.Name)
		switch sum, ok := known[m.Name]; {
		case !ok && !*update:
			t.Errorf("%s is new: go test ./internal/postgres -run TestMigrationsAreFinal -update", m.Name)
		case ok && sum != m.Checksum:
			t.Errorf("%s was edited: databases that have it will refuse to go on; write another migration", m.Name)
		}
		delete(known, m.Name)
	}
	for name := range known {
		t.Errorf("%s is gone: databases that have it will refuse to go on", name)
	}
	if *update && !t.Failed() {
		if err := os.WriteFile(path, []byte(list.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}
