package main

import (
	"bytes"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/pelletier/go-toml/v2"
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

var tomlBlock = regexp.MustCompile("(?s)```toml\n(.*?)```")

// TestDocs: every piece of configuration in the pages for administrators has
// keys that exist, and every command.
func TestDocs(t *testing.T) {
	t.Parallel()
	pages, err := filepath.Glob("../../docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	root := newCommand(streams{strings.NewReader(""), new(bytes.Buffer), new(bytes.Buffer)})
	for _, page := range append(pages, "../../README.md") {
		b, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range tomlBlock.FindAllSubmatch(b, -1) {
			var f File
			err := toml.NewDecoder(bytes.NewReader(m[1])).DisallowUnknownFields().Decode(&f)
			var missing *toml.StrictMissingError
			if errors.As(err, &missing) {
				t.Errorf("%s: keys that do not exist:\n%s", page, missing.String())
			} else if err != nil {
				t.Errorf("%s: %v in\n%s", page, err, m[1])
			}
		}
		for _, m := range regexp.MustCompile(`(?m)^(?:    |\$ |# )(?:sudo )?(?:bin/)?dirpost ([a-z]+(?: [a-z][a-z-]*)?)`).FindAllSubmatch(b, -1) {
			args := strings.Fields(string(m[1]))
			if c, rest, err := root.Find(args[:1]); err != nil || c == root {
				t.Errorf("%s: there is no command dirpost %s", page, m[1])
			} else if len(args) == 2 && c.HasSubCommands() && !c.Runnable() { // else it may be an argument
				if sub, _, err := c.Find(args[1:]); err != nil || sub == c {
					t.Errorf("%s: there is no command dirpost %s (%v)", page, m[1], rest)
				}
			}
		}
	}
}
