package oauth

import (
	"encoding/base64"
	"encoding/hex"
	"slices"
	"strings"

	"dirpost/directory"
	"dirpost/internal/envelope"
)

// Person returns the entry that t is about, nil if nobody in the directories of its
// issuer is, or it cannot be told who.
func (t *Token) Person(s *directory.Snapshot) *directory.Entry {
	c := t.issuer.c
	var e *directory.Entry
	switch c.Match {
	case MatchID:
		e = byID(s, c.Directories, t.Name)
	case MatchSID:
		e = s.BySID(strings.ToUpper(t.Name))
	case MatchAddress:
		if a, err := envelope.ParseAddress(t.Name); err == nil {
			e = s.ByAddress(a)
		}
	default:
		e = s.ByLogin(t.Name)
	}
	if e == nil || !slices.Contains(c.Directories, e.Directory) {
		return nil
	}
	return e
}

// byID finds an entry by objectGUID or entryUUID.
func byID(s *directory.Snapshot, directories []string, id string) *directory.Entry {
	uuid := canonicalUUID(id)
	if uuid == "" {
		return nil
	}
	var found *directory.Entry
	for _, d := range directories {
		if e := s.ByKey(directory.Key(d + ":" + uuid)); e != nil && !e.IsGone() {
			if found != nil {
				return nil
			}
			found = e
		}
	}
	return found
}

// canonicalUUID takes a UUID as text, with braces or without, or the 16 octets of
// objectGUID in base64, as the source anchor of Entra Connect and claims of AD FS
// have them: there the first three fields are little-endian. "" for anything else.
func canonicalUUID(s string) string {
	s = strings.TrimSuffix(strings.TrimPrefix(s, "{"), "}")
	if b, err := base64.StdEncoding.DecodeString(s); err == nil && len(b) == 16 {
		b[0], b[1], b[2], b[3] = b[3], b[2], b[1], b[0]
		b[4], b[5] = b[5], b[4]
		b[6], b[7] = b[7], b[6]
		return dashed(b)
	}
	b, err := hex.DecodeString(strings.ReplaceAll(s, "-", ""))
	if err != nil || len(b) != 16 {
		return ""
	}
	return dashed(b)
}

func dashed(b []byte) string {
	h := hex.EncodeToString(b)
	return h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:]
}
