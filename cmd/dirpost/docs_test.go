package main

import (
	"flag"
	"os"
	"testing"
)

var update = flag.Bool("update", false, "write docs/config.md and golden files anew")

// TestConfigPage: docs/config.md is what `config example` prints.
func TestConfigPage(t *testing.T) {
	t.Parallel()
	page := "# Configuration\n\nOne file, `/etc/dirpost/dirpost.toml`, with every key and what it means; `dirpost config example` prints it,\n" +
		"`dirpost config check` checks yours. `SIGHUP` makes a node read it again.\n\n```toml\n" + exampleTOML + "```\n"
	const path = "../../docs/config.md"
	if *update {
		if err := os.WriteFile(path, []byte(page), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if b, err := os.ReadFile(path); err != nil || string(b) != page {
		t.Errorf("docs/config.md is not what 'dirpost config example' prints (%v): go test ./cmd/dirpost -run TestConfigPage -update", err)
	}
}
