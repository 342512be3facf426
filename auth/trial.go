package auth

import (
	"context"
	"fmt"
	"strings"
)

// A Step is one question that a login is asked, and the answer, for an
// administrator: it may tell what the person at the client is not told.
type Step struct {
	Name string `json:"step"` // "door", "mechanisms", "name", "password", "state", …
	OK   bool   `json:"ok"`
	Text string `json:"text"`
}

// A Trial is a login that an administrator makes to see what becomes of it.
type Trial struct {
	Conn Conn
	// Authcid is the name to log in with, Authzid whom to act as, "" oneself.
	Authcid, Authzid string
	// Password is judged like that of any login and may count as wrong. With none
	// the steps are those of a login whose password is right.
	Password string
}

// Try walks through a login on the same way as all, but answers at once. The error
// is the one that a client would have been answered with, nil for a login that
// works.
func (b *Bridge) Try(ctx context.Context, t Trial) ([]Step, error) {
	var steps []Step
	a := &attempt{mech: "LOGIN", authcid: t.Authcid, authzid: t.Authzid, pass: password(t.Password), start: b.now()}
	a.steps = &steps
	a.step("door", true, "%s", b.doorInWords(t.Conn))
	if !b.secure(t.Conn) {
		a.step("door", false, "no TLS: nothing that proves who one is may be sent")
		return steps, ErrPolicy
	}
	names := b.Mechanisms(t.Conn)
	a.step("mechanisms", len(names) > 0, "%s", strings.Join(names, " "))
	err := b.try(ctx, t.Conn, a)
	b.emit(ctx, t.Conn, a, err)
	return steps, err
}

func (b *Bridge) try(ctx context.Context, c Conn, a *attempt) error {
	var err error
	if a.pass != "" {
		err = b.password(ctx, c, a)
	} else if a.entry, err = b.find(ctx, c, a); err == nil {
		a.proof = ProofPassword
		if !b.takesDomainPassword(c, a.entry) {
			instead := ""
			if b.parts.AppPasswords != nil {
				instead = "; with an app password it would go on"
			}
			a.refuse("password", "door", "that of the domain is not taken from outside%s", instead)
			return ErrCredentials
		}
		a.step("password", true, "not asked for, and taken for right")
	}
	if err != nil {
		return err
	}
	_, err = b.admit(c, a)
	return err
}

// doorInWords says which door c comes through, and what that means for passwords.
func (b *Bridge) doorInWords(c Conn) string {
	switch {
	case b.cfg.Inside == nil:
		return "nobody has said which networks are inside, so all are"
	case b.Door(c) == Inside:
		return "inside: the password of the domain is taken"
	case b.takesDomainPasswords(c):
		return "outside: the password of the domain is taken from members of " + strings.Join(b.cfg.OutsidePasswordGroups, ", ")
	}
	return "outside: the password of the domain is not taken"
}

// step notes a step of a Trial; of no other login.
func (a *attempt) step(name string, ok bool, format string, args ...any) {
	if a.steps != nil {
		*a.steps = append(*a.steps, Step{name, ok, fmt.Sprintf(format, args...)})
	}
}

// stepNotice notes what the directory said of a right password beside that.
func (a *attempt) stepNotice() {
	if a.notice == nil {
		return
	}
	if a.notice.ExpiresIn > 0 {
		a.step("password", true, "it expires in %s", a.notice.ExpiresIn)
	}
	if a.notice.Grace >= 0 {
		a.step("password", true, "it has expired, and lets in %d times more", a.notice.Grace)
	}
}

// refuse notes for the audit and a Trial why a login ends here.
func (a *attempt) refuse(step, reason, format string, args ...any) {
	a.reason = reason
	a.step(step, false, format, args...)
}
