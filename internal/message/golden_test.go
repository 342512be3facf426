package message

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// Each message in testdata has beside it what the package says about it.
func TestGolden(t *testing.T) {
	for name, msg := range emlFiles(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p, body := scan(msg, Limits{}, whole)
			if err := checkTree(p, body); err != nil {
				t.Error(err)
			}
			got := describeMessage(p, body)
			file := "testdata/" + name + ".want"
			if *update {
				if err := os.WriteFile(file, got, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got, want) {
				t.Errorf("got:\n%s\nwant:\n%s", got, want)
			}
		})
	}
}

func describeMessage(p *Parsed, body []byte) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "header %d body %d lines %d defects %v\n", p.HeaderSize, p.BodySize, p.BodyLines, p.Defects)
	describePart(&b, p.Root, body, "", "")
	fmt.Fprintf(&b, "ENVELOPE %s\n", p.Header.Envelope(nil))
	fmt.Fprintf(&b, "BODY %s\n", p.Root.AppendBodyStructure(nil, false))
	fmt.Fprintf(&b, "BODYSTRUCTURE %s\n", p.Root.AppendBodyStructure(nil, true))
	x := IndexOf(p.Header)
	base, reply := BaseSubject(x.Subject)
	fmt.Fprintf(&b, "subject %q base %q reply %t\nfrom %q\nrecipients %q\nids %x %x\n", x.Subject, base, reply, x.From, x.Recipients, uint64(x.MessageIDHash), uint64(x.ThreadID))
	var text strings.Builder
	if err := WriteText(&text, p.Root, bytes.NewReader(body), 1<<20); err != nil {
		fmt.Fprintln(&b, err)
	}
	fmt.Fprintf(&b, "text %q\n", text.String())
	return b.Bytes()
}

// describePart lists the tree with the part numbers of IMAP, and finds each
// part by its number.
func describePart(b *bytes.Buffer, p *Part, body []byte, indent, number string) {
	fmt.Fprintf(b, "%s%q %s/%s header %d+%d body %d+%d lines %d", indent, number, p.Type, p.Subtype, p.HeaderOffset, p.HeaderSize, p.BodyOffset, p.BodySize, p.BodyLines)
	if p.BodySize < 60 {
		fmt.Fprintf(b, " %q", body[p.BodyOffset:p.BodyOffset+p.BodySize])
	}
	b.WriteByte('\n')
	for i, c := range p.Children {
		n := fmt.Sprint(i + 1)
		if number != "" {
			n = number + "." + n
		}
		describePart(b, c, body, indent+"  ", n)
	}
	if p.Embedded != nil {
		fmt.Fprintf(b, "%s  envelope %s\n", indent, p.Embedded.Envelope)
		if p.Embedded.Root.Type != "multipart" {
			number += ".1"
		}
		describePart(b, p.Embedded.Root, body, indent+"  ", strings.TrimPrefix(number, "."))
	}
}
