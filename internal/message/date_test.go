package message

import (
	"testing"
	"time"
)

func TestParseDate(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ in, want string }{
		{"Sat, 21 Nov 2026 10:00:05 +0800", "2026-11-21T10:00:05+08:00"},
		{"21 Nov 2026 10:00 -0330", "2026-11-21T10:00:00-03:30"},
		{"Sat, 21 Nov 26 10:00:00 EST", "2026-11-21T10:00:00-05:00"},
		{"Fri, 21 Nov 1997 09(comment):55:06 -0600", "1997-11-21T00:00:00-06:00"},
		{"Fri, 21 Nov 1997 09:55:06 -0600 (Central (standard) time)", "1997-11-21T09:55:06-06:00"},
		{"21 Nov 97 09:55:06 GMT", "1997-11-21T09:55:06Z"},
		{"Thu,  1 Jan 104 00:00:00 Z", "2004-01-01T00:00:00Z"},
		{"Sat Nov 21 10:00:00 2026", "2026-11-21T10:00:00Z"},
		{"Sat Nov 21 10:00:00 PST 2026", "2026-11-21T10:00:00-08:00"},
		{"21-Nov-2026 10:00:00 +0000", "2026-11-21T10:00:00Z"},
		{"2026-11-21T10:00:00+01:00", "2026-11-21T10:00:00+01:00"},
		{"Sat, 21 Nov 2026 10:00:60 +0000", "2026-11-21T10:00:59Z"},
		{"Sat, 21 Nov 2026", "2026-11-21T00:00:00Z"},
		{"Sat, 21 November 2026 10:00:00 +00:00", "2026-11-21T10:00:00Z"},
		{"Sat, 31 Feb 2026 10:00:00 +0000", ""},
		{"Sat, 21 Nov 2026 25:00:00 +0000", "2026-11-21T00:00:00Z"},
		{"yesterday", ""},
		{"", ""},
		{"()", ""},
	} {
		got, err := ParseDate(tt.in)
		if err != nil {
			if tt.want != "" {
				t.Errorf("ParseDate(%q): %v", tt.in, err)
			}
			continue
		}
		if g := got.Format(time.RFC3339); g != tt.want {
			t.Errorf("ParseDate(%q) = %s, want %s", tt.in, g, tt.want)
		}
	}
}

func FuzzParseDate(f *testing.F) {
	f.Add("Sat, 21 Nov 2026 10:00:05 +0800 (x)")
	f.Add("21-Nov-97 9:5 PDT")
	f.Fuzz(func(t *testing.T, s string) {
		d, err := ParseDate(s)
		if err == nil && (d.Year() < 1800 || d.Year() > 9999) {
			t.Fatalf("ParseDate(%q) = %v", s, d)
		}
	})
}
