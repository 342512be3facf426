package main

import (
	"bytes"
	"regexp"
	"strings"
	"testing"

	"github.com/pelletier/go-toml/v2"
	"github.com/spf13/cobra"
)

// TestDocs: every piece of configuration in the pages is one that a node would take,
// within a configuration that has the rest.
func TestDocs(t *testing.T) {
	t.Parallel()
	n := 0
	for page, text := range docPages(t) {
		for _, b := range blocksOf(page, text) {
			if b.lang != "toml" {
				continue
			}
			n++
			if err := checkPiece(t, b.text); err != nil {
				t.Errorf("%s:%d: %v in\n%s", page, b.line, err, b.text)
			}
		}
	}
	if n < 30 {
		t.Errorf("only %d pieces were found", n)
	}
}

// checkPiece puts a piece into the example and reads that.
func checkPiece(t *testing.T, text string) error {
	t.Helper()
	var whole, piece map[string]any
	if err := toml.Unmarshal([]byte(exampleTOML), &whole); err != nil {
		t.Fatal(err)
	}
	if err := toml.Unmarshal([]byte(text), &piece); err != nil {
		return err
	}
	if _, ok := piece["acme"]; ok {
		delete(whole["tls"].(map[string]any), "certificate")
	}
	replaceDirectories(whole, piece)
	merge(whole, piece)
	b, err := toml.Marshal(whole)
	if err != nil {
		t.Fatal(err)
	}
	_, err = parseConfig(b)
	return err
}

// replaceDirectories takes out of whole what a piece means to say in another way: a
// directory that it describes from the start, and the one that it calls otherwise.
func replaceDirectories(whole, piece map[string]any) {
	described, _ := piece["directory"].(map[string]any)
	known := whole["directory"].(map[string]any)
	known["partner"] = known["corp"] // pieces name a second one
	for name, d := range described {
		has := func(keys ...string) bool {
			for _, k := range keys {
				if _, ok := d.(map[string]any)[k]; ok {
					return true
				}
			}
			return false
		}
		switch {
		case has("urls", "discover"):
			delete(known, name)
		case known[name] == nil:
			known[name] = known["corp"]
		case has("bind"):
			for _, k := range []string{"urls", "bind_dn", "bind_password"} {
				delete(known[name].(map[string]any), k)
			}
		}
	}
}

// merge puts piece into whole; lists are replaced.
func merge(whole, piece map[string]any) {
	for k, v := range piece {
		in, ok := v.(map[string]any)
		out, had := whole[k].(map[string]any)
		if ok && had {
			merge(out, in)
		} else {
			whole[k] = v
		}
	}
}

// inlineCommand finds commands in running text.
var inlineCommand = regexp.MustCompile("`(?:sudo )?(dirpost [a-z][^`]*)`")

// TestDocCommandsExist: every command of ours in a page, in running text too, has a
// name, flags and a number of arguments that the program takes.
func TestDocCommandsExist(t *testing.T) {
	t.Parallel()
	n := 0
	for page, text := range docPages(t) {
		for _, m := range inlineCommand.FindAllStringSubmatch(text, -1) {
			n++
			if err := checkCommand(strings.Join(strings.Fields(m[1]), " "), true); err != nil {
				t.Errorf("%s: `%s`: %v", page, m[1], err)
			}
		}
		for _, c := range commandsOf(blocksOf(page, text)) {
			if text := ours(c.text); text != "" {
				n++
				if err := checkCommand(text, false); err != nil {
					t.Errorf("%s:%d: %s: %v", page, c.line, c.text, err)
				}
			}
		}
	}
	if n < 100 {
		t.Errorf("only %d commands were found", n)
	}
}

// ours is the command of ours in a line, also in a container; "" if there is none.
func ours(line string) string {
	line = strings.TrimPrefix(line, "sudo ")
	if rest, ok := strings.CutPrefix(line, "docker compose run --rm node "); ok { // the image runs the program
		return "dirpost " + rest
	}
	if i := strings.Index(line, " dirpost "); i >= 0 && (strings.HasPrefix(line, "docker compose exec ") || strings.HasPrefix(line, "docker exec ")) {
		return line[i+1:]
	}
	if strings.HasPrefix(line, "dirpost ") {
		return line
	}
	return ""
}

// checkCommand finds and parses a command. In running text one may stand for itself
// without its arguments, and "…" for what is said elsewhere.
func checkCommand(text string, inline bool) error {
	for _, more := range []string{" <", " >", " | ", " && "} {
		text, _, _ = strings.Cut(text, more)
	}
	words, err := shellWords(text)
	if err != nil {
		return err
	}
	root := newCommand(streams{strings.NewReader(""), new(bytes.Buffer), new(bytes.Buffer)})
	c, rest, err := root.Find(words[1:])
	if err != nil {
		return err
	}
	if err := c.ParseFlags(rest); err != nil {
		// Running text may speak of a flag without its value, at the end.
		if !inline || !strings.Contains(err.Error(), "needs an argument") {
			return err
		}
		if err := c.ParseFlags(rest[:len(rest)-1]); err != nil {
			return err
		}
	}
	args := c.Flags().Args()
	if inline && (len(args) == 0 || args[0] == "…") {
		return nil
	}
	if c.HasSubCommands() && !c.Runnable() {
		return cobra.NoArgs(c, args)
	}
	return c.ValidateArgs(args)
}
