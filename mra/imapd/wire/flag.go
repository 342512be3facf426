package wire

import (
	"strings"

	"github.com/emersion/go-imap/v2"
)

// Flag takes a flag: a system flag or a keyword (RFC 9051 §9, flag). System
// flags come in the case of the standard; \Recent, which no client may set, and
// unknown system flags are errors.
func (d *Decoder) Flag() imap.Flag {
	if !d.Skip('\\') {
		return imap.Flag(d.Atom())
	}
	tok := string(d.run(atomChar))
	for _, f := range [...]imap.Flag{imap.FlagSeen, imap.FlagAnswered, imap.FlagFlagged, imap.FlagDeleted, imap.FlagDraft} {
		if strings.EqualFold(tok, string(f[1:])) {
			return f
		}
	}
	d.Fail("unknown system flag")
	return ""
}

// FlagList takes a parenthesised list of flags, each of them once.
func (d *Decoder) FlagList() []imap.Flag {
	var flags []imap.Flag
	d.List(func() { flags = addFlag(flags, d.Flag()) })
	return flags
}

// Flags takes what STORE takes: a flag list, or flags without parentheses
// (RFC 9051 §9, store-att-flags).
func (d *Decoder) Flags() []imap.Flag {
	if d.Peek() == '(' {
		return d.FlagList()
	}
	flags := []imap.Flag{d.Flag()}
	for d.err == nil && len(d.line) > 1 && d.Skip(' ') {
		flags = addFlag(flags, d.Flag())
	}
	return flags
}

func addFlag(flags []imap.Flag, f imap.Flag) []imap.Flag {
	for _, g := range flags {
		if strings.EqualFold(string(f), string(g)) {
			return flags
		}
	}
	return append(flags, f)
}
