package sasl

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/xdg-go/scram"
)

var scramConfig = ScramConfig{Salt: []byte("0123456789abcdef"), Iterations: 4096}

// keysOf derives the keys of passwords (RFC 5802 §3), apart from the code that is
// used.
func keysOf(t testing.TB, passwords ...string) (keys []ScramKey) {
	t.Helper()
	for _, p := range passwords {
		salted, err := pbkdf2.Key(sha256.New, p, scramConfig.Salt, scramConfig.Iterations, 32)
		if err != nil {
			t.Fatal(err)
		}
		sum := func(text string) []byte {
			h := hmac.New(sha256.New, salted)
			h.Write([]byte(text))
			return h.Sum(nil)
		}
		stored := sha256.Sum256(sum("Client Key"))
		keys = append(keys, ScramKey{stored[:], sum("Server Key")})
	}
	return keys
}

func lookupOf(keys []ScramKey) ScramLookup {
	return func(context.Context, string, string, bool) ([]ScramKey, error) { return keys, nil }
}

// talk lets a client of package scram log in.
func talk(t testing.TB, s *Scram, conv *scram.ClientConversation) error {
	t.Helper()
	message := ""
	for range 4 {
		response, err := conv.Step(message)
		if err != nil {
			return fmt.Errorf("client: %w", err)
		}
		challenge, done, err := s.Next(t.Context(), []byte(response))
		if err != nil {
			return err
		}
		message = string(challenge)
		if done {
			if _, err := conv.Step(message); err != nil || !conv.Valid() {
				return fmt.Errorf("client does not believe the server: %w", err)
			}
			return nil
		}
	}
	return errors.New("no end")
}

func client(t testing.TB, name, password, authzid string) *scram.Client {
	t.Helper()
	c, err := scram.SHA256.NewClient(name, password, authzid)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// Any of a person's passwords is right, and it is known which one it was.
func TestScram(t *testing.T) {
	t.Parallel()
	keys := keysOf(t, "first", "second", "third")
	bindings := map[string][]byte{"tls-exporter": []byte("exported by both sides of it now"), "tls-server-end-point": []byte("hash of the certificate")}
	other := map[string][]byte{"tls-exporter": []byte("exported by somebody in between.")}
	for _, tt := range []struct {
		name, mech string
		has        map[string][]byte // bindings of the server
		kind       string            // binding of the client, of the same connection
		pass       string
		want       int // candidate
		err        error
	}{
		{"plain", ScramSHA256, nil, "", "second", 1, nil},
		{"offered and not used", ScramSHA256, bindings, "", "third", 2, nil},
		{"exporter", ScramSHA256Plus, bindings, "tls-exporter", "first", 0, nil},
		{"end point", ScramSHA256Plus, bindings, "tls-server-end-point", "third", 2, nil},
		{"wrong", ScramSHA256, nil, "", "fourth", -1, ErrProof},
		{"wrong with binding", ScramSHA256Plus, bindings, "tls-exporter", "fourth", -1, ErrProof},
		{"another connection", ScramSHA256Plus, other, "tls-exporter", "first", -1, ErrBinding},
		{"a binding that we do not have", ScramSHA256Plus, bindings, "tls-unique", "first", -1, ErrBinding},
		{"binding without PLUS", ScramSHA256, bindings, "tls-exporter", "first", -1, ErrBinding},
		{"PLUS without binding", ScramSHA256Plus, bindings, "", "first", -1, ErrBinding},
	} {
		var authzid, authcid string
		s := NewScram(tt.mech, scramConfig, tt.has, func(_ context.Context, z, c string, _ bool) ([]ScramKey, error) {
			authzid, authcid = z, c
			return keys, nil
		})
		c := client(t, "alice@example.com", tt.pass, "bob")
		conv := c.NewConversation()
		if tt.kind != "" {
			data := bindings[tt.kind]
			if data == nil {
				data = []byte("something")
			}
			conv = c.NewConversationWithChannelBinding(scram.ChannelBinding{Type: scram.ChannelBindingType(tt.kind), Data: data})
		}
		err := talk(t, s, conv)
		if !errors.Is(err, tt.err) || s.Candidate() != tt.want {
			t.Errorf("%s: %v, candidate %d, want %v, %d", tt.name, err, s.Candidate(), tt.err, tt.want)
		}
		if err == nil && (authzid != "bob" || authcid != "alice@example.com") {
			t.Errorf("%s: names %q, %q", tt.name, authzid, authcid)
		}
	}
}

// RFC 5802 §6: a client that knows channel bindings and believes that we do not was
// lied to.
func TestScramDowngrade(t *testing.T) {
	t.Parallel()
	keys := keysOf(t, "secret")
	bindings := map[string][]byte{"tls-exporter": []byte("x")}
	for _, tt := range []struct {
		has  map[string][]byte
		want error
	}{{bindings, ErrBinding}, {nil, nil}} {
		s := NewScram(ScramSHA256, scramConfig, tt.has, lookupOf(keys))
		if err := talk(t, s, client(t, "alice", "secret", "").NewConversationAdvertisingChannelBinding()); !errors.Is(err, tt.want) {
			t.Errorf("with %d bindings: %v, want %v", len(tt.has), err, tt.want)
		}
	}
}

// The example of RFC 7677 §3 has a nonce of the server's that we would not make, so
// only its keys are compared: a client that has its password is let in.
func TestScramKeys(t *testing.T) {
	t.Parallel()
	salt, _ := base64.StdEncoding.DecodeString("W22ZaJ0SNY7soEsUEjb6gQ==")
	salted, err := pbkdf2.Key(sha256.New, "pencil", salt, 4096, 32)
	if err != nil {
		t.Fatal(err)
	}
	h := hmac.New(sha256.New, salted)
	h.Write([]byte("Server Key"))
	message := "n=user,r=rOprNGfwEbeRWgbNEkqO,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096," +
		"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
	g := hmac.New(sha256.New, h.Sum(nil))
	g.Write([]byte(message))
	if got, want := base64.StdEncoding.EncodeToString(g.Sum(nil)), "6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="; got != want {
		t.Errorf("server signature %s, want %s", got, want)
	}
}

// A password that was not known at the first look is found at the second.
func TestScramAgain(t *testing.T) {
	t.Parallel()
	old, fresh := keysOf(t, "old"), keysOf(t, "old", "fresh")
	s := NewScram(ScramSHA256, scramConfig, nil, func(_ context.Context, _, _ string, again bool) ([]ScramKey, error) {
		if again {
			return fresh, nil
		}
		return old, nil
	})
	if err := talk(t, s, client(t, "alice", "fresh", "").NewConversation()); err != nil || s.Candidate() != 1 {
		t.Errorf("%v, candidate %d", err, s.Candidate())
	}
}

// A name that nobody has is told the same as a wrong password, and both are told
// nothing.
func TestScramNobody(t *testing.T) {
	t.Parallel()
	keys := keysOf(t)
	for range 3 {
		s := NewScram(ScramSHA256, scramConfig, nil, lookupOf(keys))
		if err := talk(t, s, client(t, "nobody", "x", "").NewConversation()); !errors.Is(err, ErrProof) {
			t.Errorf("nobody: %v, want %v", err, ErrProof)
		}
	}
}

func TestScramMalformed(t *testing.T) {
	t.Parallel()
	away := errors.New("directory away")
	for _, tt := range []struct {
		name      string
		responses []string
		want      error
	}{
		{"empty", []string{""}, ErrMalformed},
		{"extension that must be known", []string{"n,,m=x,n=a,r=b"}, ErrMalformed}, // RFC 5802 §5.1
		{"escape", []string{"n,,n=a=2X,r=b"}, ErrMalformed},
		{"no nonce", []string{"n,,n=a"}, ErrMalformed},
		{"not UTF-8", []string{"n,,n=\xff,r=b"}, ErrMalformed},
		{"long", []string{"n,,n=" + strings.Repeat("a", maxScram) + ",r=b"}, ErrMalformed},
		{"no proof", []string{"n,,n=a,r=b", "c=biws,r=b"}, ErrMalformed},
		{"another nonce", []string{"n,,n=a,r=b", "c=biws,r=bXXXX,p=" + base64.StdEncoding.EncodeToString(make([]byte, 32))}, ErrMalformed},
		{"once more", []string{"n,,n=a,r=b", "x", "n,,n=a,r=b"}, ErrMalformed},
		{"lookup fails", []string{"n,,n=away,r=b", ""}, away},
	} {
		s := NewScram(ScramSHA256, scramConfig, nil, func(_ context.Context, _, name string, _ bool) ([]ScramKey, error) {
			if name == "away" {
				return nil, away
			}
			return keysOf(t, "x"), nil
		})
		var err error
		for _, r := range tt.responses {
			if tt.want == away && r == "" { // a proof, in form
				r = "c=biws,r=b" + s.nonce + ",p=" + base64.StdEncoding.EncodeToString(make([]byte, 32))
			}
			_, _, err = s.Next(t.Context(), []byte(r))
		}
		if !errors.Is(err, tt.want) {
			t.Errorf("%s: %v, want %v", tt.name, err, tt.want)
		}
	}
}

// FuzzScram: whatever a stranger sends, they are not let in, keys are looked up
// twice at most, and the nonce is ours at the end of theirs. @ in the final message
// is our nonce, which nobody can know before.
func FuzzScram(f *testing.F) {
	proof := base64.StdEncoding.EncodeToString(make([]byte, 32))
	f.Add(true, []byte("p=tls-exporter,,n=alice,r=abc"), []byte("c=cD10bHMtZXhwb3J0ZXIsLHg=,r=abc@,p="+proof))
	f.Add(true, []byte("p=tls-exporter,,n=alice,r=abc"), []byte("c=cD10bHMtZXhwb3J0ZXIsLHk=,r=abc@,p="+proof))
	f.Add(true, []byte("p=tls-unique,,n=alice,r=abc"), []byte("c=cD10bHMtdW5pcXVlLCx4,r=abc@,p="+proof))
	f.Add(false, []byte("n,a=bob,n=ali=2Cce,r=abc"), []byte("c=bixhPWJvYiw=,r=abc@,p="+proof))
	f.Add(false, []byte("n,,n=alice,r=abc"), []byte("c=biws,r=abc@,i=1000000000,x=1,p="+proof))
	f.Add(false, []byte("n,,n=alice,r=abc"), []byte("c=biws,r=abc@,p=AAAA"))
	f.Add(false, []byte("y,,n=alice,r=abc"), []byte("c=eSws,r=abc@,p="+proof))
	f.Add(false, []byte("n,,m=ext,n=alice,r="), []byte(""))
	f.Add(false, []byte("n,,n=alice,r=,i=1000000000"), []byte("c=biws,i=1"))
	keys := keysOf(f, "secret")
	f.Fuzz(func(t *testing.T, plus bool, first, final []byte) {
		mech, calls := ScramSHA256, 0
		if plus {
			mech = ScramSHA256Plus
		}
		s := NewScram(mech, scramConfig, map[string][]byte{"tls-exporter": []byte("x")}, func(context.Context, string, string, bool) ([]ScramKey, error) {
			calls++
			return keys, nil
		})
		for i, r := range [][]byte{nil, first, final, final} {
			if i > 1 {
				r = bytes.ReplaceAll(r, []byte("@"), []byte(s.nonce))
			}
			challenge, done, err := s.Next(t.Context(), r)
			if done || s.Candidate() >= 0 {
				t.Fatalf("let in by %q, %q", first, final)
			}
			if err == nil && i == 1 && !strings.Contains(string(challenge), s.nonce+",s=") {
				t.Errorf("challenge %q without the nonce %q", challenge, s.nonce)
			}
		}
		if calls > 2 {
			t.Errorf("looked up %d times", calls)
		}
	})
}

func BenchmarkScram(b *testing.B) {
	for _, n := range []int{1, 10, 40} {
		passwords := make([]string, n)
		for i := range passwords {
			passwords[i] = fmt.Sprint("password ", i)
		}
		keys := keysOf(b, passwords...)
		c := client(b, "alice", passwords[n-1], "") // remembers the keys that it has derived
		b.Run(fmt.Sprint("last of ", n), func(b *testing.B) {
			for b.Loop() {
				if err := talk(b, NewScram(ScramSHA256, scramConfig, nil, lookupOf(keys)), c.NewConversation()); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
