package krb5

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"dirpost/directory"
	"dirpost/internal/gssapi"
	"dirpost/internal/testenv"
)

// client is a person with a password in a realm.
func client(t testing.TB, r *testenv.Realm, name string) *gssapi.Initiator {
	t.Helper()
	i, err := gssapi.NewInitiator(gssapi.Account{Principal: name, Realm: r.Name, Password: name, KDCs: []string{r.KDC}})
	if err != nil {
		t.Fatal(err)
	}
	return i
}

func begin(t testing.TB, i *gssapi.Initiator, service, host string) *gssapi.Exchange {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	x, err := i.Initiate(ctx, service, host)
	if err != nil {
		t.Fatal(err)
	}
	return x
}

// talk is the client's side of RFC 4752 up to its choice, which it changes.
func talk(x *Exchange, e *gssapi.Exchange, choice []byte) error {
	reply, done, err := x.Next(e.Token)
	if err != nil || done {
		return err
	}
	c, err := e.Complete(reply)
	if err != nil {
		return err
	}
	offer, done, err := x.Next([]byte{})
	if err != nil || done {
		return err
	}
	p, sealed, err := c.Open(offer)
	if err != nil || sealed || !slices.Equal(p, []byte{1, 0, 0, 0}) {
		return errors.Join(err, errors.New("the offer is not layer none"))
	}
	token, err := c.Sign(choice)
	if err != nil {
		return err
	}
	if challenge, done, err := x.Next(token); err != nil || !done || challenge != nil {
		return errors.Join(err, errors.New("not done"))
	}
	return nil
}

// TestExchange: tickets of a real KDC, with keys that change.
func TestExchange(t *testing.T) {
	t.Parallel()
	r := testenv.StartRealm(t, "CORP.EXAMPLE")
	r.AddPerson(t, "alice")
	services := []string{"imap/mail.corp.example", "pop/mail.corp.example", "HTTP/mail.corp.example"}
	first := r.Keytab(t, services...)
	a := New(Config{})
	if a.Offers("imap", Channel{}) {
		t.Error("offered without a key")
	}
	if err := a.SetKeytab("", first); err != nil {
		t.Fatal(err)
	}
	for protocol, want := range map[string]bool{"imap": true, "pop3": true, "http": true, "smtp": false, "managesieve": false, "lmtp": false} {
		if a.Offers(protocol, Channel{}) != want {
			t.Errorf("%s: offered %v", protocol, !want)
		}
	}
	who := client(t, r, "alice")
	for _, tt := range []struct {
		name, protocol, service string
		choice                  []byte
		want                    error
		authzid                 string
	}{
		{"itself", "imap", "imap", []byte{1, 0, 0, 0}, nil, ""},
		{"by name", "pop3", "pop", append([]byte{1, 0, 0, 0}, "alice@corp.example"...), nil, "alice@corp.example"},
		{"a layer", "imap", "imap", []byte{4, 0, 0, 0}, ErrMalformed, ""},
		{"too short", "imap", "imap", []byte{1}, ErrMalformed, ""},
		{"no text", "imap", "imap", []byte{1, 0, 0, 0, 0xff}, ErrMalformed, ""},
		{"a zero", "imap", "imap", []byte{1, 0, 0, 0, 'a', 0}, ErrMalformed, ""},
	} {
		x := a.Begin(tt.protocol, Channel{})
		if challenge, done, err := x.Next(nil); challenge == nil || len(challenge) != 0 || done || err != nil {
			t.Fatalf("without an initial response: %q %v %v", challenge, done, err)
		}
		err := talk(x, begin(t, who, tt.service, "mail.corp.example"), tt.choice)
		if !errors.Is(err, tt.want) || tt.want == nil && (x.Peer().String() != "alice@CORP.EXAMPLE" || x.Authzid() != tt.authzid) {
			t.Errorf("%s: %v, %+v, %q", tt.name, err, x.Peer(), x.Authzid())
		}
		if _, _, err := x.Next([]byte{}); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: goes on after its end: %v", tt.name, err)
		}
	}
	flaw := func(err error) gssapi.Flaw {
		if e, ok := errors.AsType[*gssapi.TokenError](err); ok {
			return e.Flaw
		}
		return ""
	}
	old := begin(t, who, "imap", "mail.corp.example")
	if _, _, err := a.Begin("pop3", Channel{}).Next(old.Token); flaw(err) != gssapi.FlawService {
		t.Errorf("ticket for another service: %v", err)
	}
	// The keys change: with the old ones in the keytab, tickets of before are good.
	second := r.Keytab(t, services...)
	if err := a.SetKeytab("", second); err != nil {
		t.Fatal(err)
	}
	if _, _, err := a.Begin("imap", Channel{}).Next(old.Token); flaw(err) != gssapi.FlawKey {
		t.Errorf("the old key is gone: %v", err)
	}
	if err := a.SetKeytab("corp", first); err != nil {
		t.Fatal(err)
	}
	if err := talk(a.Begin("imap", Channel{}), old, []byte{1, 0, 0, 0}); err != nil {
		t.Errorf("the old key is there: %v", err)
	}
	if _, _, err := a.Begin("imap", Channel{}).Next(old.Token); flaw(err) != gssapi.FlawReplay {
		t.Errorf("the same token twice: %v", err)
	}
	if err := talk(a.Begin("imap", Channel{}), begin(t, client(t, r, "alice"), "imap", "mail.corp.example"), []byte{1, 0, 0, 0}); err != nil {
		t.Errorf("the new key: %v", err)
	}
	x := a.Begin("imap", Channel{})
	e := begin(t, client(t, r, "alice"), "imap", "mail.corp.example")
	if _, _, err := x.Next(e.Token); err != nil {
		t.Fatal(err)
	}
	if _, _, err := x.Next(e.Token); !errors.Is(err, ErrMalformed) {
		t.Errorf("an answer to the proof: %v", err)
	}
	if err := a.SetKeytab("", []byte("nonsense")); err == nil || !a.Offers("imap", Channel{}) {
		t.Errorf("a bad keytab: %v", err)
	}
}

func person(name, directoryName, sid string, logins ...string) *directory.Entry {
	return &directory.Entry{
		Key: directory.Key(directoryName + ":" + name), Directory: directoryName, DN: "uid=" + name + ",dc=" + directoryName,
		Kind: directory.KindPerson, Logins: logins, SID: sid,
	}
}

// TestEntry: whose a ticket is says its SID, and else only a rule.
func TestEntry(t *testing.T) {
	t.Parallel()
	live := directory.Open(directory.Rules{})
	var changes []directory.Change
	for _, e := range []*directory.Entry{
		person("alice", "corp", "S-1-5-21-1-2-3-1001", "alice", "alice@corp.example"),
		person("bob", "corp", "S-1-5-21-1-2-3-1002", "bob", "alice@example.com"),
		person("carol", "open", "", "carol", "carol@open.example"),
		person("müller", "open", "", "müller"),
		person("trusted", "open", "S-1-5-21-9-9-9-1001", "trusted"),
	} {
		changes = append(changes, directory.Change{Key: e.Key, Entry: e})
	}
	live.Apply(1, changes)
	s := live.Snapshot()
	rules := []Realm{{Name: "open.example", Login: LoginName, Directory: "open"}, {Name: "UPN.EXAMPLE", Login: LoginUPN}, {Name: "MAIL.EXAMPLE", Login: "@example.com"}, {Name: "CORP.EXAMPLE", Login: LoginName}}
	tests := []struct {
		name  string
		rules []Realm
		peer  gssapi.Peer
		want  string // key, "" for nobody
		text  string // part of the error
	}{
		{"SID", nil, gssapi.Peer{Principal: "ALICE", Realm: "CORP.EXAMPLE", SID: "S-1-5-21-1-2-3-1001"}, "corp:alice", ""},
		{"the SID counts, and not the name", rules, gssapi.Peer{Principal: "bob", Realm: "CORP.EXAMPLE", SID: "S-1-5-21-1-2-3-1001"}, "corp:alice", ""},
		{"SID of a trusted domain", nil, gssapi.Peer{Principal: "whoever", Realm: "OTHER.EXAMPLE", SID: "S-1-5-21-9-9-9-1001", Unchecked: true}, "open:trusted", ""},
		{"SID of nobody", nil, gssapi.Peer{Principal: "alice", Realm: "CORP.EXAMPLE", SID: "S-1-5-21-1-2-3-9"}, "", "no entry has the SID"},
		{"SID of nobody, and a name of somebody", rules, gssapi.Peer{Principal: "alice", Realm: "CORP.EXAMPLE", SID: "S-1-5-21-1-2-3-9"}, "", "another SID"},
		{"SID where the directory has none", rules, gssapi.Peer{Principal: "carol", Realm: "OPEN.EXAMPLE", SID: "S-1-5-21-1-2-3-9"}, "open:carol", ""},
		{"no SID, no rule", nil, gssapi.Peer{Principal: "carol", Realm: "OPEN.EXAMPLE"}, "", "no [[auth.kerberos.realm]] says"},
		{"name", rules, gssapi.Peer{Principal: "carol", Realm: "OPEN.EXAMPLE"}, "open:carol", ""},
		{"beyond ASCII", rules, gssapi.Peer{Principal: "müller", Realm: "OPEN.EXAMPLE"}, "open:müller", ""},
		{"name in another directory", rules, gssapi.Peer{Principal: "alice", Realm: "OPEN.EXAMPLE"}, "", "which nobody is"},
		{"name of another realm", rules, gssapi.Peer{Principal: "carol", Realm: "OTHER.EXAMPLE"}, "", "does not say its SID"},
		{"a realm in another case", rules, gssapi.Peer{Principal: "carol", Realm: "open.example"}, "open:carol", ""},
		{"by realms in between", rules, gssapi.Peer{Principal: "carol", Realm: "OPEN.EXAMPLE", Unchecked: true}, "", "has not checked"},
		{"UPN", []Realm{{Name: "corp.example", Login: LoginUPN}}, gssapi.Peer{Principal: "alice", Realm: "CORP.EXAMPLE"}, "corp:alice", ""},
		{"domain", rules, gssapi.Peer{Principal: "alice", Realm: "MAIL.EXAMPLE"}, "corp:bob", ""},
		{"another case is another principal", rules, gssapi.Peer{Principal: "Carol", Realm: "OPEN.EXAMPLE"}, "", "lower case"},
		{"second account", rules, gssapi.Peer{Principal: "carol/admin", Realm: "OPEN.EXAMPLE"}, "", "not the name of a person"},
		{"name with a domain", rules, gssapi.Peer{Principal: "carol@open.example", Realm: "OPEN.EXAMPLE"}, "", "not the name of a person"},
		{"name with a domain before it", rules, gssapi.Peer{Principal: `CORP\alice`, Realm: "OPEN.EXAMPLE"}, "", "not the name of a person"},
		{"no name", rules, gssapi.Peer{Realm: "OPEN.EXAMPLE"}, "", "not the name of a person"},
	}
	for _, tt := range tests {
		e, err := New(Config{Realms: tt.rules}).Entry(s, &tt.peer)
		switch {
		case tt.want == "" && (!errors.Is(err, ErrUnknown) || !strings.Contains(err.Error(), tt.text)):
			t.Errorf("%s: %v, %v, want %q", tt.name, e, err, tt.text)
		case tt.want != "" && (err != nil || string(e.Key) != tt.want):
			t.Errorf("%s: %v, %v", tt.name, e, err)
		}
	}
}

// TestTrust: people of a second real realm come in with tickets that both KDCs have
// made, and are who a rule says, or nobody.
func TestTrust(t *testing.T) {
	t.Parallel()
	corp, other := testenv.StartRealm(t, "CORP.EXAMPLE"), testenv.StartRealm(t, "OTHER.EXAMPLE")
	corp.Trust(t, other)
	other.AddPerson(t, "alice")
	corp.AddPerson(t, "alice")
	keytab := corp.Keytab(t, "HTTP/mail.corp.example")
	live := directory.Open(directory.Rules{})
	live.Apply(1, []directory.Change{
		{Key: "corp:alice", Entry: person("alice", "corp", "", "alice")},
		{Key: "other:alice", Entry: person("alice", "other", "", "alice@other.example")},
	})
	kdcs := map[string]string{corp.Name: corp.KDC, other.Name: other.KDC}
	for _, tt := range []struct {
		who, want string
		rules     []Realm
	}{
		{"alice@CORP.EXAMPLE", "corp:alice", []Realm{{Name: "CORP.EXAMPLE", Login: LoginName}}},
		{"alice@OTHER.EXAMPLE", "", []Realm{{Name: "CORP.EXAMPLE", Login: LoginName}}},
		{"alice@OTHER.EXAMPLE", "other:alice", []Realm{{Name: "CORP.EXAMPLE", Login: LoginName}, {Name: "OTHER.EXAMPLE", Login: LoginUPN, Directory: "other"}}},
	} {
		a := New(Config{Realms: tt.rules})
		if err := a.SetKeytab("", keytab); err != nil {
			t.Fatal(err)
		}
		peer := browse(t, a, testenv.KerberosLogin(t, kdcs, tt.who, "alice"))
		e, err := a.Entry(live.Snapshot(), peer)
		if peer.String() != tt.who || peer.Home != "CORP.EXAMPLE" || (err == nil) != (tt.want != "") || err == nil && string(e.Key) != tt.want {
			t.Errorf("%s: %+v, %v, %v", tt.who, peer, e, err)
		}
	}
}

// TestEncryptionTypes: keys of all types that a realm of today may have, with the
// cryptography of others.
func TestEncryptionTypes(t *testing.T) {
	t.Parallel()
	r := testenv.StartRealm(t, "CORP.EXAMPLE")
	r.AddPerson(t, "alice")
	env := testenv.KerberosLogin(t, map[string]string{r.Name: r.KDC}, "alice@CORP.EXAMPLE", "alice")
	for _, etype := range []string{"aes128-cts-hmac-sha1-96", "aes256-cts-hmac-sha1-96", "aes128-cts-hmac-sha256-128", "aes256-cts-hmac-sha384-192"} {
		a := New(Config{})
		if err := a.SetKeytab("", r.KeytabOf(t, etype, "HTTP/mail.corp.example", "imap/mail.corp.example")); err != nil {
			t.Fatal(err)
		}
		// A ticket for the key before is in the cache of credentials.
		fresh := append(slices.Clone(env), "KRB5CCNAME=FILE:"+copyFile(t, strings.TrimPrefix(env[1], "KRB5CCNAME=FILE:")))
		if peer := browse(t, a, fresh); peer.String() != "alice@CORP.EXAMPLE" {
			t.Errorf("%s: %v", etype, peer)
		}
		speak(t, a, fresh)
	}
}

// TestNamesBeyondASCII: RFC 4120 §5.2.1 has no letters but those of ASCII, and every
// KDC sends UTF-8.
func TestNamesBeyondASCII(t *testing.T) {
	t.Parallel()
	r := testenv.StartRealm(t, "CORP.EXAMPLE")
	r.AddPerson(t, "müller王")
	a := New(Config{Realms: []Realm{{Name: "CORP.EXAMPLE", Login: LoginName}}})
	if err := a.SetKeytab("", r.Keytab(t, "HTTP/mail.corp.example")); err != nil {
		t.Fatal(err)
	}
	peer := browse(t, a, testenv.KerberosLogin(t, map[string]string{r.Name: r.KDC}, "müller王@CORP.EXAMPLE", "müller王"))
	live := directory.Open(directory.Rules{})
	live.Apply(1, []directory.Change{{Key: "corp:m", Entry: person("m", "corp", "", "müller王")}})
	if e, err := a.Entry(live.Snapshot(), peer); err != nil || e.Key != "corp:m" {
		t.Errorf("%q: %v, %v", peer, e, err)
	}
}

func TestValidate(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		realms []Realm
		ok     bool
	}{
		{nil, true},
		{[]Realm{{Name: "A", Login: "name"}, {Name: "B", Login: "upn"}, {Name: "C", Login: "@c.example"}}, true},
		{[]Realm{{Name: "A", Login: "name"}, {Name: "a", Login: "upn"}}, false},
		{[]Realm{{Name: "", Login: "name"}}, false},
		{[]Realm{{Name: "alice@A", Login: "name"}}, false},
		{[]Realm{{Name: "A"}}, false},
		{[]Realm{{Name: "A", Login: "@"}}, false},
		{[]Realm{{Name: "A", Login: "c.example"}}, false},
	} {
		if err := (Config{Realms: tt.realms}).Validate(); (err == nil) != tt.ok {
			t.Errorf("%+v: %v", tt.realms, err)
		}
	}
}
