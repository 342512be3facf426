package selfservice

import (
	"errors"
	"log/slog"
	"net/http"

	"dirpost/auth"
	"dirpost/directory"
	"dirpost/internal/envelope"
)

// home shows what the person can do here.
func (c *call) home() error {
	return c.show(http.StatusOK, "home", view{Page: struct{ CanChange, HasApps bool }{c.changer() != nil, c.site.deps.AppPasswords != nil}})
}

// loginView is what the login page shows again after a refusal.
type loginView struct{ User, Certificate string }

// loginView is the page that asks who it is, with the way to where a certificate is asked
// for, for who is not there already.
func (c *call) loginView(user string) loginView {
	v := loginView{User: user}
	if !c.isAsking() {
		v.Certificate = c.site.cfg.CertificateURL
	}
	return v
}

// loginForm asks who it is, a browser with a certificate or a Kerberos ticket before the
// person. Who has
// just logged out is not logged in again by it.
func (c *call) loginForm() error {
	if c.s != nil {
		return c.redirect("", "")
	}
	code, alert := http.StatusOK, ""
	if !c.r.URL.Query().Has("done") {
		var (
			handled bool
			err     error
		)
		if handled, code, alert, err = c.proved(""); handled || err != nil {
			return err
		}
	}
	return c.show(code, "login", view{Alert: alert, Page: c.loginView("")})
}

// login begins a session with a password.
func (c *call) login() error {
	user := c.field("user")
	id, err := c.site.deps.Bridge.Login(c.r.Context(), c.conn, user, c.field("password"))
	switch {
	case errors.Is(err, auth.ErrExpired):
		v, err := c.expiredView(user)
		if err != nil {
			return err
		}
		return c.show(http.StatusForbidden, "expired", view{Page: v})
	case err == nil && !isOwner(id):
		err = auth.ErrCredentials
	}
	if err != nil {
		code, word := loginWord(err)
		return c.show(code, "login", view{Alert: say(word), Page: c.loginView(user)})
	}
	return c.enter(&session{person: id.Person, authcid: id.Authcid, mechanism: id.Mechanism}, "")
}

// isOwner reports whether somebody has logged in as the person that they are, by what
// is the domain's or was given out by its authority: neither may a master look after the login of somebody else, nor an
// app password make another one.
func isOwner(id *auth.Identity) bool {
	return (id.Actor == "" || id.Actor == id.Person) && (id.Proof == auth.ProofPassword || id.Proof == auth.ProofTicket || id.Proof == auth.ProofCertificate)
}

// enter begins a session for who has shown who it is, and asks for the second factor
// where there is one.
func (c *call) enter(s *session, to string) error {
	has, err := c.hasFactor(s.person)
	if err != nil {
		return err
	}
	s.half = has && !s.strong
	if err := c.create(c.r.Context(), s); err != nil {
		return err
	}
	if s.half {
		return c.redirectTo("second?to=" + to)
	}
	return c.redirect(to, "")
}

// loginWord is what a person is told whose login was refused.
func loginWord(err error) (code int, word string) {
	st := envelope.StatusOf(err)
	switch {
	case errors.Is(err, auth.ErrDisabled):
		return http.StatusForbidden, "login.disabled"
	case errors.Is(err, auth.ErrExpired):
		return http.StatusForbidden, "login.expired"
	case errors.Is(err, auth.ErrAuthorization), st == auth.ErrHours.Status:
		return http.StatusForbidden, "login.authorization"
	case st.IsTemporary():
		return http.StatusServiceUnavailable, "login.away"
	}
	return http.StatusForbidden, "login.refused"
}

// logout ends the session.
func (c *call) logout() error {
	if err := c.site.end(c.r.Context(), c.s); err != nil {
		return err
	}
	c.setCookie("", -1)
	c.emit(c.r.Context(), "page session ended", c.e, nil)
	return c.redirect("login", "logout")
}

// confirmPages are the pages to which one goes on after having shown again who it
// is.
var confirmPages = map[string]string{
	"password": "password", "apps": "apps", "factors": "factors", "factors/app": "factors/app", "factors/key": "factors/key",
	"factors/codes": "factors", "factors/remove": "factors",
}

// loginName is a name by which the bridge finds the person of the session: the one
// that was typed, unless that was in a ticket or is somebody else's by now.
func (c *call) loginName() string {
	s := c.site.deps.Live.Snapshot()
	for _, name := range append([]string{c.s.authcid, c.e.Primary.String()}, c.e.Logins...) {
		if e := s.ByLogin(name); e != nil && e.Key == c.e.Key {
			return name
		}
	}
	return c.s.authcid
}

// confirmView is what the form needs.
type confirmView struct {
	To   string
	User string
}

// confirmForm asks a person who has logged in some time ago to show again who it
// is.
func (c *call) confirmForm() error {
	handled, code, alert, err := c.proved(known(c.r.URL.Query().Get("to")))
	if handled || err != nil {
		return err
	}
	return c.show(code, "confirm", view{Alert: alert, Page: confirmView{To: known(c.r.URL.Query().Get("to")), User: c.loginName()}})
}

// known is a page of confirmPages, "" for anything else that a browser may send.
func known(to string) string { return confirmPages[to] }

// confirm takes the password again. A session that nobody can confirm stays as it
// is.
func (c *call) confirm() error {
	v := confirmView{To: known(c.field("to")), User: c.loginName()}
	id, err := c.site.deps.Bridge.Login(c.r.Context(), c.conn, v.User, c.field("password"))
	if err == nil && (id.Person != c.s.person || !isOwner(id)) { // the name is somebody else's by now
		err = auth.ErrCredentials
	}
	if err != nil {
		code, word := loginWord(err)
		return c.show(code, "confirm", view{Alert: say(word), Page: v})
	}
	return c.enter(&session{person: id.Person, authcid: c.s.authcid, mechanism: id.Mechanism}, v.To)
}

// changer changes the password of the person, nil if nobody does.
func (c *call) changer() PasswordChanger { return c.site.deps.Passwords[c.e.Directory] }

// logOutEverywhere ends all sessions of the person, of mail programs too.
func (c *call) logOutEverywhere() error {
	if err := c.site.logOut(c.r.Context(), c.e.Key); err != nil {
		return err
	}
	c.setCookie("", -1)
	c.emit(c.r.Context(), "person logged out everywhere", c.e, nil, slog.String("by", "the person"))
	return c.redirect("login", "everywhere")
}

// entryOf finds the person of a login that the bridge has judged, nil if the name
// does not lead to one.
func (s *Site) entryOf(user string) *directory.Entry {
	e := s.deps.Live.Snapshot().ByLogin(user)
	if e == nil {
		return nil
	}
	return s.person(e.Key)
}
