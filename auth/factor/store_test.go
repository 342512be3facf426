package factor

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"sync"
	"testing"

	"dirpost/directory"
	"dirpost/internal/envelope"
	"dirpost/internal/postgres"
	"dirpost/internal/seal"
	"dirpost/internal/testenv"
)

const (
	origin = "https://mail.corp.example"
	host   = "mail.corp.example"
)

func newStore(t *testing.T) *Store {
	t.Helper()
	sealer, err := seal.New(seal.GenerateKey())
	if err != nil {
		t.Fatal(err)
	}
	s := New(testenv.Database(t), sealer)
	if err := s.UseKeys(Site{Host: host, Origins: []string{origin}, Name: "Corp"}); err != nil {
		t.Fatal(err)
	}
	return s
}

func person(t *testing.T, name string) *directory.Entry {
	t.Helper()
	a, err := envelope.ParseAddress(name + "@corp.example")
	if err != nil {
		t.Fatal(err)
	}
	return &directory.Entry{Key: directory.Key("corp:" + name), Primary: a, DisplayName: name}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// One code is taken once, also where it comes twice in the same moment; and what is
// in the database makes no codes.
func TestCodeOnce(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	alice := person(t, "alice").Key
	secret, pending, err := s.BeginApp(alice)
	must(t, err)
	if bytes.Contains(pending, secret) {
		t.Error("the secret is kept as it is")
	}
	if err := s.FinishApp(t.Context(), "corp:bob", "x", pending, "000000"); !errors.Is(err, ErrCode) {
		t.Errorf("enrolment of somebody else: %v", err)
	}
	step := s.db.Now().Unix() / 30
	must(t, s.FinishApp(t.Context(), alice, "phone", pending, code(secret, step, digits)))
	if err := s.FinishApp(t.Context(), alice, "phone", pending, code(secret, step, digits)); !errors.Is(err, ErrExists) {
		t.Errorf("a second app: %v", err)
	}
	next := code(secret, step+1, digits)
	var wg sync.WaitGroup
	taken := make(chan error, 8)
	for range cap(taken) {
		wg.Go(func() { taken <- s.Check(t.Context(), alice, next) })
	}
	wg.Wait()
	close(taken)
	n := 0
	for err := range taken {
		if err == nil {
			n++
		} else if !errors.Is(err, ErrCode) {
			t.Errorf("check: %v", err)
		}
	}
	if n != 1 {
		t.Errorf("one code was taken %d times", n)
	}
	var sealed []byte
	must(t, s.db.QueryRow(t.Context(), postgres.Interactive, "select sealed from auth_factor where person = $1", string(alice)).Scan(&sealed))
	if bytes.Contains(sealed, secret) {
		t.Error("the database has the secret as it is")
	}
	// A row that was moved to somebody else opens nothing.
	if _, err := s.db.Exec(t.Context(), postgres.Interactive, "update auth_factor set person = 'corp:bob'"); err != nil {
		t.Fatal(err)
	}
	if err := s.Check(t.Context(), "corp:bob", code(secret, step+1, digits)); err == nil || errors.Is(err, ErrCode) {
		t.Errorf("row of somebody else: %v", err)
	}
}

// Tries are counted before they are judged, whoever makes them at once; an hour
// later there are new ones.
func TestTriesAreBounded(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	alice := person(t, "alice").Key
	codes, err := s.NewRecovery(t.Context(), alice)
	must(t, err)
	var wg sync.WaitGroup
	var mu sync.Mutex
	judged := 0
	for range 40 {
		wg.Go(func() {
			if err := s.Check(context.Background(), alice, "123456"); errors.Is(err, ErrCode) {
				mu.Lock()
				judged++
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	if judged != maxTries {
		t.Errorf("%d codes were judged, want %d", judged, maxTries)
	}
	if err := s.Check(t.Context(), alice, codes[0]); !errors.Is(err, ErrTooMany) {
		t.Errorf("a right one after too many: %v", err)
	}
	if _, err := s.db.Exec(t.Context(), postgres.Interactive, "update auth_factor_guess set since = now() - interval '61 minutes'"); err != nil {
		t.Fatal(err)
	}
	must(t, s.Check(t.Context(), alice, codes[0]))
	if err := s.Check(t.Context(), alice, codes[0]); !errors.Is(err, ErrCode) {
		t.Errorf("the same again: %v", err)
	}
	if left, err := s.RecoveryLeft(t.Context(), alice); err != nil || left != recoveryCodes-1 {
		t.Errorf("%d left, %v", left, err)
	}
	if _, err := s.Reset(t.Context(), alice); err != nil {
		t.Fatal(err)
	}
	if err := s.Check(t.Context(), alice, codes[1]); !errors.Is(err, ErrCode) {
		t.Errorf("after the reset: %v", err)
	}
}

// securityKey is a key of the kind that people put into a computer, in software.
type securityKey struct {
	id      []byte
	private *ecdsa.PrivateKey
	count   uint32
	origin  string
}

func newKey(t *testing.T) *securityKey {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	k := &securityKey{id: make([]byte, 32), private: private, origin: origin}
	rand.Read(k.id)
	return k
}

func encode(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

// clientData is what the browser says of a request (WebAuthn §5.8.1).
func (k *securityKey) clientData(t *testing.T, kind string, options []byte) []byte {
	t.Helper()
	var o struct {
		PublicKey struct{ Challenge string }
	}
	must(t, json.Unmarshal(options, &o))
	b, err := json.Marshal(map[string]any{"type": kind, "challenge": o.PublicKey.Challenge, "origin": k.origin, "crossOrigin": false})
	must(t, err)
	return b
}

// authData is what the key says (WebAuthn §6.1), user present.
func (k *securityKey) authData(flags byte) []byte {
	k.count++
	sum := sha256.Sum256([]byte(host))
	return binary.BigEndian.AppendUint32(append(sum[:], 1|flags), k.count)
}

// create answers to the enrolment.
func (k *securityKey) create(t *testing.T, options []byte) []byte {
	t.Helper()
	data := k.authData(0x40) // with a public key
	data = append(data, make([]byte, 16)...)
	data = binary.BigEndian.AppendUint16(data, uint16(len(k.id)))
	data = append(data, k.id...)
	point, err := k.private.PublicKey.Bytes()
	must(t, err)
	// COSE: {1: 2, 3: -7, -1: 1, -2: x, -3: y}
	data = append(data, 0xa5, 0x01, 0x02, 0x03, 0x26, 0x20, 0x01, 0x21, 0x58, 0x20)
	data = append(data, point[1:33]...)
	data = append(data, 0x22, 0x58, 0x20)
	data = append(data, point[33:]...)
	// {"fmt": "none", "attStmt": {}, "authData": data}
	object := append([]byte{0xa3, 0x63}, "fmt\x64none\x67attStmt\xa0\x68authData\x58"...)
	object = append(append(object, byte(len(data))), data...)
	return k.answer(t, map[string]any{"clientDataJSON": encode(k.clientData(t, "webauthn.create", options)), "attestationObject": encode(object)})
}

// get answers to a check.
func (k *securityKey) get(t *testing.T, options []byte) []byte {
	t.Helper()
	data, client := k.authData(0), k.clientData(t, "webauthn.get", options)
	sum := sha256.Sum256(client)
	signed := sha256.Sum256(append(bytes.Clone(data), sum[:]...))
	signature, err := ecdsa.SignASN1(rand.Reader, k.private, signed[:])
	must(t, err)
	return k.answer(t, map[string]any{"clientDataJSON": encode(client), "authenticatorData": encode(data), "signature": encode(signature)})
}

func (k *securityKey) answer(t *testing.T, response map[string]any) []byte {
	t.Helper()
	b, err := json.Marshal(map[string]any{"id": encode(k.id), "rawId": encode(k.id), "type": "public-key", "clientExtensionResults": map[string]any{}, "response": response})
	must(t, err)
	return b
}

func TestSecurityKey(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	alice, bob := person(t, "alice"), person(t, "bob")
	k := newKey(t)
	options, pending, err := s.BeginKey(t.Context(), alice)
	must(t, err)
	if o, p, err := s.BeginCheck(t.Context(), alice); o != nil || p != nil || err != nil {
		t.Errorf("check without a key: %s %s %v", o, p, err)
	}
	wrong := func(name string, err error) {
		t.Helper()
		if !errors.Is(err, ErrCode) {
			t.Errorf("%s: %v, want %v", name, err, ErrCode)
		}
	}
	k.origin = "https://evil.example"
	wrong("enrolled for another site", s.FinishKey(t.Context(), alice, "x", pending, k.create(t, options)))
	k.origin = origin
	wrong("enrolled by somebody else", s.FinishKey(t.Context(), bob, "x", pending, k.create(t, options)))
	wrong("no answer", s.FinishKey(t.Context(), alice, "x", pending, nil))
	wrong("nothing begun", s.FinishKey(t.Context(), alice, "x", nil, k.create(t, options)))
	wrong("huge", s.FinishKey(t.Context(), alice, "x", pending, make([]byte, maxResponse+1)))
	must(t, s.FinishKey(t.Context(), alice, "Blue key", pending, k.create(t, options)))

	o2, p2, err := s.BeginKey(t.Context(), bob)
	must(t, err)
	if err := s.FinishKey(t.Context(), bob, "x", p2, k.create(t, o2)); !errors.Is(err, ErrExists) {
		t.Errorf("the key of alice, of bob too: %v", err)
	}
	check := func(e *directory.Entry, by *securityKey) error {
		t.Helper()
		options, pending, err := s.BeginCheck(t.Context(), e)
		must(t, err)
		return s.FinishCheck(t.Context(), e, pending, by.get(t, options))
	}
	must(t, check(alice, k))
	wrong("another key", check(alice, newKey(t)))
	stolen := *k
	stolen.private = newKey(t).private
	wrong("the id with another key", check(alice, &stolen))
	k.origin = "https://mail.corp.example.evil.example"
	wrong("shown to another site", check(alice, k))
	k.origin = origin
	must(t, check(alice, k))

	// An answer is good for its own question, and for no other.
	o3, _, err := s.BeginCheck(t.Context(), alice)
	must(t, err)
	_, p4, err := s.BeginCheck(t.Context(), alice)
	must(t, err)
	wrong("answer to another question", s.FinishCheck(t.Context(), alice, p4, k.get(t, o3)))
	// A copy of the key is found by its counter.
	k.count -= 3
	wrong("copied", check(alice, k))
	k.count += 5
	must(t, check(alice, k))

	all, err := s.List(t.Context(), alice.Key)
	must(t, err)
	if len(all) != 1 || all[0].Kind != KindKey || all[0].Name != "Blue key" || all[0].Used.IsZero() {
		t.Errorf("%+v", all)
	}
	if ok, err := s.Remove(t.Context(), bob.Key, all[0].ID); ok || err != nil {
		t.Errorf("removed by somebody else: %v %v", ok, err)
	}
	if ok, err := s.Remove(t.Context(), alice.Key, all[0].ID); !ok || err != nil {
		t.Errorf("not removed: %v", err)
	}
}
