package main

import (
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// A docBlock is a piece of code in a page: fenced, or indented by four columns.
type docBlock struct {
	page string // "README.md", "docs/queue.md"
	line int    // of its first line
	lang string // of a fence; "" for none
	text string
}

// docPages are the pages for administrators, without the one that is generated.
func docPages(t *testing.T) map[string]string {
	t.Helper()
	files, err := filepath.Glob("../../docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	pages := map[string]string{}
	for _, file := range append(files, "../../README.md") {
		if filepath.Base(file) == "config.md" {
			continue
		}
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		pages[strings.TrimPrefix(filepath.ToSlash(file), "../../")] = string(b)
	}
	return pages
}

// blocksOf returns the pieces of code of a page, in their order.
func blocksOf(page, text string) (all []docBlock) {
	var b *docBlock
	fenced := false
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		inner, indented := strings.CutPrefix(line, "    ")
		switch {
		case strings.HasPrefix(line, "```"):
			if fenced = !fenced; fenced {
				all = append(all, docBlock{page: page, line: i + 2, lang: strings.TrimPrefix(line, "```")})
				b = &all[len(all)-1]
			} else {
				b = nil
			}
		case fenced:
			b.text += line + "\n"
		case indented && b != nil:
			b.text += inner + "\n"
		case indented && (i == 0 || strings.TrimSpace(lines[i-1]) == ""):
			all = append(all, docBlock{page: page, line: i + 1, text: inner + "\n"})
			b = &all[len(all)-1]
		default:
			b = nil
		}
	}
	return all
}

// docPrograms are the programs that pages tell to run.
var docPrograms = regexp.MustCompile(`^(?:sudo (?:-u \S+ )?)?(\./\S+|\$EDITOR|cd|cp|chgrp|chmod|chown|docker|helm|kubectl|mkdir|podman|dirpost|apt|apt-get|certbot|createdb|curl|dsacls|export|htpasswd|install|journalctl|kadmin:|kinit|klist|ldapmodify|ldappasswd|ldapsearch|ldbmodify|make|openssl|pg_basebackup|postconf|postfix|printf|psql|samba-tool|Set-[A-Z]\w+|slapadd|slapcat|swaks|systemctl|test|thunderbird|useradd) `)

// docSQL finds statements for the database.
var docSQL = regexp.MustCompile(`^(?:grant|alter system|select) .*;$`)

// A docCommand is one command that a page tells to run.
type docCommand struct {
	page string
	line int
	text string // without prompt and comment
}

// commandsOf returns the commands of blocks: lines behind "$ ", and in blocks that
// show no output those that begin with a program. A here-document belongs to it.
func commandsOf(blocks []docBlock) (all []docCommand) {
	for _, b := range blocks {
		if b.lang != "" && b.lang != "sh" {
			continue
		}
		prompt := strings.HasPrefix(b.text, "$ ") || strings.Contains(b.text, "\n$ ")
		lines := strings.Split(b.text, "\n")
		for i := 0; i < len(lines); i++ {
			text, ok := strings.CutPrefix(lines[i], "$ ")
			if prompt && !ok || !docPrograms.MatchString(text+" ") && !docSQL.MatchString(text) && b.lang != "sh" || strings.TrimSpace(text) == "" {
				continue
			}
			c := docCommand{page: b.page, line: b.line + i, text: withoutComment(text)}
			for strings.HasSuffix(c.text, "\\") && i+1 < len(lines) {
				i++
				c.text = strings.TrimSuffix(c.text, "\\") + strings.TrimSpace(lines[i])
			}
			if _, end, ok := strings.Cut(c.text, "<<"); ok {
				for i++; i < len(lines); i++ {
					if c.text += "\n" + lines[i]; lines[i] == strings.Trim(end, "'") {
						break
					}
				}
			}
			if c.text != "" {
				all = append(all, c)
			}
		}
	}
	return all
}

// withoutComment cuts off what a shell takes for a comment.
func withoutComment(line string) string {
	quote := rune(0)
	for i, r := range line {
		switch {
		case quote != 0:
			if r == quote {
				quote = 0
			}
		case r == '\'' || r == '"':
			quote = r
		case r == '#' && (i == 0 || line[i-1] == ' '):
			return strings.TrimSpace(line[:i])
		}
	}
	return strings.TrimSpace(line)
}

// shellWords splits a command as a shell does, if it is a simple one.
func shellWords(line string) ([]string, error) {
	var words []string
	var word strings.Builder
	quote, in := rune(0), false
	for _, r := range line {
		switch {
		case quote != 0 && r == quote:
			quote = 0
		case quote == 0 && (r == '\'' || r == '"'):
			quote, in = r, true
		case quote != 0:
			word.WriteRune(r)
		case r == ' ':
			if in {
				words = append(words, word.String())
				word.Reset()
			}
			in = false
		case strings.ContainsRune("|&;<>()$`\\*?\n", r):
			return nil, errors.New("not a simple command")
		default:
			in = true
			word.WriteRune(r)
		}
	}
	if in {
		words = append(words, word.String())
	}
	if quote != 0 {
		return nil, errors.New("a quotation does not end")
	}
	return words, nil
}

func TestDocBlocks(t *testing.T) {
	t.Parallel()
	page := "Text:\n\n    dirpost a 'b # c' # comment\n    key = value\n\nMore.\n\n```\n$ curl x\nanswer\n```\n\n```toml\n[a]\n```\n\n```sh\nodd thing\n```\n\n    ldapmodify <<X\n    dn: y\n    X\n\n    out: dirpost x\n"
	var got []string
	for _, c := range commandsOf(blocksOf("p", page)) {
		got = append(got, c.text)
	}
	want := []string{"dirpost a 'b # c'", "curl x", "odd thing", "ldapmodify <<X\ndn: y\nX"}
	if strings.Join(got, "|") != strings.Join(want, "|") {
		t.Errorf("got %q, want %q", got, want)
	}
	if words, err := shellWords(`dirpost auth test 'CORP\alice' --x "a b"`); err != nil || strings.Join(words, "|") != `dirpost|auth|test|CORP\alice|--x|a b` {
		t.Errorf("%q, %v", words, err)
	}
}
