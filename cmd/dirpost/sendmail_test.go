package main

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"path/filepath"
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
		"-q15m":                 func(o sendmailOptions) bool { return o.mode == "q" },
		"-bi":                   func(o sendmailOptions) bool { return o.mode == "i" },
		"-O DeliveryMode=b c":   func(o sendmailOptions) bool { return len(o.recipients) == 1 },
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

// TestSendmailLosesNode: a node that leaves before it has taken the message is a reason
// to try again, and one that leaves behind it is none.
func TestSendmailLosesNode(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		replies []string
		want    int
	}{
		"greets with 421":       {[]string{"421 4.3.2 bye"}, exTempFail},
		"ends before greeting":  {nil, exTempFail},
		"ends before recipient": {[]string{"220 x", "250 x", "250 x"}, exTempFail},
		"ends within content":   {[]string{"220 x", "250 x", "250 x", "250 x", "354 x"}, exTempFail},
		"says 421 behind it":    {[]string{"220 x", "250 x", "250 x", "250 x", "354 x", "421 4.3.2 bye"}, exTempFail},
		"takes it and leaves":   {[]string{"220 x", "250 x", "250 x", "250 x", "354 x", "250 x"}, 0},
		"takes it, then 421":    {[]string{"220 x", "250 x", "250 x", "250 x", "354 x", "250 x", "421 4.3.2 bye"}, 0},
		"has no such recipient": {[]string{"220 x", "250 x", "250 x", "550 5.1.1 x"}, exNoUser},
		"refuses the message":   {[]string{"220 x", "250 x", "250 x", "250 x", "354 x", "550 5.6.0 x"}, exDataErr},
	} {
		dir := shortDir(t)
		l, err := net.Listen("unix", filepath.Join(dir, "s"))
		if err != nil {
			t.Fatal(err)
		}
		over := make(chan struct{})
		go func() {
			defer close(over)
			conn, err := l.Accept()
			if err != nil {
				return
			}
			defer conn.Close()
			r := bufio.NewReader(conn)
			for i, reply := range c.replies {
				for i > 0 { // a command, or behind 354 the message
					if line, err := r.ReadString('\n'); err != nil || i != 5 || line == ".\r\n" {
						break
					}
				}
				fmt.Fprintf(conn, "%s\r\n", reply)
			}
		}()
		socket := fmt.Sprintf("socket = %q", l.Addr().String())
		config := mustWrite(t, filepath.Join(dir, "dirpost.toml"), strings.Replace(exampleTOML, "[domains]", socket+"\n[domains]", 1), 0o600)
		var errs bytes.Buffer
		code := run(t.Context(), []string{"sendmail", "-C", config, "-f", "alice@corp.example", "bob@corp.example"}, streams{strings.NewReader("Subject: x\n\ntext\n"), io.Discard, &errs})
		if code != c.want {
			t.Errorf("%s: exit status %d, want %d: %s", name, code, c.want, errs.String())
		}
		l.Close()
		<-over
	}
}
