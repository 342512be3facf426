package auth

import (
	"context"

	"dirpost/auth/sasl"
)

// mechanism is one way to prove who one is.
type mechanism struct {
	name string // as registered with IANA, in capitals
	// offered reports whether the mechanism would work now, at this door, on this
	// connection, which is secure. It is asked for each list of capabilities.
	offered func(b *Bridge, c Conn) bool
	// start returns the server of one exchange, which writes into a what it learns.
	start func(b *Bridge, c Conn, a *attempt) server
}

// server is the server's side of one exchange (RFC 4422 §5). It proves who
// somebody is and decides nothing more: the state of the account, policies, on
// whose behalf, the audit and the time of a refusal are Bridge.enter's.
type server interface {
	// Next takes a response, nil for none before the first challenge, of at most
	// sasl.MaxResponse octets, and returns the next challenge; or that it is done,
	// with data for the client if the mechanism has some (RFC 4422 §3.7), which are
	// sent only if the person may enter.
	//
	// Done means that the attempt has in entry whose proof was right, in proof of
	// what kind it was, and in authcid and authzid what was said. An error ends the
	// exchange: one of this package, sasl.ErrMalformed, or a temporary one, with the
	// attempt's reason for the audit. With a challenge beside the error, the client is
	// sent that and must answer before the exchange fails (RFC 7628 §3.2.3); Next is
	// not called again.
	Next(ctx context.Context, response []byte) (challenge []byte, done bool, err error)
}

// mechanisms are those there are, in order of preference: many clients take the
// first one that they know, others the strongest, so that the list must be right
// for both (offered).
func mechanisms() []mechanism {
	return []mechanism{
		{sasl.External, (*Bridge).takesCertificate, startExternal},    // RFC 4422 §A, for a certificate that is somebody's
		{gssapiName, (*Bridge).takesTickets, startGSSAPI},             // RFC 4752
		{sasl.ScramSHA256Plus, (*Bridge).offersScramPlus, startScram}, // RFC 7677
		{sasl.ScramSHA256, (*Bridge).offersScram, startScram},         // RFC 7677
		{sasl.Plain, (*Bridge).takesPasswords, startPassword},         // RFC 4616
		{sasl.Login, (*Bridge).takesPasswords, startPassword},         // draft-murchison-sasl-login
		// Only a client that was given a token asks for these, wherever they stand.
		{sasl.OAuthBearer, (*Bridge).takesTokens, startToken}, // RFC 7628
		{sasl.XOAuth2, (*Bridge).takesTokens, startToken},     // as Google and Microsoft describe it
	}
}

// mechanism returns the one of a name in capitals, nil for none.
func (b *Bridge) mechanism(name string) *mechanism {
	for i := range b.mechanisms {
		if m := &b.mechanisms[i]; m.name == name {
			return m
		}
	}
	return nil
}
