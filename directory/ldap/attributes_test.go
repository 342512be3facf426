package ldap

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"dirpost/directory"
)

const attributesPage = "../../docs/attributes.md"

// attributeTables writes the sources of all profiles as the page has them.
func attributeTables() string {
	var b strings.Builder
	for _, p := range profiles {
		fmt.Fprintf(&b, "\n### %s: %s\n\n", p.name, p.title)
		if p.below != nil {
			fmt.Fprintf(&b, "As `%s`, but for these:\n\n", p.below.name)
		}
		writeTable(&b, p.fields)
		for _, v := range p.variants {
			fmt.Fprintf(&b, "\nEntries of `%s` are %s", v.class, kindWord(v.kind))
			if len(v.fields) > 0 {
				b.WriteString(", read so:\n\n")
				writeTable(&b, v.fields)
			} else {
				b.WriteString(".\n")
			}
		}
	}
	b.WriteString("\n### The optional schema of Dirpost\n\n")
	writeTable(&b, ownFields)
	b.WriteString("\n### What the fields mean\n\n| field | meaning | level |\n|---|---|---|\n")
	for _, f := range Fields() {
		fmt.Fprintf(&b, "| `%s` | %s | %s |\n", f.Name, f.Meaning, f.Level)
	}
	b.WriteString("\n")
	return b.String()
}

func kindWord(k directory.Kind) string {
	switch k {
	case directory.KindList:
		return "lists"
	case directory.KindShared:
		return "shared mailboxes"
	case directory.KindContact:
		return "contacts"
	case directory.KindDomain:
		return "our domains"
	}
	return "people"
}

func writeTable(b *strings.Builder, fields map[string][]string) {
	b.WriteString("| field | sources |\n|---|---|\n")
	for _, f := range Fields() {
		sources, ok := fields[f.Name]
		if !ok {
			continue
		}
		var quoted []string
		for _, s := range sources {
			if !strings.HasPrefix(s, "dirpost") || fields == nil || len(ownFields[f.Name]) == 0 || slices.Equal(sources, ownFields[f.Name]) {
				quoted = append(quoted, "`"+s+"`")
			}
		}
		if len(quoted) == 0 {
			quoted = []string{"nothing"}
		}
		fmt.Fprintf(b, "| `%s` | %s |\n", f.Name, strings.Join(quoted, ", "))
	}
}

// TestAttributesPage: the page for administrators says what the tables say, explains
// every decoder, and names every role.
func TestAttributesPage(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile(attributesPage)
	must(t, err)
	const begin, end = "-update -->\n", "<!-- end of tables -->"
	head, rest, ok := strings.Cut(string(page), begin)
	old, tail, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		t.Fatal("the page has no place for the tables")
	}
	want := attributeTables()
	if *update {
		must(t, os.WriteFile(attributesPage, []byte(head+begin+want+end+tail), 0o644))
	} else if old != want {
		t.Error("the tables of docs/attributes.md are not those of the profiles: go test ./directory/ldap -run TestAttributesPage -update")
	}
	m, err := newMapper(Config{Name: "corp", Base: "dc=x"})
	must(t, err)
	for name := range m.decoders() {
		if name != "" && !strings.Contains(tail, "`"+name+"`") {
			t.Errorf("the page does not explain the decoder %s", name)
		}
	}
	for _, role := range directory.RoleNames() {
		if !strings.Contains(tail, "`"+role+"`") {
			t.Errorf("the page does not name the role %s", role)
		}
	}
}

// TestNothingToRun: what other mail systems would run or open is never asked for.
func TestNothingToRun(t *testing.T) {
	t.Parallel()
	for _, p := range profiles {
		m, err := newMapper(Config{Name: "corp", Base: "dc=x", Preset: p.name})
		must(t, err)
		for _, a := range m.attributes {
			switch strings.ToLower(a) {
			case "deliveryprogrampath", "mailprogramdeliveryinfo", "mailmessagestore", "mailhomedirectory", "mailstoragedirectory", "homedirectory", "qmaildotmode", "userpassword", "unicodepwd":
				t.Errorf("%s asks for %s", p.name, a)
			}
		}
	}
}
