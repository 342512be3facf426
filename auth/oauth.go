package auth

import (
	"context"
	"errors"

	"dirpost/auth/oauth"
	"dirpost/auth/sasl"
	"dirpost/directory"
	"dirpost/internal/envelope"
)

// takesTokens reports whether there is an issuer whose tokens count. A token in
// clear is never taken, not even from this host (RFC 7628 §4).
func (b *Bridge) takesTokens(c Conn) bool { return b.parts.Tokens != nil && c.TLS }

// startToken starts OAUTHBEARER or XOAUTH2.
func startToken(b *Bridge, c Conn, a *attempt) server {
	t := &tokenServer{b: b, c: c, a: a, parse: sasl.ParseOAuthBearer}
	if a.mech == sasl.XOAuth2 {
		t.parse = sasl.ParseXOAuth2
	}
	return t
}

// tokenServer is the server of OAUTHBEARER (RFC 7628) and XOAUTH2.
type tokenServer struct {
	b     *Bridge
	c     Conn
	a     *attempt
	parse func([]byte) (sasl.BearerToken, error)
}

// Next implements server. There is one response; after a token that does not count
// the client is told so in JSON and sends an empty one.
func (t *tokenServer) Next(ctx context.Context, response []byte) (challenge []byte, done bool, err error) {
	if response == nil {
		return nil, false, nil
	}
	said, err := t.parse(response)
	if err != nil {
		return nil, false, err
	}
	t.a.authzid = said.Authzid
	t.a.authcid = said.Authzid
	err = t.judge(ctx, said.Token)
	var no *oauth.Refusal
	if errors.As(err, &no) {
		return t.failure(no.Status), false, envelope.Because(ErrCredentials.Status, err)
	}
	return nil, err == nil, err
}

// judge asks whose a token is. A *oauth.Refusal means that it does not count.
func (t *tokenServer) judge(ctx context.Context, token string) error {
	ctx, cancel := context.WithTimeout(ctx, t.b.cfg.BindTimeout)
	defer cancel()
	t.a.how = "token"
	good, err := t.b.parts.Tokens.Verify(ctx, token)
	var no *oauth.Refusal
	switch {
	case errors.As(err, &no):
		t.a.reason = "token-" + no.Class
		return no
	case err != nil:
		t.a.reason = "issuer"
		return envelope.Because(envelope.StatusAuthAway, err)
	}
	t.a.authcid = good.Name
	s := t.b.live.Snapshot()
	e := good.Person(s)
	switch {
	case e == nil && s.Stale():
		t.a.reason = "directory"
		return envelope.Because(envelope.StatusAuthAway, directory.ErrStale)
	case e == nil:
		t.a.reason = "unknown"
		return &oauth.Refusal{Class: "unknown", Status: "invalid_token", Detail: "of nobody here: " + shorten(good.Name)}
	}
	t.a.entry, t.a.proof, t.a.until = e, ProofToken, good.Until
	return nil
}

// failure is what the client is told (RFC 7628 §3.2.2).
func (t *tokenServer) failure(status string) []byte {
	metadata, scope := t.b.parts.Tokens.Discovery()
	if t.a.mech != sasl.XOAuth2 {
		return sasl.OAuthBearerFailure(status, scope, metadata)
	}
	return sasl.XOAuth2Failure("401", scope)
}
