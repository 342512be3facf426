package auth

import (
	"bytes"
	"context"
	"errors"

	"dirpost/auth/apppassword"
	"dirpost/auth/sasl"
	"dirpost/internal/envelope"
	"dirpost/internal/gssapi"
)

// offersScram reports whether SCRAM would work on c. There are keys for app passwords
// only, and a client that knows SCRAM takes it: so it is offered where app passwords
// are the rule, and a client with the password of the domain would not be let in by
// PLAIN either.
func (b *Bridge) offersScram(c Conn) bool {
	return b.parts.AppPasswords != nil && !b.takesDomainPasswords(c)
}

// offersScramPlus is offersScram for SCRAM that is bound to its TLS connection.
func (b *Bridge) offersScramPlus(c Conn) bool {
	return b.offersScram(c) && c.State != nil && len(scramBindings(c)) > 0
}

// scramBindings are the channel bindings of c by type (RFC 5929, RFC 9266), without
// the type before each.
func scramBindings(c Conn) map[string][]byte {
	all := map[string][]byte{}
	for _, b := range gssapi.ChannelBindings(c.State, c.Certificate) {
		if kind, data, ok := bytes.Cut(b, []byte(":")); ok {
			all[string(kind)] = data
		}
	}
	return all
}

// startScram starts SCRAM-SHA-256 or SCRAM-SHA-256-PLUS.
func startScram(b *Bridge, c Conn, a *attempt) server { return &scramServer{b: b, c: c, a: a} }

// scramServer runs SCRAM with the app passwords of a person.
type scramServer struct {
	b          *Bridge
	c          Conn
	a          *attempt
	scram      *sasl.Scram
	candidates []apppassword.Candidate
}

// Next implements server.
func (s *scramServer) Next(ctx context.Context, response []byte) (challenge []byte, done bool, err error) {
	if s.scram == nil {
		f, err := s.b.parts.AppPasswords.Factors(ctx)
		if err != nil {
			return nil, false, s.b.provedApp(ctx, s.c, s.a, nil, err)
		}
		s.scram = sasl.NewScram(s.a.mech, sasl.ScramConfig{Salt: f.Salt, Iterations: f.Iterations}, scramBindings(s.c), s.lookup)
	}
	challenge, done, err = s.scram.Next(ctx, response)
	switch {
	case errors.Is(err, sasl.ErrBinding):
		s.a.refuse("password", "channel-binding", "%v: the client and we do not speak on the same TLS connection", err)
		return nil, false, envelope.Because(ErrCredentials.Status, err)
	case errors.Is(err, sasl.ErrProof):
		return nil, false, s.b.provedApp(ctx, s.c, s.a, nil, apppassword.ErrWrong)
	case done:
		return challenge, true, s.b.provedApp(ctx, s.c, s.a, s.candidates[s.scram.Candidate()].Password, nil)
	}
	return challenge, false, err
}

// lookup returns the keys for a name, when the client has said all that it has to
// say.
func (s *scramServer) lookup(ctx context.Context, authzid, authcid string, again bool) (_ []sasl.ScramKey, err error) {
	if !again {
		s.a.authzid, s.a.authcid = authzid, authcid
		if s.a.entry, err = s.b.find(ctx, s.c, s.a); err != nil {
			return nil, err
		}
	}
	if s.candidates, err = s.b.parts.AppPasswords.Candidates(ctx, s.a.entry.Key, again); err != nil {
		return nil, s.b.provedApp(ctx, s.c, s.a, nil, err)
	}
	keys := make([]sasl.ScramKey, len(s.candidates))
	for i, c := range s.candidates {
		keys[i] = sasl.ScramKey{StoredKey: c.StoredKey, ServerKey: c.ServerKey}
	}
	return keys, nil
}
