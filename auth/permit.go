package auth

import (
	"context"
	"errors"
	"sync"

	"dirpost/auth/permit"
	"dirpost/directory"
	"dirpost/internal/envelope"
)

// permit asks whether the password of a may be judged by the directory. settle
// must be told what the directory has said.
func (b *Bridge) permit(ctx context.Context, c Conn, a *attempt, e *directory.Entry) (settle func(error), err error) {
	if b.parts.Permits == nil {
		return b.permitHere(ctx, c, a, e)
	}
	p, err := b.parts.Permits.Take(ctx, permit.Login{
		Entry: e, Name: a.authcid, Password: string(a.pass), Client: c.Client, Certificate: clientCertificate(c), Device: c.Device,
	})
	var no *permit.Refusal
	switch {
	case errors.As(err, &no):
		a.refuse("permit", no.Reason, "the directory is not asked: %s", permitWords[no.Reason])
		return nil, envelope.Because(ErrCredentials.Status, no)
	case err != nil:
		a.refuse("permit", "permits", "nobody can say whether the directory may be asked: %v", err)
		return nil, err
	}
	text := "the directory may be asked, of a stranger"
	if p.Familiar {
		text = "the directory may be asked, of somebody who was here before"
	}
	a.step("permit", true, "%s", text)
	return func(err error) { p.Settle(permit.VerdictOf(err)) }, nil
}

// permitWords say to an administrator why a permit was refused.
var permitWords = map[string]string{
	permit.ReasonRepeated: "this password was wrong before, and nothing about the entry has changed",
	permit.ReasonSprayed:  "this password has failed for many people",
	permit.ReasonNetwork:  "this client has guessed too often",
	permit.ReasonLocked:   "the account is locked, and no password of it is judged",
	permit.ReasonNone:     "one more wrong password might lock the account ('dirpost auth top' shows who tries)",
}

// permitHere asks the memory of this node alone.
func (b *Bridge) permitHere(ctx context.Context, c Conn, a *attempt, e *directory.Entry) (settle func(error), err error) {
	if !b.guesses.Allow(ctx, c.Client, e.Key) {
		a.refuse("password", "throttled", "this client has guessed too often: the directory was not asked")
		return nil, ErrCredentials
	}
	var once sync.Once
	return func(err error) {
		once.Do(func() { b.settleHere(ctx, c, e, err) })
	}, nil
}

// settleHere counts a wrong password in the memory of this node.
func (b *Bridge) settleHere(ctx context.Context, c Conn, e *directory.Entry, err error) {
	if v := permit.VerdictOf(err); v == permit.Wrong || v == permit.Unsure {
		b.guesses.Failed(ctx, c.Client, e.Key)
	}
}

// unknown counts a login with a name that nobody has.
func (b *Bridge) unknown(ctx context.Context, c Conn, a *attempt) {
	if b.parts.Permits == nil || a.pass == "" {
		b.guesses.Failed(ctx, c.Client, "")
		return
	}
	b.parts.Permits.Unknown(ctx, permit.Login{Name: a.authcid, Password: string(a.pass), Client: c.Client, Device: c.Device})
}

// clientCertificate is that of the client, DER, nil for none. TLS has proved that
// the client has its key.
func clientCertificate(c Conn) []byte {
	if c.State == nil || len(c.State.PeerCertificates) == 0 {
		return nil
	}
	return c.State.PeerCertificates[0].Raw
}
