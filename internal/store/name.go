package store

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// Separator stands between the levels of a mailbox name.
const Separator = "/"

// Limits of a mailbox name.
const (
	maxNameOctets = 1000
	maxNameDepth  = 32
)

const inboxName = "INBOX"

// isInbox reports whether name is INBOX in any case (RFC 9051 §5.1).
func isInbox(name string) bool {
	return len(name) == len(inboxName) && strings.EqualFold(name, inboxName)
}

// canonicalName returns the form in which a name is stored and compared: NFC,
// INBOX in capitals at the first level; or ErrName.
func canonicalName(name string) (string, error) {
	if isInbox(name) {
		return inboxName, nil
	}
	if !utf8.ValidString(name) {
		return "", fmt.Errorf("%w: not UTF-8", ErrName)
	}
	name = norm.NFC.String(name)
	switch levels := strings.Split(name, Separator); {
	case len(name) > maxNameOctets:
		return "", fmt.Errorf("%w: longer than %d octets", ErrName, maxNameOctets)
	case len(levels) > maxNameDepth:
		return "", fmt.Errorf("%w: deeper than %d levels", ErrName, maxNameDepth)
	default:
		for _, level := range levels {
			if level == "" {
				return "", fmt.Errorf("%w: empty level", ErrName)
			}
		}
		if isInbox(levels[0]) {
			name = inboxName + name[len(inboxName):]
		}
	}
	// RFC 9051 §5.1 forbids what Net-Unicode forbids (RFC 5198 §2).
	if strings.IndexFunc(name, func(r rune) bool {
		return unicode.IsControl(r) || r == '\u2028' || r == '\u2029' || r == utf8.RuneError
	}) >= 0 {
		return "", fmt.Errorf("%w: control character", ErrName)
	}
	return name, nil
}

// newName is canonicalName for a mailbox that is about to be made: it may not
// hold the wildcards of LIST, nor lie in a namespace of others (RFC 9051
// §6.3.10, RFC 2342).
func newName(name string) (string, error) {
	// A separator at the end announces inferiors; we need no announcement
	// (RFC 9051 §6.3.4).
	name, err := canonicalName(strings.TrimSuffix(name, Separator))
	if err != nil {
		return "", err
	}
	if strings.ContainsAny(name, "%*") {
		return "", fmt.Errorf("%w: wildcard", ErrName)
	}
	first, _, _ := strings.Cut(name, Separator)
	if first == "Users" || first == "Shared" || first[0] == '#' {
		return "", fmt.Errorf("%w: %s is a namespace", ErrName, first)
	}
	return name, nil
}

// parents returns the names above name, the highest first.
func parents(name string) []string {
	var above []string
	for i := range len(name) {
		if name[i] == Separator[0] {
			above = append(above, name[:i])
		}
	}
	return above
}
