package directory

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"
	"time"

	"dirpost/internal/envelope"
)

func TestPack(t *testing.T) {
	t.Parallel()
	full := &Entry{
		Key: "corp:1", Directory: "corp", DN: "CN=Wáng,DC=x", Kind: KindShared, DisplayName: "王伟",
		Primary: addr("a@corp.example"), Aliases: addrs("b@corp.example", "王@corp.example"), Logins: []string{"a"},
		Login: StateLocked, Expires: time.Unix(5, 6).UTC(), Delivery: StateHeld, Quota: 1 << 40, QuotaSend: -1, QuotaWarn: 7,
		Forward: addrs("c@corp.example"), KeepCopy: true, NextHop: "h:25", Services: []string{"imap"},
		Members: []string{"cn=a", ""}, ExternalMembers: addrs("d@x.example"), Policy: ListOwners, Owners: []string{"cn=o"},
		Senders: []string{"cn=s"}, Access: []string{"cn=acc"}, SendAs: []string{"cn=sa"}, OnBehalf: []string{"cn=ob"},
		Domains: []string{"d.example"}, Hidden: true, Modified: time.Unix(1e9, 0).UTC(),
		SID: "S-1-5-21-1-2-3-1104", PrimaryGroup: "S-1-5-21-1-2-3-513", X500: []string{"/o=x/cn=a"}, Place: PlaceElsewhere,
		Moderators: []string{"cn=m"}, ForwardTo: []string{"cn=f"}, NoStrangers: true, Allowed: []string{"cn=x"}, Barred: []string{"cn=b"}, MemberLogins: []string{"a"}, Queries: []string{"ldap:///dc=x??sub?(l=y)"},
		Facts: []string{"l=y"}, MaxReceive: 1, MaxSend: 2, Former: []Former{{addr("f@corp.example"), time.Unix(2e9, 0).UTC(), time.Unix(1e9, 0).UTC()}},
		Claims: []Claim{{addr("b@corp.example"), time.Unix(1e9, 1).UTC()}}, Gone: time.Unix(3, 0).UTC(),
		Unreadable: []string{"quota"}, Origins: []string{"quota=mailQuota"}, Certificates: []string{"ski:01"},
	}
	for _, e := range append(corpEntries(), full) {
		got, err := Unpack(e.Pack())
		if err != nil {
			t.Fatalf("%s: %v", e.Key, err)
		}
		if !got.Same(e) || !e.Same(got) {
			t.Errorf("%s: not the same after Pack", e.Key)
		}
		if want := NormalizeDN(e.DN); got.normalDN() != want {
			t.Errorf("%s: normalDN %q, want %q", e.Key, got.normalDN(), want)
		}
		got.packed = ""
		if !reflect.DeepEqual(got, e) {
			t.Errorf("%s:\n got %+v\nwant %+v", e.Key, got, e)
		}
	}
	// Every field counts, so a new field that Pack forgets fails here.
	v := reflect.ValueOf(*full)
	for i := range v.NumField() {
		if f := v.Type().Field(i); f.IsExported() && v.Field(i).IsZero() {
			t.Errorf("the test entry has no %s", f.Name)
		}
	}
}

// A replica that an earlier version has written is read on: a new version must
// start while the directory is away.
func TestUnpackVersion1(t *testing.T) {
	t.Parallel()
	for _, e := range corpEntries() {
		e.SID, e.X500 = "", nil // not known to version 1
		p := e.Pack()
		var added packer
		added.version2(&Entry{})
		added.version3(&Entry{})
		added.version4(&Entry{})
		added.strs(nil) // version 5
		added.version6(&Entry{})
		if !bytes.HasSuffix(p, added) {
			t.Fatalf("%s: fields of later versions are not at the end", e.Key)
		}
		old := bytes.TrimSuffix(p, added)
		old[0] = 1
		got, err := Unpack(old)
		if err != nil {
			t.Fatalf("%s: %v", e.Key, err)
		}
		got.packed = ""
		if !reflect.DeepEqual(got, e) {
			t.Errorf("%s:\n got %+v\nwant %+v", e.Key, got, e)
		}
	}
}

// 1970 is a time, and a popular one to let accounts expire at.
func TestPackKeepsTheEpoch(t *testing.T) {
	t.Parallel()
	e, err := Unpack((&Entry{Key: "test:1", Expires: time.Unix(0, 0)}).Pack())
	if err != nil || e.LoginState(time.Now()) != StateExpired {
		t.Errorf("%+v, %v", e, err)
	}
}

func FuzzUnpack(f *testing.F) {
	for _, e := range corpEntries() {
		f.Add(e.Pack())
	}
	f.Add([]byte{1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1})
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := Unpack(b)
		if err != nil {
			return
		}
		e.packed = ""
		if _, err := Unpack(e.Pack()); err != nil {
			t.Errorf("unpacked %q, then: %v", b, err)
		}
	})
}

func TestLookups(t *testing.T) {
	t.Parallel()
	s := corp(t)
	if s.Len() != len(corpEntries()) {
		t.Errorf("Len = %d, want %d", s.Len(), len(corpEntries()))
	}
	n := 0
	for e := range s.All() {
		n++
		if got := s.ByKey(e.Key); !got.Same(e) {
			t.Errorf("ByKey(%s) = %v", e.Key, got)
		}
		if got := s.ByDN("  " + e.DN); got == nil || got.Key != e.Key {
			t.Errorf("ByDN(%s) = %v", e.DN, got)
		}
	}
	if n != s.Len() {
		t.Errorf("All yields %d of %d", n, s.Len())
	}
	for login, want := range map[string]Key{
		"ALICE": "test:alice", " alice@Corp.Example ": "test:alice", "王伟": "test:wangwei",
		"twin": "", "": "", "nobody": "", "a.example@corp.example": "", "\xff": "",
	} {
		got := s.ByLogin(login)
		if want == "" && got != nil || want != "" && (got == nil || got.Key != want) {
			t.Errorf("ByLogin(%q) = %v, want %q", login, got, want)
		}
	}
	if e := s.ByAddress(addr("twin@corp.example")); e != nil {
		t.Errorf("ByAddress(twin) = %v, want nobody", e.Key)
	}
	if e := s.BySID("S-1-5-21-1-2-3-1104"); e == nil || e.Key != "test:alice" || s.BySID("") != nil {
		t.Errorf("BySID = %v", e)
	}
	if e := s.ByX500("/O=Example/ou=Ex/CN=Recipients/cn=ALICE "); e == nil || e.Key != "test:alice" || s.ByX500("alice") != nil {
		t.Errorf("ByX500 = %v", e)
	}
	if list := s.Owners(addr("twin@corp.example")); len(list) != 2 {
		t.Errorf("Owners(twin) = %v", list)
	}
}

// A snapshot never changes, whatever is made of it.
func TestSnapshotImmutable(t *testing.T) {
	t.Parallel()
	s := corp(t)
	l := NewLive(s)
	var told []Key
	cancel := l.Watch(func(_ *Snapshot, keys []Key) { told = append(told, keys...) })
	renamed := entry(KindPerson, "alice", func(e *Entry) {
		e.DN, e.Primary, e.Logins = dn("alice brand"), addr("alice.brand@corp.example"), []string{"abrand"}
		e.Aliases = addrs("alice@corp.example")
	})
	l.Apply(2, []Change{{renamed.Key, renamed}, {"test:bob", nil}})
	cancel()
	l.Apply(3, []Change{{"test:carol", nil}})
	now := l.Snapshot()
	if s.ByLogin("alice") == nil || s.ByKey("test:bob") == nil || s.Version() != 1 || s.ByAddress(addr("a.example@corp.example")) == nil {
		t.Error("the old snapshot has changed")
	}
	if now.ByLogin("alice") != nil || now.ByLogin("abrand") == nil || now.ByAddress(addr("a.example@corp.example")) != nil ||
		now.ByDN(dn("alice")) != nil || now.ByDN(dn("Alice Brand")) == nil || now.ByKey("test:bob") != nil || now.Version() != 3 {
		t.Error("the new snapshot lacks the change")
	}
	if len(told) != 2 {
		t.Errorf("watcher was told of %v", told)
	}
	if now.Len() != s.Len()-2 {
		t.Errorf("Len = %d after two went of %d", now.Len(), s.Len())
	}
}

// Whatever sequence of changes led there, the snapshot equals one that was made
// at once from what is left.
func TestSnapshotProperty(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(1, 2))
	l := NewLive(NewSnapshot([]string{"corp.example"}, nil))
	left := map[Key]*Entry{}
	for i := range 400 {
		var changes []Change
		for range r.IntN(8) {
			key := Key(fmt.Sprintf("test:%d", r.IntN(60)))
			if r.IntN(4) == 0 {
				delete(left, key)
				changes = append(changes, Change{Key: key})
				continue
			}
			e := entry(KindPerson, fmt.Sprintf("u%d", r.IntN(80)), func(e *Entry) {
				e.Key = key
				e.Members = dns(fmt.Sprint(r.IntN(5)), fmt.Sprint(r.IntN(5)))
				e.Access = dns(fmt.Sprint(r.IntN(5)))
			})
			left[key] = e
			changes = append(changes, Change{key, e})
		}
		l.Apply(int64(i), changes)
	}
	s := l.Snapshot()
	if s.Len() != len(left) {
		t.Fatalf("Len = %d, want %d", s.Len(), len(left))
	}
	slots := 0
	for _, row := range s.shards {
		if row == nil {
			continue
		}
		for _, sh := range row {
			slots += len(sh)
		}
	}
	var entries []*Entry
	for key, e := range left {
		entries = append(entries, e)
		if !s.ByKey(key).Same(e) {
			t.Errorf("%s differs", key)
		}
	}
	fresh, want := NewSnapshot([]string{"corp.example"}, entries), 0
	for _, row := range fresh.shards {
		if row == nil {
			continue
		}
		for _, sh := range row {
			want += len(sh)
		}
	}
	if slots != want {
		t.Errorf("%d slots, want %d", slots, want)
	}
}

func TestNormalizeDN(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"uid=alice,ou=People,dc=corp,dc=example": "uid=alice,ou=people,dc=corp,dc=example",
		"UID = Alice , OU=People;DC=corp":        "uid=alice,ou=people,dc=corp",
		`cn=Doe\, John,dc=x`:                     `cn=doe\, john,dc=x`,
		`cn=Doe\2C John,dc=x`:                    `cn=doe\, john,dc=x`,
		`cn="Doe, John",dc=x`:                    `cn=doe\, john,dc=x`,
		`cn=\#1 \"best\",dc=x`:                   `cn=\#1 \"best\",dc=x`,
		`cn=王伟,dc=x`:                             `cn=王伟,dc=x`,
		`cn=\E7\8E\8B\E4\BC\9F,dc=x`:             `cn=王伟,dc=x`,
		"cn=E\u0301mile,dc=x":                    "cn=émile,dc=x",
		"cn=Émile,dc=x":                          "cn=émile,dc=x",
		"cn=a  b,dc=x":                           "cn=a b,dc=x",
		`cn=a\ ,dc=x`:                            `cn=a\ ,dc=x`,
		"cn=#0c0161,dc=x":                        "cn=a,dc=x",
		"cn=a=b,dc=x":                            "cn=a=b,dc=x",
		"cn=a+sn=B,dc=x":                         "cn=a+sn=b,dc=x",
		"":                                       "",
		"No DN":                                  "no dn",
		`cn=a\`:                                  `cn=a\`,
		`cn=Müller\, "X"+sn=y,ou=A\/B,dc=x`:      `cn=müller\, \"x\"+sn=y,ou=a/b,dc=x`,
	} {
		got := NormalizeDN(in)
		if got != want {
			t.Errorf("NormalizeDN(%q) = %q, want %q", in, got, want)
		}
		if again := NormalizeDN(got); again != got {
			t.Errorf("NormalizeDN(%q) = %q: not stable", got, again)
		}
	}
}

func FuzzNormalizeDN(f *testing.F) {
	f.Add(`cn=Doe\, John+sn="x",ou=#0c0161;dc=x`)
	f.Add(`cn=a\0ab,dc=\ x\ `)
	f.Fuzz(func(t *testing.T, dn string) {
		once := NormalizeDN(dn)
		if twice := NormalizeDN(once); twice != once {
			t.Errorf("NormalizeDN(%q) = %q, then %q", dn, once, twice)
		}
	})
}

func TestFoldLogin(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"Alice": "alice", `CORP\Alice`: `corp\alice`, "alice@CORP.example": "alice@corp.example",
		"王伟": "王伟", "ＡＬＩＣＥ": "alice", "ÉMILE": "émile", "E\u0301mile": "émile",
		"wei@例子.example": "wei@xn--fsqu00a.example", "John Smith": "john smith", "Ж Ж": "ж ж",
		"a\x00b": "", "\xff": "", "": "", "  ": "", "a\u202eb": "",
	} {
		if got := FoldLogin(in); got != want {
			t.Errorf("FoldLogin(%q) = %q, want %q", in, got, want)
		}
	}
}

// An entry is unpacked once while it stays as it is, and a change is seen at once in
// the snapshots after it, and in no snapshot before.
func TestUnpackedOnce(t *testing.T) {
	at := envelope.Address{Local: "ann", Domain: "corp.example"}
	of := func(name string) *Entry {
		return &Entry{Key: "k1", Kind: KindPerson, DisplayName: name, Primary: at, DN: "uid=ann"}
	}
	before := NewSnapshot([]string{"corp.example"}, []*Entry{of("Ann")})
	if once, again := before.ByAddress(at), before.ByAddress(at); once != again {
		t.Error("unpacked twice")
	}
	after := before.with(2, []Change{{Key: "k1", Entry: of("Ann Lee")}})
	for range 2 {
		if got := after.ByAddress(at).DisplayName; got != "Ann Lee" {
			t.Errorf("after the change: %q", got)
		}
		if got := before.ByAddress(at).DisplayName; got != "Ann" {
			t.Errorf("before the change: %q", got)
		}
	}
	group := of("Everybody")
	group.Members = slices.Repeat([]string{"uid=somebody,ou=people,dc=corp,dc=example"}, 1000)
	large := after.with(3, []Change{{Key: "k1", Entry: group}})
	if once, again := large.ByAddress(at), large.ByAddress(at); once == again {
		t.Error("a large group is kept unpacked")
	}
}
