package main

import (
	"bufio"
	"io"
	"strings"
	"testing"
)

// TestReadHeader: what scripts send, and where its body begins.
func TestReadHeader(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ in, subject, body string }{
		"usual":         {"Subject: a\nTo: b@c.example\n\nbody\n", "a", "body\n"},
		"CRLF":          {"Subject: a\r\n\r\nbody\r\n", "a", "body\r\n"},
		"folded":        {"Subject: a\n b\n\nbody\n", "a b", "body\n"},
		"no header":     {"body\nmore\n", "", "body\nmore\n"},
		"empty line":    {"\nSubject: no\n", "", "Subject: no\n"},
		"no empty line": {"Subject: a\nbody without a line between\n", "a", "body without a line between\n"},
		"header alone":  {"Subject: a\n", "a", ""},
		"nothing":       {"", "", ""},
	} {
		r := bufio.NewReader(strings.NewReader(c.in))
		h, err := readHeader(r)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		body, err := io.ReadAll(r)
		if err != nil || h.Get("Subject") != c.subject || string(body) != c.body {
			t.Errorf("%s: subject %q, body %q, %v; want %q, %q", name, h.Get("Subject"), body, err, c.subject, c.body)
		}
	}
}

func TestDotReader(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 5000)
	for in, want := range map[string]string{
		"a\n.\nb\n":           "a\n",
		"a\r\n.\r\nb":         "a\r\n",
		"a\n..\n.b\n":         "a\n..\n.b\n",
		"a\n.":                "a\n",
		".\n":                 "",
		"no end":              "no end",
		long + ".\nb\n.\nc\n": long + ".\nb\n",
		long + "\n.\nb\n":     long + "\n",
	} {
		got, err := io.ReadAll(&dotReader{r: bufio.NewReader(strings.NewReader(in))})
		if err != nil || string(got) != want {
			t.Errorf("%.20q: %.40q, %v; want %.40q", in, got, err, want)
		}
	}
}

func TestParseSendmail(t *testing.T) {
	t.Parallel()
	for line, check := range map[string]func(sendmailOptions) bool{
		"-t -i": func(o sendmailOptions) bool { return o.fromHeader && o.ignoreDots },
		"-ti":   func(o sendmailOptions) bool { return o.fromHeader && o.ignoreDots },
		"-oi -fa@b.example c": func(o sendmailOptions) bool {
			return o.ignoreDots && *o.sender == "a@b.example" && o.recipients[0] == "c"
		},
		"-f <> c":               func(o sendmailOptions) bool { return o.sender != nil && *o.sender == "" },
		"-oem -odb -F Me -- -x": func(o sendmailOptions) bool { return o.name == "Me" && o.recipients[0] == "-x" },
		"-bs":                   func(o sendmailOptions) bool { return o.mode == "s" },
		"-N failure,delay -R hdrs -V id c": func(o sendmailOptions) bool {
			return len(o.notify) == 2 && o.ret == "HDRS" && o.envID == "id"
		},
	} {
		o, err := parseSendmail(strings.Fields(line))
		if err != nil || !check(o) {
			t.Errorf("%s: %+v, %v", line, o, err)
		}
	}
	for _, line := range []string{"-bd", "-Z", "-f", "-N sometimes", "-R all"} {
		if o, err := parseSendmail(strings.Fields(line)); err == nil {
			t.Errorf("%s: %+v", line, o)
		}
	}
}
