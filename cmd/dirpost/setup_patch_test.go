package main

import (
	"bytes"
	"regexp"
	"strings"
	"testing"
)

const patchText = `# head
[server] # of this host
name = "mail.example.com" # seen by others
#socket = "/run/x"

# Domains.
[domains]
local = [
  "a.example", # first
  "b.example",
]

[[tls.certificate]]
chain = "a"
key = "b"

# Second.
[[tls.certificate]]
chain = "c"
key = "d"

[directory.corp]
urls = ["ldap://a"]
note = """
#base = "no"
"""
#base = "dc=example"

[mra]
# said
# of it

# end
`

func TestPatchTOML(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name     string
		edits    []tomlEdit
		from, to string // what differs in the text
	}{
		{"nothing", nil, "", ""},
		{"the same", []tomlEdit{edit("server.name", "mail.example.com"), edit("domains.local", []string{"a.example", "b.example"}), edit("acme.directory", nil), edit("tls.certificate.#1.key", "d")}, "", ""},
		{"value", []tomlEdit{edit("server.name", `a"b`)}, `"mail.example.com" # seen`, `"a\"b" # seen`},
		{"list", []tomlEdit{edit("domains.local", []string{"c.example"})}, "[\n  \"a.example\", # first\n  \"b.example\",\n]", `["c.example"]`},
		{"new key", []tomlEdit{edit("domains.postmaster", "x@a.example")}, "]\n\n[[tls", "]\npostmaster = \"x@a.example\"\n\n[[tls"},
		{"behind its example", []tomlEdit{edit("server.socket", "/s")}, "#socket = \"/run/x\"\n", "#socket = \"/run/x\"\nsocket = \"/s\"\n"},
		{"not behind what looks like one", []tomlEdit{edit("directory.corp.base", "dc=x")}, "#base = \"dc=example\"\n", "#base = \"dc=example\"\nbase = \"dc=x\"\n"},
		{"first key", []tomlEdit{edit("mra.x", true)}, "# of it\n", "# of it\nx = true\n"},
		{"new table", []tomlEdit{edit("acme.directory", "https://x")}, "# end\n", "# end\n\n[acme]\ndirectory = \"https://x\"\n"},
		{"element", []tomlEdit{edit("tls.certificate.#1.key", "e")}, `key = "d"`, `key = "e"`},
		{"new element", []tomlEdit{edit("tls.certificate.#2.key", "e")}, "# end\n", "# end\n\n[[tls.certificate]]\nkey = \"e\"\n"},
		{"take a key away", []tomlEdit{edit("directory.corp.urls", nil)}, "urls = [\"ldap://a\"]\n", ""},
		{"take an array away", []tomlEdit{edit("tls.certificate", nil)}, "[[tls.certificate]]\nchain = \"a\"\nkey = \"b\"\n\n# Second.\n[[tls.certificate]]\nchain = \"c\"\nkey = \"d\"\n", "\n# Second.\n"},
	} {
		got, err := patchTOML([]byte(patchText), c.edits)
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
		if want := strings.Replace(patchText, c.from, c.to, 1); string(got) != want {
			t.Errorf("%s:\n%s\nwant\n%s", c.name, got, want)
		}
	}
	for _, c := range []struct{ text, key, want string }{
		{"directory = { corp = { urls = [] } }\n", "directory.corp.urls", "directory.corp.urls: stands in a form that is not changed by a program: write it as [directory.corp]"},
		{"server = 1\n", "server.name", "server.name: is no table"},
		{"server =\n", "server.name", "read: "},
	} {
		if got, err := patchTOML([]byte(c.text), []tomlEdit{edit(c.key, "x")}); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q: %v, want %q\n%s", c.text, err, c.want, got)
		}
	}
}

// comments are the comments of lines that have nothing else.
var comments = regexp.MustCompile(`(?m)^[ \t]*#.*$`)

// FuzzPatchTOML: a text that was patched says what it was asked to, and, unless a key
// was taken away, every line that was there and has nothing to do with it; or nothing
// was done. Patched again it stays as it is.
func FuzzPatchTOML(f *testing.F) {
	f.Add(patchText, "server.name", "x")
	f.Add(patchText, "tls.certificate.#2.chain", "x\"\n")
	f.Add("a = 1", "b.c", "")
	f.Add("[a]\r\n#b = 1\r\n[c]", "a.b", "x")
	f.Add("[a.b]\n[a]\nc.d = 1\n", "a.c.e", "x")
	f.Add("[[a]]\n[a.b]\n[[a]]\n", "a.#1.b.c", "x")
	f.Fuzz(func(t *testing.T, text, path, value string) {
		if len(text) > 4096 || len(path) > 100 || strings.Count(path, ".") > 6 {
			return
		}
		edits := []tomlEdit{edit(path, value)}
		got, err := patchTOML([]byte(text), edits)
		if err != nil {
			return // what it gives is compared with what was asked for, inside
		}
		again, err := patchTOML(got, edits)
		if err != nil || !bytes.Equal(again, got) {
			t.Fatalf("%v: a second time\n%s\nbecomes\n%s", err, got, again)
		}
		if parts, err := tomlParts([]byte(text)); err == nil && len(parts) > 0 {
			for _, at := range comments.FindAllStringIndex(text, -1) {
				if line := text[at[0]:at[1]]; !inside(parts, at[0]) && !bytes.Contains(got, []byte(line)) {
					t.Fatalf("the comment %q is lost of\n%s\nin\n%s", line, text, got)
				}
			}
		}
		if removed, err := patchTOML(got, []tomlEdit{edit(path, nil)}); err == nil {
			if back, err := patchTOML(removed, []tomlEdit{edit(path, nil)}); err != nil || !bytes.Equal(back, removed) {
				t.Fatalf("%v: taken away twice\n%s\nbecomes\n%s", err, removed, back)
			}
		}
	})
}
