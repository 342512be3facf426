package message

import (
	"bufio"
	"bytes"
	"encoding/json"
	"io"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// differs names the messages of testdata that Python's email package reads
// otherwise, with the reason why we do not.
var differs = map[string]string{
	"05-no-boundary":     "Python keeps the type multipart/mixed for a text",
	"06-empty-parts":     "Python gives a header without end no part",
	"13-encoded-message": "Python parses the base64 text as a message",
	"14-same-boundary":   "Python takes the inner end for the outer one",
	"15-addresses":       "Python has other words for what is broken",
	"18-content-types":   "Python takes comments for part of the type",
	"19-boundaries":      "Python asks for whole boundary lines, RFC 2046 §5.1.1 for their beginning",
	"21-message-global":  "Python reads the blocks of message/external-body as parts",
	"raw-07-bare-lf":     "Python ends lines at a bare CR",
	"raw-08-mbox":        "Python takes the From line away",
	"raw-09-8bit":        "Python keeps raw 8-bit text as surrogates",
	"raw-10-gbk":         "Python keeps raw 8-bit text as surrogates",
}

type pythonView struct {
	Parts []struct {
		Type    string
		Content *string // octets as Latin-1
	}
	Fields  map[string][][2]string
	Subject string
	Date    string
}

// Python's email package and this one see the same in messages that are as
// they should be.
func TestPythonEmail(t *testing.T) {
	t.Parallel()
	python, err := exec.LookPath("python3")
	if err != nil {
		t.Fatal("python3 is missing: install the packages of deploy/packages-test.txt")
	}
	var names []string
	args := []string{"testdata/crosscheck.py"}
	files := emlFiles(t)
	for name := range files {
		if differs[name] == "" {
			names = append(names, name)
			args = append(args, "testdata/"+name+".eml")
		}
	}
	out, err := exec.Command(python, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("python3 %s: %v\n%s", args, err, out)
	}
	lines := bufio.NewScanner(bytes.NewReader(out))
	lines.Buffer(nil, 1<<20)
	for _, name := range names {
		if !lines.Scan() {
			t.Fatalf("no line about %s in %s", name, out)
		}
		var want pythonView
		if err := json.Unmarshal(lines.Bytes(), &want); err != nil {
			t.Fatal(err)
		}
		t.Run(name, func(t *testing.T) { comparePython(t, files[name], want) })
	}
}

func comparePython(t *testing.T, msg []byte, want pythonView) {
	p, body := scan(msg, Limits{}, whole)
	i := 0
	p.Root.All(func(q *Part) bool {
		if i == len(want.Parts) {
			t.Errorf("more parts than Python's %d", i)
			return false
		}
		w := want.Parts[i]
		i++
		if got := q.Type + "/" + q.Subtype; got != w.Type {
			t.Errorf("part %d is %s, Python says %s", i, got, w.Type)
		}
		if w.Content == nil {
			return true
		}
		content, err := io.ReadAll(q.Decoded(bytes.NewReader(body)))
		if got := latin1(content); err != nil || got != *w.Content {
			t.Errorf("part %d holds %q, %v, Python says %q", i, got, err, *w.Content)
		}
		return true
	})
	for name, mailboxes := range want.Fields {
		var got [][2]string
		for _, v := range p.Header.Values(name) {
			for m := range ParseMailboxes(v) {
				got = append(got, [2]string{m.Name, m.Local + "@" + m.Domain})
			}
		}
		if len(got) != len(mailboxes) {
			t.Errorf("%s: %q, Python says %q", name, got, mailboxes)
			continue
		}
		for i := range got {
			if got[i] != mailboxes[i] {
				t.Errorf("%s: %q, Python says %q", name, got[i], mailboxes[i])
			}
		}
	}
	if got := DecodeHeader(p.Header.Get("subject")); got != want.Subject {
		t.Errorf("subject %q, Python says %q", got, want.Subject)
	}
	if want.Date != "" {
		date, err := p.Header.Date()
		if got := strings.Replace(date.Format(time.RFC3339), "Z", "+00:00", 1); err != nil || got != want.Date {
			t.Errorf("date %s, %v, Python says %s", got, err, want.Date)
		}
	}
}

func latin1(b []byte) string {
	r := make([]rune, len(b))
	for i, c := range b {
		r[i] = rune(c)
	}
	return string(r)
}
