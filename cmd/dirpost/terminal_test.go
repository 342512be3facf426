package main

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"golang.org/x/sys/unix"
)

// TestReadLine: an empty line is one, an input that is over is not.
func TestReadLine(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		in   io.Reader
		want string
		err  string
	}{
		{strings.NewReader("yes\nno\n"), "yes", ""},
		{strings.NewReader("yes\r\n"), "yes", ""},
		{strings.NewReader("\n"), "", ""},
		{strings.NewReader("yes"), "yes", ""},
		{iotest.DataErrReader(strings.NewReader("yes")), "yes", ""},
		{strings.NewReader(""), "", "the input ends before an answer"},
		{iotest.ErrReader(errors.New("away")), "", "away"},
		{strings.NewReader(strings.Repeat("y", maxLine+1)), "", "line is too long"},
	} {
		got, err := readLine(t.Context(), c.in)
		if err == nil {
			err = errors.New("")
		}
		if got != c.want || err.Error() != c.err {
			t.Errorf("%q, %v; want %q, %s", got, err, c.want, c.err)
		}
	}
}

// TestInputEnds: who ends the input (Ctrl-D) has agreed to nothing, whatever the default
// is, and is told so.
func TestInputEnds(t *testing.T) {
	t.Parallel()
	for name, ask := range map[string]func(q *asker) error{
		"line": func(q *asker) error { _, err := q.line(t.Context(), "Servers", "ldaps://dc.corp.example"); return err },
		"list": func(q *asker) error { _, err := q.list(t.Context(), "Networks", []string{"127.0.0.0/8"}); return err },
		"choice": func(q *asker) error {
			_, err := q.choice(t.Context(), "From", []string{"file", "acme"}, "acme")
			return err
		},
		"yes":    func(q *asker) error { _, err := q.yes(t.Context(), "Do all this", true); return err },
		"secret": func(q *asker) error { _, err := q.secret(t.Context(), "Password"); return err },
	} {
		program, person := terminalPair(t)
		done := make(chan error, 1)
		go func() {
			var screen bytes.Buffer
			done <- ask(&asker{streams{program, &screen, &screen}, &screen})
		}()
		for name == "secret" && t.Context().Err() == nil { // typed when nothing is echoed any more
			if _, now := terminal(program); now.Lflag&unix.ECHO == 0 {
				break
			}
			time.Sleep(time.Millisecond)
		}
		if _, err := person.WriteString("\x04"); err != nil {
			t.Fatal(err)
		}
		if err := <-done; !errors.Is(err, errSetupEnds) {
			t.Errorf("%s: %v", name, err)
		}
	}
	var out bytes.Buffer
	std := streams{strings.NewReader(""), &out, &out}
	if yes, err := confirm(t.Context(), "Trust them? [y/N] ", std); yes || !errors.Is(err, errInputEnds) {
		t.Errorf("confirm: %v, %v", yes, err)
	}
	if _, err := readPassword(t.Context(), "Password: ", "-", std); !errors.Is(err, errInputEnds) {
		t.Errorf("password: %v", err)
	}
}
