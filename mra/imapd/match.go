package imapd

import "strings"

// matcher is a pattern of LIST: "*" matches anything, "%" anything within a
// level (RFC 9051 §6.3.9).
type matcher struct {
	pattern string
	// inbox is the pattern in upper case if its first level is to be compared
	// without case, as INBOX is.
	inbox string
}

func newMatcher(pattern string) matcher {
	for strings.Contains(pattern, "**") {
		pattern = strings.ReplaceAll(pattern, "**", "*")
	}
	first, rest, below := strings.Cut(pattern, separator)
	inbox := strings.ToUpper(first)
	if below {
		inbox += separator + rest
	}
	return matcher{pattern, inbox}
}

func matchAny(ms []matcher, name string) bool {
	for _, m := range ms {
		if m.match(name) {
			return true
		}
	}
	return false
}

// match reports whether the whole of name matches.
func (m matcher) match(name string) bool {
	if name == "INBOX" || strings.HasPrefix(name, "INBOX"+separator) {
		return glob(m.inbox, name, false)
	}
	return glob(m.pattern, name, false)
}

// mayMatchBelow reports whether a name at or below root can match.
func (m matcher) mayMatchBelow(root string) bool { return glob(m.pattern, root+separator, true) }

// maxPattern is the length of the longest pattern that can be meant: a name has
// at most 1,000 octets.
const maxPattern = 2000

// glob compares with all alternatives at once: states[i] says that the pattern
// up to i matches what has been read of name, so the work is bounded by the
// product of both lengths whatever wildcards there are. With prefix, name is
// the beginning of what is to match.
func glob(pattern, name string, prefix bool) bool {
	switch {
	case len(pattern) > maxPattern:
		return false
	case pattern == "*":
		return true
	case pattern == "%" && !prefix:
		return strings.IndexByte(name, separator[0]) < 0
	}
	now, next := make([]bool, len(pattern)+1), make([]bool, len(pattern)+1)
	now[0] = true
	closure(pattern, now)
	for i := 0; i < len(name); i++ {
		// A pattern may end in the middle of a prefix: "Shared" matches
		// the root itself.
		clear(next)
		any := false
		for j, on := range now {
			if !on || j == len(pattern) {
				continue
			}
			switch pattern[j] {
			case '*':
				next[j] = true
			case '%':
				next[j] = name[i] != separator[0]
			case name[i]:
				next[j+1] = true
			}
			any = any || next[j] || next[j+1]
		}
		if prefix && i == len(name)-1 && now[len(pattern)] {
			return true
		}
		if !any {
			return false
		}
		closure(pattern, next)
		now, next = next, now
	}
	if prefix {
		return true
	}
	return now[len(pattern)]
}

// closure lets wildcards match nothing.
func closure(pattern string, states []bool) {
	for j := 0; j < len(pattern); j++ {
		if states[j] && (pattern[j] == '*' || pattern[j] == '%') {
			states[j+1] = true
		}
	}
}
