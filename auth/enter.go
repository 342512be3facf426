package auth

import (
	"context"
	"errors"
	"strings"
	"time"

	"dirpost/auth/apppassword"
	"dirpost/auth/permit"
	"dirpost/directory"
	"dirpost/internal/envelope"
)

// Proof says how somebody has proved who they are.
type Proof uint8

// The kinds of proof.
const (
	ProofPassword    Proof = iota + 1 // the password of the domain
	ProofAppPassword                  // a password that we have issued
	ProofTicket                       // a Kerberos ticket
	ProofToken                        // a token of an issuer that we trust
	ProofCertificate                  // a client certificate
)

// String returns the word for p in the audit.
func (p Proof) String() string {
	words := [...]string{"none", "password", "app-password", "ticket", "token", "certificate"}
	if int(p) < len(words) {
		return words[p]
	}
	return "unknown"
}

// attempt is one login and what was found out about it: the state between a
// mechanism's server and enter.
type attempt struct {
	mech             string
	authzid, authcid string // as the client said them
	pass             password

	start  time.Time        // when the last response came
	entry  *directory.Entry // who it is about; who it is, once the proof was right
	proof  Proof
	until  time.Time             // when the proof ends and the session with it; zero: never
	app    *apppassword.Password // which one, with ProofAppPassword
	reason string                // one of auditReasons, for the audit only
	how    string                // "bind", "memory", or "" when the directory was not asked
	notice *directory.Notice
	target *directory.Entry // whom to act as, once it is known; nil: oneself
	steps  *[]Step          // of a Trial, nil for any other login
}

// enter is the one end of every login, by whatever mechanism. refused is why the
// proof was not right; nil when a.entry has proved who it is, and what is left to
// ask is whether the person may come in. It writes the audit. A refusal is kept
// until FailureTime has passed since the credentials came, or the next multiple
// of it where something was slower than that. A success leaves at once.
func (b *Bridge) enter(ctx context.Context, c Conn, a *attempt, refused error) (id *Identity, err error) {
	if err = refused; err == nil {
		id, err = b.admit(c, a)
	}
	if errors.Is(err, ErrExpired) && b.cfg.ChangeURL != "" {
		err = envelope.Because(ErrExpired.Status.WithText("Password expired, change it first: "+b.cfg.ChangeURL), err)
	}
	b.emit(ctx, c, a, err)
	if err == nil {
		if b.parts.Permits != nil {
			b.parts.Permits.Welcome(permit.Login{Entry: a.entry, Client: c.Client, Certificate: clientCertificate(c), Device: c.Device})
		}
		if a.app != nil {
			b.parts.AppPasswords.Used(a.app.ID, c.Client, service(c.Protocol))
		}
		return id, nil
	}
	answer := time.NewTimer(b.cfg.FailureTime - b.now().Sub(a.start)%b.cfg.FailureTime)
	defer answer.Stop()
	select {
	case <-answer.C:
	case <-ctx.Done():
	}
	return nil, err
}

// admit asks what is left when the proof was right, of the directory as it is
// now: the state of the account where the directory does not enforce it at the
// bind, policies, the protocol, and on whose behalf.
func (b *Bridge) admit(c Conn, a *attempt) (*Identity, error) {
	s := b.live.Snapshot()
	e := s.ByKey(a.entry.Key)
	if e == nil || !mayProve(s, e, a.authzid) {
		a.refuse("name", "no-mailbox", "it is no person with a mailbox here any more")
		return nil, ErrCredentials
	}
	switch state := e.LoginState(b.now()); {
	case state == directory.StateDisabled, state == directory.StateGrace:
		a.refuse("state", "disabled", "the account is %s", state)
		return nil, ErrDisabled
	case state == directory.StateExpired:
		a.refuse("state", "expired", "the account has expired")
		return nil, ErrDisabled
	case state == directory.StateMustChange && a.proof == ProofPassword:
		// It is the password that must be changed, and nothing but it.
		a.refuse("state", "must-change", "the password must be changed first")
		return nil, ErrExpired
	}
	a.step("state", true, "the account is %s", e.LoginState(b.now()))
	limits := s.Limits(e)
	if limits.NoLogin {
		a.refuse("policy", "policy", "a policy of a group refuses logins")
		return nil, ErrDisabled
	}
	// Who may use no mail protocol may still have a password to change.
	if c.Protocol != "http" && !limits.MayUseService(service(c.Protocol)) {
		a.refuse("protocol", "service", "%s is not among the protocols of this person: %s", service(c.Protocol), strings.Join(limits.Services, ", "))
		return nil, ErrAuthorization
	}
	if a.app != nil && !a.app.Serves(service(c.Protocol)) {
		a.refuse("protocol", "app-password-service", "the app password %q is not for %s", a.app.Name, service(c.Protocol))
		return nil, ErrAuthorization
	}
	a.step("protocol", true, "%s is allowed", service(c.Protocol))
	as, err := b.onBehalf(c, a, s, e)
	if err != nil {
		return nil, err
	}
	id := &Identity{
		Person: as.Key, Address: as.Primary, Name: as.DisplayName, Authcid: a.authcid, Actor: e.Key,
		Mechanism: a.mech, Proof: a.proof, Until: a.until, Notice: a.notice,
		Protocol: c.Protocol, Client: c.Client,
	}
	if a.app != nil {
		id.AppPassword = a.app.ID
	}
	return id, nil
}

// service is the name of a protocol among the services of an entry.
func service(protocol string) string {
	switch protocol {
	case "smtp":
		return "submission"
	case "managesieve":
		return "sieve"
	}
	return protocol
}
