package wire

import (
	"time"

	"github.com/emersion/go-imap/v2"
)

// SearchOp says what a SearchKey asks.
type SearchOp uint8

// The operations, with the fields of SearchKey that belong to them.
const (
	SearchAll         SearchOp = iota
	SearchAnd                  // Keys
	SearchOr                   // Keys, two
	SearchNot                  // Keys, one
	SearchSeq                  // Set, of message sequence numbers or Saved
	SearchUID                  // Set
	SearchFlag                 // Flag
	SearchRecent               // the \Recent flag of the session
	SearchHeader               // Field, Text; "" asks whether the field is there
	SearchBody                 // Text
	SearchText                 // Text
	SearchLarger               // Number
	SearchSmaller              // Number
	SearchBefore               // Date: internal date earlier
	SearchOn                   // Date
	SearchSince                // Date: internal date that day or later
	SearchSentBefore           // Date: Date field, disregarding its zone
	SearchSentOn               // Date
	SearchSentSince            // Date
	SearchOlder                // Number: seconds (RFC 5032 §2)
	SearchYounger              // Number
	SearchModSeq               // Number (RFC 7162 §3.1.5)
	SearchSavedBefore          // Date (RFC 8514 §4.3)
	SearchSavedOn              // Date
	SearchSavedSince           // Date
	SearchEmailID              // Text (RFC 8474 §6)
	SearchThreadID             // Text
)

// SearchKey is a node of a search program. Several keys after each other are
// the Keys of a SearchAnd, in the order of the client.
type SearchKey struct {
	Op     SearchOp
	Set    Set
	Flag   imap.Flag
	Field  string
	Text   string // in the charset of the program
	Number int64
	Date   time.Time // midnight UTC
	Keys   []SearchKey
}

// SearchReturn says what SEARCH returns (RFC 4731 §3.1, RFC 5182 §2). Zero asks
// for the untagged SEARCH response.
type SearchReturn uint8

// The result options.
const (
	ReturnMin SearchReturn = 1 << iota
	ReturnMax
	ReturnAll
	ReturnCount
	ReturnSave
	// ReturnExtended says that RETURN was given, which asks for ESEARCH.
	ReturnExtended
)

// Search is the arguments of SEARCH.
type Search struct {
	Return  SearchReturn
	Charset string // upper case, "" if absent
	Key     SearchKey
}

// MaxSearchDepth bounds the nesting of a search program.
const MaxSearchDepth = 64

// Search takes the arguments of SEARCH (RFC 9051 §6.4.4): result options, then
// the charset, then the keys.
func (d *Decoder) Search() *Search {
	s := &Search{Key: SearchKey{Op: SearchAnd}}
	name := d.keyName()
	if name == "RETURN" {
		d.Space()
		s.Return = d.SearchReturn()
		d.Space()
		name = d.keyName()
	}
	if name == "CHARSET" {
		d.Space()
		cs := []byte(d.AString())
		upper(cs)
		s.Charset = string(cs)
		d.Space()
		name = d.keyName()
	}
	s.Key.Keys = append(s.Key.Keys, d.searchKey(name, 0))
	for d.err == nil && len(d.line) > 0 && !allSpaces(d.line) {
		d.Space()
		s.Key.Keys = append(s.Key.Keys, d.searchKey(d.keyName(), 0))
	}
	return s
}

func allSpaces(b []byte) bool {
	for _, c := range b {
		if c != ' ' {
			return false
		}
	}
	return true
}

// keyName takes the name of a search key, "" if what is next is none.
func (d *Decoder) keyName() string {
	if c := d.Peek() | 0x20; c < 'a' || c > 'z' {
		return ""
	}
	return string(d.Word())
}

// SearchReturn takes the result options of SEARCH, a list in parentheses. The
// empty list means ALL (RFC 4731 §3.1).
func (d *Decoder) SearchReturn() SearchReturn {
	r := ReturnExtended
	d.List(func() {
		switch string(d.Word()) {
		case "MIN":
			r |= ReturnMin
		case "MAX":
			r |= ReturnMax
		case "ALL":
			r |= ReturnAll
		case "COUNT":
			r |= ReturnCount
		case "SAVE":
			r |= ReturnSave
		default:
			d.Fail("unknown result option")
		}
	})
	if r == ReturnExtended {
		r |= ReturnAll
	}
	return r
}

// searchKey takes the rest of the key called name; name is "" for a set or a
// list.
func (d *Decoder) searchKey(name string, depth int) SearchKey {
	if depth > MaxSearchDepth {
		d.Fail("search program nested too deep")
	}
	if d.err != nil {
		return SearchKey{}
	}
	if name == "" {
		if d.Peek() != '(' {
			return SearchKey{Op: SearchSeq, Set: d.Set()}
		}
		k := SearchKey{Op: SearchAnd}
		d.List(func() { k.Keys = append(k.Keys, d.searchKey(d.keyName(), depth+1)) })
		if d.err == nil && len(k.Keys) == 0 {
			d.Fail("empty list of search keys")
		}
		return k
	}
	if k, ok := flagKey(name); ok {
		return k
	}
	switch name {
	case "ALL":
		return SearchKey{}
	case "NOT":
		return SearchKey{Op: SearchNot, Keys: d.subKeys(1, depth)}
	case "OR":
		return SearchKey{Op: SearchOr, Keys: d.subKeys(2, depth)}
	case "FUZZY": // RFC 6203 §3: a hint that exact matching satisfies
		return d.subKeys(1, depth)[0]
	}
	d.Space()
	return d.argumentKey(name)
}

func (d *Decoder) subKeys(n, depth int) []SearchKey {
	keys := make([]SearchKey, n)
	for i := range keys {
		d.Space()
		keys[i] = d.searchKey(d.keyName(), depth+1)
	}
	return keys
}

func not(k SearchKey) SearchKey { return SearchKey{Op: SearchNot, Keys: []SearchKey{k}} }

// flagKey returns the keys without arguments that ask for flags.
func flagKey(name string) (SearchKey, bool) {
	has := func(f imap.Flag) SearchKey { return SearchKey{Op: SearchFlag, Flag: f} }
	switch name {
	case "ANSWERED":
		return has(imap.FlagAnswered), true
	case "DELETED":
		return has(imap.FlagDeleted), true
	case "DRAFT":
		return has(imap.FlagDraft), true
	case "FLAGGED":
		return has(imap.FlagFlagged), true
	case "SEEN":
		return has(imap.FlagSeen), true
	case "UNANSWERED":
		return not(has(imap.FlagAnswered)), true
	case "UNDELETED":
		return not(has(imap.FlagDeleted)), true
	case "UNDRAFT":
		return not(has(imap.FlagDraft)), true
	case "UNFLAGGED":
		return not(has(imap.FlagFlagged)), true
	case "UNSEEN":
		return not(has(imap.FlagSeen)), true
	case "RECENT":
		return SearchKey{Op: SearchRecent}, true
	case "OLD":
		return not(SearchKey{Op: SearchRecent}), true
	case "NEW":
		return SearchKey{Op: SearchAnd, Keys: []SearchKey{{Op: SearchRecent}, not(has(imap.FlagSeen))}}, true
	case "SAVEDATESUPPORTED": // RFC 8514 §4.3: it is, in every mailbox
		return SearchKey{}, true
	}
	return SearchKey{}, false
}

// argumentKey takes the argument of the key called name.
func (d *Decoder) argumentKey(name string) SearchKey {
	switch name {
	case "BCC", "CC", "FROM", "SUBJECT", "TO":
		return SearchKey{Op: SearchHeader, Field: name, Text: d.AString()}
	case "HEADER":
		field := d.AString()
		d.Space()
		return SearchKey{Op: SearchHeader, Field: field, Text: d.AString()}
	case "BODY":
		return SearchKey{Op: SearchBody, Text: d.AString()}
	case "TEXT":
		return SearchKey{Op: SearchText, Text: d.AString()}
	case "KEYWORD":
		return SearchKey{Op: SearchFlag, Flag: imap.Flag(d.Atom())}
	case "UNKEYWORD":
		return not(SearchKey{Op: SearchFlag, Flag: imap.Flag(d.Atom())})
	case "LARGER":
		return SearchKey{Op: SearchLarger, Number: d.Number63()}
	case "SMALLER":
		return SearchKey{Op: SearchSmaller, Number: d.Number63()}
	case "UID":
		return SearchKey{Op: SearchUID, Set: d.Set()}
	case "OLDER":
		return SearchKey{Op: SearchOlder, Number: d.interval()}
	case "YOUNGER":
		return SearchKey{Op: SearchYounger, Number: d.interval()}
	case "MODSEQ":
		return d.modSeqKey()
	case "EMAILID":
		return SearchKey{Op: SearchEmailID, Text: d.Atom()}
	case "THREADID":
		return SearchKey{Op: SearchThreadID, Text: d.Atom()}
	}
	if op, ok := dateOp(name); ok {
		return SearchKey{Op: op, Date: d.Date()}
	}
	d.Fail("unknown search key")
	return SearchKey{}
}

func dateOp(name string) (SearchOp, bool) {
	switch name {
	case "BEFORE":
		return SearchBefore, true
	case "ON":
		return SearchOn, true
	case "SINCE":
		return SearchSince, true
	case "SENTBEFORE":
		return SearchSentBefore, true
	case "SENTON":
		return SearchSentOn, true
	case "SENTSINCE":
		return SearchSentSince, true
	case "SAVEDBEFORE":
		return SearchSavedBefore, true
	case "SAVEDON":
		return SearchSavedOn, true
	case "SAVEDSINCE":
		return SearchSavedSince, true
	}
	return 0, false
}

// interval takes a number of seconds, not 0 (RFC 5032 §4).
func (d *Decoder) interval() int64 {
	n := d.Number()
	if d.err == nil && n == 0 {
		d.Fail("interval must not be 0")
	}
	return int64(n)
}

// modSeqKey takes [entry-name SP entry-type-req SP] mod-sequence-valzer; the
// entry is ignored, since there is one modification sequence a message
// (RFC 7162 §3.1.5).
func (d *Decoder) modSeqKey() SearchKey {
	if d.Peek() == '"' {
		d.quoted()
		d.Space()
		switch string(d.Word()) {
		case "ALL", "PRIV", "SHARED":
		default:
			d.Fail("unknown entry type")
		}
		d.Space()
	}
	return SearchKey{Op: SearchModSeq, Number: d.Number63()}
}
