package auth

import (
	"context"
	"errors"

	"dirpost/auth/sasl"
	"dirpost/directory"
	"dirpost/internal/envelope"
)

// takesPasswords reports whether there is a password that would be taken on c.
func (b *Bridge) takesPasswords(c Conn) bool {
	return b.takesDomainPasswords(c) || b.parts.AppPasswords != nil
}

// startPassword starts PLAIN or LOGIN.
func startPassword(b *Bridge, c Conn, a *attempt) server {
	s := &passwordServer{}
	s.mech = sasl.NewServer(a.mech, func(authzid, authcid, pass string) error {
		a.authzid, a.authcid, a.pass = authzid, authcid, password(pass)
		return b.password(s.ctx, c, a)
	})
	return s
}

// passwordServer runs a mechanism of package sasl.
type passwordServer struct {
	mech *sasl.Server
	// ctx is that of the Next which is running: the interface of the mechanisms
	// has none.
	ctx context.Context
}

// Next implements server.
func (s *passwordServer) Next(ctx context.Context, response []byte) (challenge []byte, done bool, err error) {
	s.ctx = ctx
	defer func() { s.ctx = nil }()
	return s.mech.Next(response)
}

// password judges the name and the password of a. It is what all mechanisms have
// in common that have nothing better.
func (b *Bridge) password(ctx context.Context, c Conn, a *attempt) error {
	if a.authcid == "" || a.pass == "" {
		a.refuse("name", "empty", "the name or the password is empty")
		return ErrCredentials
	}
	e, err := b.find(ctx, c, a)
	if err != nil {
		return err
	}
	a.entry, a.pass = e, a.pass.prepared()
	if mine, err := b.appPassword(ctx, c, a, e); mine {
		return err
	}
	return b.judge(ctx, c, a, e)
}

// find returns the entry of a's authcid, if it may log in at all.
func (b *Bridge) find(ctx context.Context, c Conn, a *attempt) (*directory.Entry, error) {
	s := b.live.Snapshot()
	e := s.ByLogin(a.authcid)
	if e == nil && s.Stale() {
		a.refuse("name", "directory", "nobody has this login name, and the directory was not heard of lately")
		return nil, envelope.Because(envelope.StatusAuthAway, directory.ErrStale)
	}
	if e == nil || !mayProve(s, e, a.authzid) {
		if e == nil {
			a.refuse("name", "unknown", "nobody has this login name, or more than one entry")
		} else {
			a.refuse("name", "no-mailbox", "%s is a %s without a mailbox here that one logs in to", e.DN, e.Kind)
		}
		b.unknown(ctx, c, a)
		return nil, ErrCredentials
	}
	a.step("name", true, "%s, %s, of directory %s", e.DN, e.Primary, e.Directory)
	return e, nil
}

// judge asks whether the password is that of e: of the memory, else of the
// directory.
func (b *Bridge) judge(ctx context.Context, c Conn, a *attempt, e *directory.Entry) error {
	now := b.now()
	if !b.takesDomainPassword(c, e) {
		// Not asked, and so never counted against the account, right or wrong.
		a.refuse("password", "door", "the password of the domain is not taken from outside, and the directory is not asked for it")
		if b.parts.Permits != nil {
			b.parts.Permits.TurnedAway(c.Client, e.Key)
		}
		return ErrCredentials
	}
	// Whether a lockout is over only the directory knows.
	locked := e.LoginState(now) == directory.StateLocked
	if b.cfg.Remember > 0 && !locked && b.memory.has(e, a.pass, now) {
		a.how, a.proof = "memory", ProofPassword
		a.step("password", true, "right, as remembered")
		return nil
	}
	v := b.parts.Verifiers[e.Directory]
	if v == nil {
		a.refuse("password", "directory", "there is no directory %s to judge it", e.Directory)
		return envelope.Because(envelope.StatusAuthAway, errors.New("no directory "+e.Directory+" to judge passwords"))
	}
	settle, err := b.permit(ctx, c, a, e)
	if err != nil {
		return err
	}
	a.how, a.proof = "bind", ProofPassword
	// Not with the client: who hangs up at once has guessed all the same.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), b.cfg.BindTimeout)
	defer cancel()
	defer settle(directory.ErrUnanswered) // a panic; what is settled stays so
	notice, err := verify(ctx, v, e, a.pass)
	settle(err)
	a.notice = notice
	var refusal *directory.Refusal
	switch {
	case err == nil:
		a.step("password", true, "right, says the directory")
		a.stepNotice()
		if b.cfg.Remember > 0 && !locked {
			b.memory.add(e, a.pass, now.Add(b.cfg.Remember))
		}
		return nil
	case errors.As(err, &refusal):
		a.refuse("password", refusal.Reason.String(), "%v", refusal)
		if !refusal.Right {
			return envelope.Because(ErrCredentials.Status, refusal)
		}
		return envelope.Because(answerTo(refusal.Reason).Status, refusal)
	default:
		a.refuse("password", "directory", "the directory did not judge it: %v", err)
		return envelope.Because(envelope.StatusAuthAway, err)
	}
}

// verify asks v, and what it has to say of a right password.
func verify(ctx context.Context, v Verifier, e *directory.Entry, pass password) (*directory.Notice, error) {
	if n, ok := v.(Noticer); ok {
		return n.VerifyWithNotice(ctx, e, string(pass))
	}
	return nil, v.Verify(ctx, e, string(pass))
}

// answerTo is what somebody is told who knows the password.
func answerTo(r directory.Reason) *envelope.Error {
	switch r {
	case directory.ReasonPasswordExpired, directory.ReasonMustChange:
		return ErrExpired
	case directory.ReasonDisabled, directory.ReasonExpired:
		return ErrDisabled
	case directory.ReasonHours:
		return ErrHours
	case directory.ReasonWorkstation:
		return ErrAuthorization
	}
	return ErrCredentials
}
