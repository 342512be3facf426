package directory

import (
	"testing"

	"dirpost/internal/envelope"
)

// The same person by every way to write a login name; an exact name goes first, and
// one that is not unique is nobody's however it is written.
func TestSpellings(t *testing.T) {
	t.Parallel()
	person := func(name string, logins ...string) *Entry {
		return &Entry{Key: Key("corp:" + name), Directory: "corp", DN: "cn=" + name, Kind: KindPerson, Primary: envelope.Address{Local: name, Domain: "corp.example"}, Logins: logins}
	}
	s := NewSnapshot([]string{"corp.example"}, []*Entry{
		person("alice", "alice", `corp\alice`, "alice@ad.corp.example", "alice@corp.example"),
		person("wangwei", "王伟", `corp\王伟`, "王伟@ad.corp.example"),
		person("slash", "corp/alan", "alan@branch"),
		person("alan", `corp\alan`, `branch\alan`),
		person("anna", "anna", `corp\both`),
		person("otto", "otto", `corp\both`),
		person("jose", "josé"),
	})
	for name, want := range map[string]string{
		"alice": "alice", "ALICE": "alice", " alice ": "alice", `CORP\Alice`: "alice", "CORP/alice": "alice", "alice@CORP": "alice",
		`ad.corp.example\alice`: "alice", "AD.Corp.Example/Alice": "alice", "alice@ad.corp.example": "alice", "alice@corp.example": "alice",
		"ａｌｉｃｅ": "alice", // width, RFC 8265 §3.3.1
		"王伟":    "wangwei", `corp\王伟`: "wangwei", "corp/王伟": "wangwei", "王伟@corp": "wangwei", "王伟@AD.corp.example": "wangwei",
		"jose\u0301": "jose", "JOSÉ": "jose", // RFC 8265 §3.3.1: case and NFC
		"corp/alan": "slash", `corp\alan`: "alan", "alan@branch": "slash", `branch/alan`: "alan",
		`corp\both`: "", "corp/both": "", "both@corp": "", "both": "",
		`other\alice`: "", "alice@other": "", `other.example\alice`: "", `\alice`: "", "/alice": "", "alice@": "", "@corp": "", `corp\`: "", "corp/": "",
		`corp\corp\alice`: "", `..\alice`: "", "jose": "",
	} {
		got := s.ByLogin(name)
		if want == "" && got != nil || want != "" && (got == nil || got.Key != Key("corp:"+want)) {
			t.Errorf("%q: %v, want %q", name, got, want)
		}
	}
}

// FuzzByLogin: whoever is found has the name as it was typed, or in its other
// spelling, which is one of DOMAIN\user and user@domain.
func FuzzByLogin(f *testing.F) {
	for _, name := range []string{"alice", `CORP\alice`, "corp/alice", "alice@corp", "alice@corp.example", `corp.example\alice`, "xn--/a", "@/\\@", "王伟@例.example", "a\x00b", "\xff", "ａ/ｂ"} {
		f.Add(name)
	}
	s := NewSnapshot([]string{"corp.example"}, []*Entry{{
		Key: "corp:alice", Directory: "corp", Kind: KindPerson, Primary: envelope.Address{Local: "alice", Domain: "corp.example"},
		Logins: []string{"alice", `corp\alice`, "alice@corp.example", "王伟", `corp\王伟`},
	}})
	f.Fuzz(func(t *testing.T, name string) {
		folded := FoldLogin(name)
		other := otherSpelling(folded)
		if other != "" && other == folded {
			t.Errorf("%q is its own other spelling", other)
		}
		if e := s.ByLogin(name); e != nil && !e.has(byLogin, folded) && !e.has(byLogin, other) {
			t.Errorf("%q finds %s", name, e.Key)
		}
	})
}
