package message

import (
	"errors"
	"strings"
	"testing"
)

func TestHeaderGet(t *testing.T) {
	t.Parallel()
	h := ParseHeader([]byte("From x\r\nSubject : a\r\n\tb \r\nTO:c\nto: d\r\nEmpty:\r\nno field\r\n: x\r\n\r\nbody"))
	for _, tt := range []struct{ name, want string }{
		{"subject", "a\tb"}, {"to", "c"}, {"To", "c"}, {"empty", ""}, {"missing", ""}, {"From x", ""},
	} {
		if got := h.Get(tt.name); got != tt.want {
			t.Errorf("Get(%q) = %q, want %q", tt.name, got, tt.want)
		}
	}
	if got := strings.Join(h.Values("to"), "|"); got != "c|d" {
		t.Errorf("Values(to) = %q", got)
	}
	if !h.Has("empty") || h.Has("no field") || h.Has("") {
		t.Errorf("Has: empty %t, no field %t, nothing %t", h.Has("empty"), h.Has("no field"), h.Has(""))
	}
	if got := string(h.Bytes()); !strings.HasSuffix(got, ": x\r\n\r\n") {
		t.Errorf("Bytes() = %q", got)
	}
}

func TestHeaderEdit(t *testing.T) {
	t.Parallel()
	h := ParseHeader([]byte("A: 1\r\nB: 2\r\n x\r\na: 3\r\n\r\n"))
	before := h
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	check(h.Prepend("Top", "new"))
	check(h.Append("Last", "end"))
	check(h.Set("b", "two"))
	if !h.Remove("A") || h.Remove("A") {
		t.Error("Remove did not say whether there was one")
	}
	check(h.Set("C", "c"))
	check(h.PrependLines([]byte("X: 1\r\nY: 2\r\n\tmore\r\n")))
	if got, want := string(h.Bytes()), "X: 1\r\nY: 2\r\n\tmore\r\nTop: new\r\nb: two\r\nLast: end\r\nC: c\r\n\r\n"; got != want {
		t.Errorf("edited header %q, want %q", got, want)
	}
	if got := string(before.Bytes()); got != "A: 1\r\nB: 2\r\n x\r\na: 3\r\n\r\n" {
		t.Errorf("a copy made before has changed: %q", got)
	}
	var empty Header
	check(empty.Prepend("A", ""))
	if got := string(empty.Bytes()); got != "A: \r\n\r\n" {
		t.Errorf("empty header with a field: %q", got)
	}
}

// Nothing that comes from elsewhere can start a field of its own.
func TestHeaderInjection(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, value string
		want        error
	}{
		{"Subject", "a\r\nBcc: b", ErrFieldValue},
		{"Subject", "a\n b", ErrFieldValue},
		{"Subject", "a\rb", ErrFieldValue},
		{"Subject", "a\x00b", ErrFieldValue},
		{"Sub ject", "a", ErrFieldName},
		{"Subject:", "a", ErrFieldName},
		{"", "a", ErrFieldName},
		{"Sübject", "a", ErrFieldName},
	} {
		h := ParseHeader([]byte("A: 1\r\n\r\n"))
		if err := h.Prepend(tt.name, tt.value); !errors.Is(err, tt.want) {
			t.Errorf("Prepend(%q, %q): %v, want %v", tt.name, tt.value, err, tt.want)
		}
		if got := string(h.Bytes()); got != "A: 1\r\n\r\n" {
			t.Errorf("after a refused Prepend: %q", got)
		}
	}
	for _, lines := range []string{"A: 1", "A: 1\n", "A: 1\r\n\r\n", " A: 1\r\n", "A\r\n", "A: \r1\r\n", "A: 1\r\nB\r\n", "\r\n"} {
		h := ParseHeader([]byte("A: 1\r\n\r\n"))
		if err := h.PrependLines([]byte(lines)); err == nil {
			t.Errorf("PrependLines(%q) took it", lines)
		}
	}
}

func TestFormatField(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("word ", 40)
	for _, tt := range []struct{ value, want string }{
		{"a", "X: a\r\n"},
		{"  a  ", "X: a\r\n"},
		{"", "X: \r\n"},
		{strings.Repeat("a", 100), "X: " + strings.Repeat("a", 100) + "\r\n"},
		{strings.Repeat("a", 100) + " b", "X: " + strings.Repeat("a", 100) + "\r\n b\r\n"},
	} {
		got, err := FormatField("X", tt.value)
		if err != nil || string(got) != tt.want {
			t.Errorf("FormatField(%q) = %q, %v, want %q", tt.value, got, err, tt.want)
		}
	}
	got, err := FormatField("X", long)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.SplitSeq(strings.TrimSuffix(string(got), "\r\n"), "\r\n") {
		if len(line) > foldAt || strings.TrimSpace(line) == "" {
			t.Errorf("line %q", line)
		}
	}
	if v := ParseHeader(got).Get("x"); v != strings.TrimSpace(long) {
		t.Errorf("folded and unfolded: %q", v)
	}
}

// What has been formatted reads back as it was.
func FuzzFormatField(f *testing.F) {
	f.Add("Subject", "a  b\tc "+strings.Repeat("d ", 50))
	f.Fuzz(func(t *testing.T, name, value string) {
		line, err := FormatField(name, value)
		if err != nil {
			return
		}
		h := ParseHeader(line)
		if got, want := h.Get(name), strings.Trim(value, " \t"); h.Len() != 1 || got != want {
			t.Fatalf("%q reads as %q, want %q", line, got, want)
		}
	})
}
