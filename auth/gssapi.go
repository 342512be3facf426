package auth

import (
	"context"
	"errors"
	"fmt"

	"dirpost/auth/krb5"
	"dirpost/auth/sasl"
	"dirpost/directory"
	"dirpost/internal/envelope"
	"dirpost/internal/gssapi"
)

// gssapiName is the name of Kerberos in SASL (RFC 4752 §2). SPNEGO has none that
// mail programs ask for: those of Windows negotiate inside of it and say GSSAPI.
const gssapiName = "GSSAPI"

// takesTickets reports whether a Kerberos ticket could be judged on c. It is offered
// inside TLS only, whatever PlaintextLoopback says, since it has no security layer of
// its own here; and at the inside door, once somebody has said where that is, unless
// asked for: some programs take it where it is offered and do not try a password
// afterwards, and a first login must work.
func (b *Bridge) takesTickets(c Conn) bool {
	t := b.parts.Tickets
	return t != nil && c.TLS && (t.Outside() || b.cfg.Inside != nil && b.Door(c) == Inside) && t.Offers(c.Protocol, krb5.Channel{State: c.State, Certificate: c.Certificate})
}

// startGSSAPI starts GSSAPI.
func startGSSAPI(b *Bridge, c Conn, a *attempt) server {
	return &gssapiServer{b: b, a: a, x: b.parts.Tickets.Begin(c.Protocol, krb5.Channel{State: c.State, Certificate: c.Certificate})}
}

// gssapiServer is the server of GSSAPI.
type gssapiServer struct {
	b *Bridge
	a *attempt
	x *krb5.Exchange
}

// Next implements server.
func (s *gssapiServer) Next(ctx context.Context, response []byte) (challenge []byte, done bool, err error) {
	challenge, done, err = s.x.Next(response)
	peer := s.x.Peer()
	if peer != nil {
		s.a.authcid = peer.String()
	}
	if err != nil {
		return nil, false, s.a.badTicket(err)
	}
	if !done {
		return challenge, false, nil
	}
	s.a.authzid = s.x.Authzid()
	return nil, true, s.b.owner(ctx, s.a, peer)
}

// badTicket makes the answer to a ticket that was not taken. What was wrong with it
// is for the audit.
func (a *attempt) badTicket(err error) error {
	flaw, ok := errors.AsType[*gssapi.TokenError](err)
	switch {
	case errors.Is(err, krb5.ErrMalformed), ok && flaw.Flaw == gssapi.FlawMalformed:
		a.refuse("ticket", "malformed", "%v", err)
		return fmt.Errorf("%w: %w", sasl.ErrMalformed, err)
	case ok:
		a.refuse("ticket", "ticket-"+string(flaw.Flaw), "%v", err)
		return envelope.Because(ErrCredentials.Status, err)
	}
	return err // ours
}

// owner finds whose ticket was taken, if no other node has taken it before.
func (b *Bridge) owner(ctx context.Context, a *attempt, peer *gssapi.Peer) error {
	if r := b.parts.Replays; r != nil && !r.First(ctx, peer.Once) {
		a.refuse("ticket", "ticket-"+string(gssapi.FlawReplay), "the token of %s was used on another node", peer)
		return envelope.Because(ErrCredentials.Status, fmt.Errorf("token of %s was used on another node", peer))
	}
	s := b.live.Snapshot()
	e, err := b.parts.Tickets.Entry(s, peer)
	switch {
	case err == nil:
		a.entry, a.proof = e, ProofTicket
		a.step("ticket", true, "%s is %s", peer, e.DN)
		return nil
	case s.Stale():
		a.refuse("ticket", "directory", "nobody is %s, and the directory was not heard of lately", peer)
		return envelope.Because(envelope.StatusAuthAway, directory.ErrStale)
	}
	a.refuse("ticket", "unknown", "%v", err)
	return envelope.Because(ErrCredentials.Status, err)
}

// OffersNegotiate reports whether an HTTP client on c shall be asked for a Kerberos
// ticket: by a 401 with "WWW-Authenticate: Negotiate" (RFC 4559 §4.1).
func (b *Bridge) OffersNegotiate(c Conn) bool { return b.takesTickets(c) }

// NegotiateHTTP logs in who has sent authorization, the value of the field
// Authorization that begins with "Negotiate". c.State is the request's, c.Certificate
// what web.Shown says of it. reply is what WWW-Authenticate of the
// response has to say then, the proof that we are who we are; a browser may not show
// a page without it. Without id and err the client has to go on: the response is 401
// with reply. Errors are those of Login: the response is then 401 with
// "WWW-Authenticate: Negotiate" and a page that asks for a password. No other
// request of the connection is logged in by it: the caller makes a session.
func (b *Bridge) NegotiateHTTP(ctx context.Context, c Conn, authorization string) (id *Identity, reply string, err error) {
	a := &attempt{mech: "NEGOTIATE", start: b.now()}
	if !b.takesTickets(c) {
		a.reason = "policy"
		b.emit(ctx, c, a, ErrMechanism)
		return nil, "", ErrMechanism
	}
	peer, reply, err := b.parts.Tickets.Negotiate(authorization, krb5.Channel{State: c.State, Certificate: c.Certificate, Negotiation: c.Negotiation})
	if err == nil && peer == nil {
		return nil, reply, nil // nothing was judged yet
	}
	if err == nil {
		a.authcid = peer.String()
		err = b.owner(ctx, a, peer)
	} else if err = a.badTicket(err); errors.Is(err, sasl.ErrMalformed) {
		err = envelope.Because(ErrMalformed.Status, err)
	}
	if id, err = b.enter(ctx, c, a, err); err != nil {
		return nil, "", err
	}
	return id, reply, nil
}
