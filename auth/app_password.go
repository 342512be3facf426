package auth

import (
	"context"
	"errors"

	"dirpost/auth/apppassword"
	"dirpost/directory"
	"dirpost/internal/envelope"
)

// appPassword judges a.pass if it is an app password by its form; mine is false if
// it is not, and the directory's to judge. No directory ever hears of what has the
// form, right or wrong, and a wrong one counts for the client alone: nobody's
// account can be locked by it. A right one is taken from a client that has guessed
// too often, too, since there is nothing in it to guess.
func (b *Bridge) appPassword(ctx context.Context, c Conn, a *attempt, e *directory.Entry) (mine bool, err error) {
	if b.parts.AppPasswords == nil || !apppassword.Recognise(string(a.pass)) {
		return false, nil
	}
	p, err := b.parts.AppPasswords.Verify(ctx, e.Key, string(a.pass))
	return true, b.provedApp(ctx, c, a, p, err)
}

// provedApp notes the app password that was proved, or why none was.
func (b *Bridge) provedApp(ctx context.Context, c Conn, a *attempt, p *apppassword.Password, err error) error {
	switch {
	case err == nil:
		a.app, a.proof = p, ProofAppPassword
		a.step("password", true, "right: the app password %q", p.Name)
		return nil
	case errors.Is(err, apppassword.ErrWrong):
		a.refuse("password", "app-password", "it is no app password of this person, or one that was revoked or has expired")
		b.guesses.Failed(ctx, c.Client, "")
		return ErrCredentials
	}
	a.refuse("password", "database", "it was not judged: %v", err)
	return envelope.Because(envelope.StatusAuthAway, err)
}

// AppPasswords implements apppassword.Sessions.
func (b *Bridge) AppPasswords() map[apppassword.ID]directory.Key {
	b.mu.Lock()
	defer b.mu.Unlock()
	open := map[apppassword.ID]directory.Key{}
	for _, all := range b.watches {
		for w := range all {
			if w.id.AppPassword != 0 {
				open[w.id.AppPassword] = w.id.Actor
			}
		}
	}
	return open
}

// EndAppPassword implements apppassword.Sessions.
func (b *Bridge) EndAppPassword(person directory.Key, id apppassword.ID, reason string) {
	b.end(person, reason, func(w *watch) bool { return w.id.AppPassword == id })
}
