package auth

import (
	"context"
	"errors"

	"dirpost/auth/certificate"
	"dirpost/auth/sasl"
	"dirpost/directory"
	"dirpost/internal/envelope"
)

// takesCertificate reports whether the client has shown a certificate that is
// somebody's, as far as can be told without asking whether it was revoked.
func (b *Bridge) takesCertificate(c Conn) bool {
	m := b.parts.Certificates
	if m == nil || c.State == nil {
		return false
	}
	cert, err := m.Verify(c.State)
	if err != nil {
		return false
	}
	_, _, err = m.Person(b.live.Snapshot(), cert)
	return err == nil
}

// strangeCertificate writes into the audit why the certificate that a client has
// shown opens nothing: the administrator must be able to see it, the client is told
// only that there is no such mechanism.
func (b *Bridge) strangeCertificate(ctx context.Context, c Conn, a *attempt) {
	m := b.parts.Certificates
	if m == nil {
		return
	}
	cert, err := m.Verify(c.State)
	if err == nil {
		a.authcid = cert.Subject()
		_, _, err = m.Person(b.live.Snapshot(), cert)
	}
	var no *certificate.Refusal
	if errors.As(err, &no) {
		a.reason = "certificate-" + no.Class
		b.emit(ctx, c, a, envelope.Because(ErrMechanism.Status, err))
	}
}

// startExternal starts EXTERNAL.
func startExternal(b *Bridge, c Conn, a *attempt) server { return &externalServer{b, c, a} }

// externalServer is the server of EXTERNAL (RFC 4422 §A): the handshake of TLS has
// proved who the client is.
type externalServer struct {
	b *Bridge
	c Conn
	a *attempt
}

// Next implements server. There is one response: on whose behalf.
func (x *externalServer) Next(ctx context.Context, response []byte) (challenge []byte, done bool, err error) {
	if response == nil {
		return nil, false, nil
	}
	if x.a.authzid, err = sasl.ParseExternal(response); err != nil {
		return nil, false, err
	}
	if err := x.judge(ctx); err != nil {
		return nil, false, err
	}
	return nil, true, nil
}

// judge asks whose the certificate is, and whether it was revoked.
func (x *externalServer) judge(ctx context.Context) error {
	m := x.b.parts.Certificates
	cert, err := m.Verify(x.c.State)
	if err != nil {
		return x.refused(err)
	}
	x.a.authcid = cert.Subject()
	s := x.b.live.Snapshot()
	e, by, err := m.Person(s, cert)
	if err != nil {
		if s.Stale() {
			x.a.reason = "directory"
			return envelope.Because(envelope.StatusAuthAway, directory.ErrStale)
		}
		return x.refused(err)
	}
	x.a.how = "certificate-" + by
	ctx, cancel := context.WithTimeout(ctx, x.b.cfg.BindTimeout)
	defer cancel()
	if err := m.Revoked(ctx, cert); err != nil {
		return x.refused(err)
	}
	x.a.entry, x.a.proof, x.a.until = e, ProofCertificate, cert.Leaf.NotAfter
	return nil
}

// refused is the answer to what the certificate is, or to that it could not be
// judged.
func (x *externalServer) refused(err error) error {
	var no *certificate.Refusal
	switch {
	case errors.As(err, &no):
		x.a.reason = "certificate-" + no.Class
		return envelope.Because(ErrCredentials.Status, err)
	case errors.Is(err, certificate.ErrNone):
		x.a.reason = "certificate-none"
		return envelope.Because(ErrCredentials.Status, err)
	}
	x.a.reason = "revocation"
	return envelope.Because(envelope.StatusAuthAway, err)
}
