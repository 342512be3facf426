package oauth

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// keySet holds the keys of one issuer.
type keySet struct {
	load func(ctx context.Context) ([]jose.JSONWebKey, error)
	now  func() time.Time
	turn chan struct{} // holds one value while a load runs

	mu     sync.Mutex // guards what follows
	keys   []jose.JSONWebKey
	loaded time.Time // when keys were
	tried  time.Time // when the last load ended
	err    error     // how it ended
}

func newKeySet(load func(context.Context) ([]jose.JSONWebKey, error)) *keySet {
	return &keySet{load: load, now: time.Now, turn: make(chan struct{}, 1)}
}

// find returns the keys that may have made a signature: those with the identifier
// kid, all if it is "", of the type that alg is made with. A key that is not there
// makes the set be fetched again, and so does a set that has grown old. A *Refusal
// means that the issuer has no such key, another error that it could not be asked.
// The time is when the keys were fetched.
func (k *keySet) find(ctx context.Context, kid string, alg jose.SignatureAlgorithm) ([]jose.JSONWebKey, time.Time, error) {
	found, s := k.look(kid, alg)
	now := k.now()
	if len(found) > 0 && now.Sub(s.loaded) < RefreshEvery {
		return found, s.loaded, nil
	}
	if now.Sub(s.tried) >= RetryEvery {
		if err := k.refresh(ctx, s.tried); err != nil {
			return nil, s.loaded, err
		}
		found, s = k.look(kid, alg)
	}
	switch {
	case len(found) > 0 && now.Sub(s.loaded) < KeepKeys:
		return found, s.loaded, nil
	case s.err != nil:
		return nil, s.loaded, fmt.Errorf("keys of the issuer: %w", s.err)
	case len(found) > 0:
		return nil, s.loaded, errors.New("keys of the issuer are too old")
	}
	return nil, s.loaded, &Refusal{Class: "key", Status: statusInvalid, Detail: "signed with a key that the issuer does not have"}
}

// again fetches the keys again if that was not tried lately, and reports whether
// there are newer ones than those of the time loaded.
func (k *keySet) again(ctx context.Context, loaded time.Time) (bool, error) {
	s := k.state()
	if s.loaded.After(loaded) {
		return true, nil // another login has fetched them meanwhile
	}
	if k.now().Sub(s.tried) < RetryEvery {
		return false, nil
	}
	if err := k.refresh(ctx, s.tried); err != nil {
		return false, err
	}
	s = k.state()
	return s.err == nil, s.err
}

// look returns the keys that fit, and a copy of the times.
func (k *keySet) look(kid string, alg jose.SignatureAlgorithm) (found []jose.JSONWebKey, s keyState) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, key := range k.keys {
		if (kid == "" || key.KeyID == kid) && signs(key, alg) {
			found = append(found, key)
		}
	}
	return found, keyState{k.loaded, k.tried, k.err, len(k.keys)}
}

// keyState says how the keys of an issuer are.
type keyState struct {
	loaded, tried time.Time
	err           error
	count         int
}

func (k *keySet) state() keyState {
	k.mu.Lock()
	defer k.mu.Unlock()
	return keyState{k.loaded, k.tried, k.err, len(k.keys)}
}

// refresh fetches the keys, unless that was tried after since by another. The error
// is that of ctx; how the fetch ended is in the state.
func (k *keySet) refresh(ctx context.Context, since time.Time) error {
	select {
	case k.turn <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-k.turn }()
	if k.state().tried.After(since) {
		return nil
	}
	// A client that hangs up must not spoil it for the others.
	fetch, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*requestTime)
	defer cancel()
	keys, err := k.load(fetch)
	k.mu.Lock()
	defer k.mu.Unlock()
	k.tried, k.err = k.now(), err
	if err == nil {
		k.keys, k.loaded = keys, k.tried
	}
	return nil
}

// parseKeySet reads a key set (RFC 7517 §5). Keys that cannot be used are passed
// over; a set without any is an error, and so is one with too many.
func parseKeySet(b []byte) ([]jose.JSONWebKey, error) {
	var set struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := json.Unmarshal(b, &set); err != nil {
		return nil, fmt.Errorf("no key set: %w", err)
	}
	if len(set.Keys) > MaxKeys {
		return nil, fmt.Errorf("key set of %d keys, there may be %d", len(set.Keys), MaxKeys)
	}
	var keys []jose.JSONWebKey
	for _, raw := range set.Keys {
		var key jose.JSONWebKey
		if err := json.Unmarshal(raw, &key); err == nil && (key.Use == "" || key.Use == "sig") && strong(key) {
			keys = append(keys, key)
		}
	}
	if len(keys) == 0 {
		return nil, errors.New("key set without a public key that signs: RSA of 2048 to 4096 bits, P-256, P-384, P-521 or Ed25519")
	}
	return keys, nil
}

// strong reports whether a key is public and of a kind that may judge tokens.
func strong(key jose.JSONWebKey) bool {
	switch k := key.Key.(type) {
	case *rsa.PublicKey:
		return k.N.BitLen() >= 2048 && k.E >= 3 && k.E < 1<<31 && k.E%2 == 1
	case *ecdsa.PublicKey, ed25519.PublicKey:
		return key.Valid()
	}
	return false
}

// signs reports whether key makes signatures of the kind alg (RFC 8725 §3.1): the
// type of the key decides, and what the issuer says of it, never the token alone.
func signs(key jose.JSONWebKey, alg jose.SignatureAlgorithm) bool {
	if key.Algorithm != "" && key.Algorithm != string(alg) {
		return false
	}
	switch k := key.Key.(type) {
	case *rsa.PublicKey:
		return slices.Contains([]jose.SignatureAlgorithm{jose.RS256, jose.RS384, jose.RS512, jose.PS256, jose.PS384, jose.PS512}, alg)
	case *ecdsa.PublicKey:
		return map[int]jose.SignatureAlgorithm{256: jose.ES256, 384: jose.ES384, 521: jose.ES512}[k.Curve.Params().BitSize] == alg
	case ed25519.PublicKey:
		return alg == jose.EdDSA
	}
	return false
}
