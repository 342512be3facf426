package wire

import "testing"

func TestSplit(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ in, verb, arg string }{
		{"NOOP", "NOOP", ""},
		{"noop", "NOOP", ""},
		{"MaIl FROM:<a@b>", "MAIL", "FROM:<a@b>"},
		{"RCPT   TO:<a@b>  ", "RCPT", "TO:<a@b>"},
		{"EHLO\tclient", "EHLO", "client"},
		{"DATA \t ", "DATA", ""},
		{"", "", ""},
		{" NOOP", "", "NOOP"},
		{"ABCDEFGHIJKL x", "ABCDEFGHIJKL", "x"},
		{"ABCDEFGHIJKLM x", "", "x"},
		{"NOOP\xff", "NOOP\xff", ""},
	} {
		v, arg := Split([]byte(tt.in))
		if v.String() != tt.verb || string(arg) != tt.arg {
			t.Errorf("Split(%q) = %q, %q; want %q, %q", tt.in, v, arg, tt.verb, tt.arg)
		}
	}
}
