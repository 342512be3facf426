package message

import "strings"

// BaseSubject returns the base subject of RFC 5256 §2.1 of a decoded subject,
// and whether something said that it is a reply or forward. It works on
// normalised subjects (Index.Subject) as on others.
func BaseSubject(subject string) (base string, isReply bool) {
	s := strings.Join(strings.Fields(subject), " ")
	for {
		// Step 2: subj-trailer.
		for {
			t := strings.TrimRight(s, " ")
			if len(t) >= 5 && strings.EqualFold(t[len(t)-5:], "(fwd)") {
				t, isReply = t[:len(t)-5], true
			}
			if len(t) == len(s) {
				break
			}
			s = t
		}
		// Steps 3 to 5: subj-leader, subj-blob.
		for {
			t := strings.TrimLeft(s, " ")
			if rest, ok := cutReply(t); ok {
				t, isReply = rest, true
			} else if rest, ok := cutBlob(t); ok && rest != "" {
				t = rest
			}
			if len(t) == len(s) {
				break
			}
			s = t
		}
		// Step 6: "[fwd: … ]".
		if len(s) < 6 || !strings.EqualFold(s[:5], "[fwd:") || s[len(s)-1] != ']' {
			return s, isReply
		}
		s, isReply = s[5:len(s)-1], true
	}
}

// cutReply cuts *subj-blob ("re" / "fw" / "fwd") [subj-blob] ":".
func cutReply(s string) (string, bool) {
	for {
		rest, ok := cutBlob(s)
		if !ok {
			break
		}
		s = rest
	}
	switch {
	case hasPrefixFold(s, "re"):
		s = s[2:]
	case hasPrefixFold(s, "fwd"):
		s = s[3:]
	case hasPrefixFold(s, "fw"):
		s = s[2:]
	default:
		return "", false
	}
	s = strings.TrimLeft(s, " ")
	if rest, ok := cutBlob(s); ok {
		s = rest
	}
	return strings.CutPrefix(s, ":")
}

// cutBlob cuts "[" *BLOBCHAR "]" *WSP.
func cutBlob(s string) (string, bool) {
	if s == "" || s[0] != '[' {
		return s, false
	}
	n := strings.IndexAny(s[1:], "[]")
	if n < 0 || s[1+n] != ']' {
		return s, false
	}
	return strings.TrimLeft(s[n+2:], " "), true
}

func hasPrefixFold(s, prefix string) bool {
	return len(s) >= len(prefix) && strings.EqualFold(s[:len(prefix)], prefix)
}
