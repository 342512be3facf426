package imapd

import (
	"strings"
	"testing"
)

// RFC 9051 §6.3.9.
func TestMatch(t *testing.T) {
	for _, tt := range []struct {
		pattern string
		yes, no []string
	}{
		{"*", []string{"INBOX", "a", "a/b", "a/b/c"}, nil},
		{"%", []string{"INBOX", "a", "日本"}, []string{"a/b"}},
		{"a/%", []string{"a/b"}, []string{"a", "a/b/c", "b/a"}},
		{"a*", []string{"a", "ab", "a/b"}, []string{"A", "ba"}},
		{"%/%", []string{"a/b"}, []string{"a", "a/b/c"}},
		{"*b", []string{"b", "a/b", "aab"}, []string{"ba"}},
		{"%b*c", []string{"bc", "abxc", "ab/c"}, []string{"a/bc", "ab"}},
		{"inbox", []string{"INBOX"}, []string{"inbox2"}},
		{"In%", []string{"INBOX"}, []string{"INbox/x", "inner"}},
		{"inbox/%", []string{"INBOX/x"}, []string{"INBOX/x/y"}},
		{"INBOX/X", nil, []string{"INBOX/x"}},
		{"", nil, []string{"a"}},
		{strings.Repeat("*a", 900), []string{strings.Repeat("a", 900)}, []string{strings.Repeat("a", 899), strings.Repeat("b", 900)}},
		{strings.Repeat("a", maxPattern+1), nil, []string{strings.Repeat("a", 1000)}},
	} {
		m := newMatcher(tt.pattern)
		for _, name := range tt.yes {
			if !m.match(name) {
				t.Errorf("%.40q does not match %.40q", tt.pattern, name)
			}
		}
		for _, name := range tt.no {
			if m.match(name) {
				t.Errorf("%.40q matches %.40q", tt.pattern, name)
			}
		}
	}
}

func TestMayMatchBelow(t *testing.T) {
	for pattern, want := range map[string]bool{
		"*": true, "%": true, "Shared": true, "Sh%": true, "Shared/x": true, "%/%": true, "S*/INBOX": true, "*x": true,
		"INBOX": false, "shared": false, "Sharedx": false, "a*": false, "": false, "Sent": false,
	} {
		if got := newMatcher(pattern).mayMatchBelow(sharedRoot); got != want {
			t.Errorf("%q may match below: %v", pattern, got)
		}
	}
}

// The comparison is the same as the obvious one.
func FuzzMatch(f *testing.F) {
	f.Add("a*%b", "a/xb")
	f.Add("%/%", "a/b")
	f.Add("**%%", "")
	f.Fuzz(func(t *testing.T, pattern, name string) {
		if len(pattern) > 12 || len(name) > 16 {
			return
		}
		if got, want := glob(pattern, name, false), obvious(pattern, name); got != want {
			t.Errorf("glob(%q, %q) = %v", pattern, name, got)
		}
	})
}

func obvious(pattern, name string) bool {
	if pattern == "" {
		return name == ""
	}
	switch pattern[0] {
	case '*', '%':
		for i := 0; i <= len(name); i++ {
			if obvious(pattern[1:], name[i:]) {
				return true
			}
			if i < len(name) && name[i] == '/' && pattern[0] == '%' {
				return false
			}
		}
		return false
	}
	return name != "" && pattern[0] == name[0] && obvious(pattern[1:], name[1:])
}
