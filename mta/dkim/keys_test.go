package dkim

import (
	"bytes"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"dirpost/internal/envelope"
	"dirpost/internal/message"
	"dirpost/internal/postgres"
	"dirpost/internal/seal"
	"dirpost/internal/testenv"
)

// node returns the keys of db as a node with that sealing key has them, and a
// way to let time pass.
func node(t testing.TB, db *postgres.DB, key []byte) (*Keys, func(time.Duration)) {
	t.Helper()
	s, err := seal.New(key)
	if err != nil {
		t.Fatal(err)
	}
	clock := now
	return New(db, s, func() time.Time { return clock }), func(d time.Duration) { clock = clock.Add(d) }
}

func create(t testing.TB, k *Keys, selector string, a Algorithm) Key {
	t.Helper()
	key, err := k.Create(t.Context(), "Corp.Example", selector, a)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// signatures signs a message for domain and returns it with its signatures.
func signatures(t testing.TB, k *Keys, domain string) string {
	t.Helper()
	fields, err := k.Sign(t.Context(), domain, message.ParseHeader([]byte(testHeader)), strings.NewReader(testBody))
	if err != nil {
		t.Fatal(err)
	}
	return string(fields) + testHeader + testBody
}

func TestKeys(t *testing.T) {
	t.Parallel()
	db, secret := testenv.Database(t), seal.GenerateKey()
	k, _ := node(t, db, secret)
	if msg := signatures(t, k, "corp.example"); msg != testHeader+testBody {
		t.Errorf("signed without a key: %q", msg)
	}
	first := create(t, k, "r1", RSA)
	if !first.Signs() || first.Domain != "corp.example" {
		t.Errorf("the first key is %+v", first)
	}
	if err := verify(signatures(t, k, "CORP.example"), first); err != nil {
		t.Error(err)
	}
	ed := create(t, k, "e1", Ed25519)
	if err := verify(signatures(t, k, "corp.example"), first, ed); err != nil {
		t.Error(err)
	}
	// A second key waits until its record is in DNS.
	second := create(t, k, "r2", RSA)
	if second.Signs() {
		t.Error("the second key signs at once")
	}
	if err := verify(signatures(t, k, "corp.example"), first, ed); err != nil {
		t.Error(err)
	}
	if err := k.Activate(t.Context(), "corp.example", "R2"); err != nil {
		t.Fatal(err)
	}
	if err := verify(signatures(t, k, "corp.example"), second, ed); err != nil {
		t.Error(err)
	}
	if err := k.Retire(t.Context(), "corp.example", "e1"); err != nil {
		t.Fatal(err)
	}
	if err := verify(signatures(t, k, "corp.example"), second); err != nil {
		t.Error(err)
	}
	list, err := k.List(t.Context(), "corp.example")
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, key := range list {
		state := "waits"
		switch {
		case key.Signs():
			state = "signs"
		case !key.Retired.IsZero():
			state = "retired"
		}
		got = append(got, key.Selector+" "+state)
	}
	if s := strings.Join(got, ", "); s != "r1 retired, e1 retired, r2 signs" {
		t.Errorf("keys: %s", s)
	}
	// A key that was retired can come back.
	if err := k.Activate(t.Context(), "corp.example", "r1"); err != nil {
		t.Fatal(err)
	}
	if err := verify(signatures(t, k, "corp.example"), first); err != nil {
		t.Error(err)
	}
}

func TestKeyErrors(t *testing.T) {
	t.Parallel()
	k, _ := node(t, testenv.Database(t), seal.GenerateKey())
	create(t, k, "s1", Ed25519)
	for _, tt := range []struct {
		name, domain, selector string
		algorithm              Algorithm
		want                   error
	}{
		{"same selector", "corp.example", "S1", RSA, ErrExists},
		{"algorithm", "corp.example", "s2", "rsa-sha1", ErrAlgorithm},
		{"selector", "corp.example", "a;b", Ed25519, ErrSelector},
		{"no selector", "corp.example", "", Ed25519, ErrSelector},
		{"empty label", "corp.example", "a..b", Ed25519, ErrSelector},
		{"domain", "corp example", "s2", Ed25519, envelope.ErrSyntax},
		{"literal", "[192.0.2.1]", "s2", Ed25519, envelope.ErrSyntax},
	} {
		if _, err := k.Create(t.Context(), tt.domain, tt.selector, tt.algorithm); !errors.Is(err, tt.want) {
			t.Errorf("%s: %v, want %v", tt.name, err, tt.want)
		}
	}
	if err := k.Activate(t.Context(), "corp.example", "s9"); !errors.Is(err, ErrNotFound) {
		t.Errorf("Activate: %v, want %v", err, ErrNotFound)
	}
	if err := k.Retire(t.Context(), "corp.example", "s9"); !errors.Is(err, ErrNotFound) {
		t.Errorf("Retire: %v, want %v", err, ErrNotFound)
	}
	if fields, err := k.Sign(t.Context(), "no domain", message.Header{}, strings.NewReader("")); fields != nil || err != nil {
		t.Errorf("Sign for what is no domain: %q, %v", fields, err)
	}
}

// The database alone does not give the key away, and another sealing key is a
// temporary error.
func TestKeysAreSealed(t *testing.T) {
	t.Parallel()
	db := testenv.Database(t)
	k, _ := node(t, db, seal.GenerateKey())
	create(t, k, "s1", Ed25519)
	var sealed []byte
	if err := db.QueryRow(t.Context(), postgres.Interactive, `select private_key from dkim_key`).Scan(&sealed); err != nil {
		t.Fatal(err)
	}
	if _, err := parsePrivate(Ed25519, sealed); err == nil {
		t.Error("the key stands in the database as it is")
	}
	if _, err := db.Exec(t.Context(), postgres.Interactive, `update dkim_key set selector = 's2'`); err != nil {
		t.Fatal(err)
	}
	for name, key := range map[string][]byte{"moved row": nil, "other sealing key": seal.GenerateKey()} {
		other := k
		if key != nil {
			other, _ = node(t, db, key)
		}
		_, err := other.Sign(t.Context(), "corp.example", message.ParseHeader([]byte(testHeader)), strings.NewReader(testBody))
		if err == nil || !envelope.StatusOf(err).IsTemporary() {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Another node signs with a new key within a minute.
func TestKeysOnOtherNodes(t *testing.T) {
	t.Parallel()
	db, secret := testenv.Database(t), seal.GenerateKey()
	a, _ := node(t, db, secret)
	b, pass := node(t, db, secret)
	if msg := signatures(t, b, "corp.example"); msg != testHeader+testBody {
		t.Errorf("signed without a key: %q", msg)
	}
	key := create(t, a, "s1", Ed25519)
	pass(keysFor)
	if err := verify(signatures(t, b, "corp.example"), key); err != nil {
		t.Error(err)
	}
}

// Of keys made at once exactly one signs.
func TestCreateAtOnce(t *testing.T) {
	t.Parallel()
	db := testenv.Database(t)
	k, _ := node(t, db, seal.GenerateKey())
	var wg sync.WaitGroup
	for _, selector := range []string{"a", "b", "c", "d"} {
		wg.Go(func() {
			if _, err := k.Create(t.Context(), "corp.example", selector, Ed25519); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	list, err := k.List(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	signing := 0
	for _, key := range list {
		if key.Signs() {
			signing++
		}
	}
	if len(list) != 4 || signing != 1 {
		t.Errorf("%d keys, %d sign", len(list), signing)
	}
}

// A body that cannot be read is an error, never a signature over half of it.
func TestSignBrokenBody(t *testing.T) {
	t.Parallel()
	k, _ := node(t, testenv.Database(t), seal.GenerateKey())
	create(t, k, "s1", Ed25519)
	fail := errors.New("database away")
	fields, err := k.Sign(t.Context(), "corp.example", message.ParseHeader([]byte(testHeader)), failingReader{fail})
	if !errors.Is(err, fail) || fields != nil {
		t.Errorf("Sign = %q, %v, want %v", fields, err, fail)
	}
	h := NewBodyHash()
	h.Write([]byte(testBody))
	whole, err := k.SignHash(t.Context(), "corp.example", message.ParseHeader([]byte(testHeader)), h.Sum())
	if err != nil || !bytes.HasPrefix(whole, []byte("DKIM-Signature: ")) {
		t.Errorf("SignHash = %q, %v", whole, err)
	}
}

type failingReader struct{ err error }

func (f failingReader) Read([]byte) (int, error) { return 0, f.err }
