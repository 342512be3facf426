package archtest

import (
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// TestManualPages checks that every package has a doc.go with its manual page.
func TestManualPages(t *testing.T) {
	t.Parallel()
	for _, p := range list(t) {
		if len(p.GoFiles) == 0 {
			continue
		}
		// Packages of embedded files and of one file may say it there.
		var text string
		for _, name := range p.GoFiles {
			f, err := parser.ParseFile(token.NewFileSet(), filepath.Join(p.Dir, name), nil, parser.ParseComments|parser.PackageClauseOnly)
			if err != nil {
				t.Fatal(err)
			}
			text += f.Doc.Text()
		}
		if len(strings.Fields(text)) < 5 {
			t.Errorf("%s has no package comment: its manual page stands in doc.go", p.name())
		}
		if len(p.GoFiles) > 1 && !slices.Contains(p.GoFiles, "doc.go") {
			t.Errorf("%s has no doc.go", p.name())
		}
	}
}

// The one form of a citation is "RFC 9051 §6.4.5"; these are the others.
var wrongCitations = regexp.MustCompile(`\bRFC(\d{4,})([\s,;:)]|$)|\brfc \d|\bRFC-\d|RFC \d+,? (?i:section|sect\.|sec\.)|RFC \d+ § \d`)

// TestCitations checks the form of RFC citations, so that `make rfc` finds them.
func TestCitations(t *testing.T) {
	t.Parallel()
	for _, p := range list(t) {
		for _, name := range slices.Concat(p.GoFiles, p.TestGoFiles, p.XTestGoFiles) {
			if p.name() == "internal/archtest" {
				continue
			}
			b, err := os.ReadFile(filepath.Join(p.Dir, name))
			if err != nil {
				t.Fatal(err)
			}
			for i, line := range strings.Split(string(b), "\n") {
				_, comment, ok := strings.Cut(line, "//")
				if m := wrongCitations.FindString(comment); ok && m != "" && !strings.Contains(comment, "://") {
					t.Errorf("%s/%s:%d: %q: cite as in \"RFC 9051 §6.4.5\"", p.name(), name, i+1, m)
				}
			}
		}
	}
}
