package auth

import (
	"go/ast"
	"go/parser"
	gotoken "go/token"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"dirpost/directory"
)

// TestReasons: the code has no class of reason that is not in the list, the list has
// none that the code has not, and docs/logins.md says what each means.
func TestReasons(t *testing.T) {
	t.Parallel()
	used := map[string]bool{"": true}
	for _, where := range []struct {
		dir, prefix string
		classes     func(ast.Node) []ast.Expr
	}{
		{".", "", ownReasons},
		{"oauth", "token-", refusalClasses},
		{"certificate", "certificate-", refusalClasses},
		{"permit", "", constants("Reason")},
		{"../internal/gssapi", "ticket-", constants("Flaw")},
	} {
		found := literals(t, where.dir, where.classes)
		if len(found) == 0 {
			t.Errorf("no reasons in %s: are they written in another way now?", where.dir)
		}
		for _, r := range found {
			used[where.prefix+r] = true
		}
	}
	delete(used, "")
	delete(used, "ticket-malformed") // is malformed, as of any mechanism
	for r := directory.ReasonPassword; r <= directory.ReasonWorkstation; r++ {
		used[r.String()] = true
	}
	for r := range used {
		if !slices.Contains(Reasons(), r) {
			t.Errorf("the reason %q is not in the list of reason.go", r)
		}
	}
	form := regexp.MustCompile(`^[a-z]+(-[a-z]+)*$`)
	for _, r := range Reasons() {
		if !used[r] {
			t.Errorf("nothing has the reason %q", r)
		}
		if !form.MatchString(r) {
			t.Errorf("the reason %q is written in another way than the others", r)
		}
	}
	page, err := os.ReadFile("../docs/logins.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(page), "### Reasons\n")
	var told []string
	for _, row := range regexp.MustCompile("(?m)^\\| (`[^|]*) \\|").FindAllStringSubmatch(section, -1) {
		for _, r := range strings.Split(row[1], ", ") {
			told = append(told, strings.Trim(r, "`"))
		}
	}
	told = slices.DeleteFunc(told, func(r string) bool { return r == "reason" })
	slices.Sort(told)
	if !slices.Equal(told, Reasons()) {
		t.Errorf("docs/logins.md has the reasons\n%q, the code\n%q", told, Reasons())
	}
}

// literals are the strings that are written in the expressions which find picks from
// the Go files of dir, its tests left out.
func literals(t *testing.T, dir string, find func(ast.Node) []ast.Expr) (all []string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(gotoken.NewFileSet(), name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(f, func(n ast.Node) bool {
			for _, x := range find(n) {
				if l, ok := x.(*ast.BasicLit); ok && l.Kind == gotoken.STRING {
					s, err := strconv.Unquote(l.Value)
					if err != nil {
						t.Fatal(err)
					}
					all = append(all, s)
				}
			}
			return true
		})
	}
	return all
}

// ownReasons finds what is assigned to attempt.reason, and the second argument of
// refuse.
func ownReasons(n ast.Node) []ast.Expr {
	switch n := n.(type) {
	case *ast.AssignStmt:
		if s, ok := n.Lhs[0].(*ast.SelectorExpr); ok && s.Sel.Name == "reason" {
			return n.Rhs
		}
	case *ast.KeyValueExpr:
		if k, ok := n.Key.(*ast.Ident); ok && k.Name == "reason" {
			return []ast.Expr{n.Value}
		}
	case *ast.CallExpr:
		if s, ok := n.Fun.(*ast.SelectorExpr); ok && s.Sel.Name == "refuse" && len(n.Args) > 2 {
			return n.Args[1:2]
		}
	}
	return nil
}

// refusalClasses finds the classes of refusals: Class of a Refusal, the first argument
// of refuse, and what classOf returns.
func refusalClasses(n ast.Node) []ast.Expr {
	switch n := n.(type) {
	case *ast.KeyValueExpr:
		if k, ok := n.Key.(*ast.Ident); ok && k.Name == "Class" {
			return []ast.Expr{n.Value}
		}
	case *ast.CallExpr:
		if f, ok := n.Fun.(*ast.Ident); ok && f.Name == "refuse" {
			return n.Args[:1]
		}
	case *ast.FuncDecl:
		if n.Name.Name != "classOf" {
			return nil
		}
		var all []ast.Expr
		ast.Inspect(n, func(n ast.Node) bool {
			if r, ok := n.(*ast.ReturnStmt); ok {
				all = append(all, r.Results...)
			}
			return true
		})
		return all
	}
	return nil
}

// constants finds the values of constants whose names have a prefix.
func constants(prefix string) func(ast.Node) []ast.Expr {
	return func(n ast.Node) []ast.Expr {
		if v, ok := n.(*ast.ValueSpec); ok && strings.HasPrefix(v.Names[0].Name, prefix) {
			return v.Values
		}
		return nil
	}
}
