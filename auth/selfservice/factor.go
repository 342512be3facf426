package selfservice

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"strconv"

	"dirpost/auth"
	"dirpost/auth/factor"
	"dirpost/auth/notice"
	"dirpost/directory"
	"dirpost/internal/envelope"

	"rsc.io/qr"
)

// hasFactor reports whether a person has a second factor, which then must be shown.
func (c *call) hasFactor(person directory.Key) (bool, error) {
	all, err := c.site.deps.Factors.List(c.r.Context(), person)
	return len(all) > 0, err
}

// factorWord is what a person is told whose second factor was not right. An error
// that is not about that is returned.
func (c *call) factorWord(e *directory.Entry, err error) (word string, rest error) {
	switch {
	case errors.Is(err, factor.ErrCode):
		word = "second.wrong"
	case errors.Is(err, factor.ErrTooMany):
		word = "second.many"
	default:
		return "", err
	}
	c.emit(c.r.Context(), "second factor refused", e, envelope.Because(auth.ErrCredentials.Status, err))
	return word, nil
}

// secondView is what the page needs that asks for a second factor.
type secondView struct {
	To      string
	Options string // for security keys, "" where there are none
}

// secondForm asks for the second factor.
func (c *call) secondForm() error {
	return c.askSecond(http.StatusOK, "", known(c.r.URL.Query().Get("to")))
}

func (c *call) askSecond(code int, alert, to string) error {
	options, pending, err := c.site.deps.Factors.BeginCheck(c.r.Context(), c.e)
	if err != nil {
		return err
	}
	if err := c.keep(pending); err != nil {
		return err
	}
	return c.show(code, "second", view{Alert: alert, Script: options != nil, Page: secondView{To: to, Options: string(options)}})
}

// second takes a second factor. The session that follows has a secret of its own.
func (c *call) second() error {
	to := known(c.field("to"))
	pending, err := c.take()
	if err != nil {
		return err
	}
	if key := c.field("key"); key != "" {
		err = c.site.deps.Factors.FinishCheck(c.r.Context(), c.e, pending, []byte(key))
	} else {
		err = c.site.deps.Factors.Check(c.r.Context(), c.e.Key, c.field("code"))
	}
	if err != nil {
		word, err := c.factorWord(c.e, err)
		if err != nil {
			return err
		}
		return c.askSecond(http.StatusForbidden, say(word), to)
	}
	s := *c.s
	s.half, s.factor = false, s.now
	if err := c.create(c.r.Context(), &s); err != nil {
		return err
	}
	return c.redirect(to, "")
}

// factorView is one second factor.
type factorView struct {
	ID, Kind, Name, Created, Used string
}

// factorsView is the page of second factors.
type factorsView struct {
	All         []factorView
	Left        string // recovery codes
	App, Key    bool   // can be added
	HasRecovery bool
}

// factors shows the person's second factors.
func (c *call) factors() error {
	store := c.site.deps.Factors
	all, err := store.List(c.r.Context(), c.e.Key)
	if err != nil {
		return err
	}
	left, err := store.RecoveryLeft(c.r.Context(), c.e.Key)
	if err != nil {
		return err
	}
	v := factorsView{Left: strconv.Itoa(left), App: store.HasApps(), Key: store.HasKeys(), HasRecovery: len(all) > 0}
	for _, f := range all {
		o := factorView{ID: strconv.FormatInt(f.ID, 10), Kind: say("factors." + string(f.Kind)), Name: f.Name, Created: date(f.Created), Used: say("factors.never")}
		if !f.Used.IsZero() {
			o.Used = date(f.Used)
		}
		if f.Kind == factor.KindApp {
			v.App = false // one is enough
		}
		v.All = append(v.All, o)
	}
	return c.show(http.StatusOK, "factors", view{Page: v})
}

// appView is what the page needs that enrols an app.
type appView struct{ Secret string }

// appForm begins to enrol an app.
func (c *call) appForm() error {
	if !c.site.deps.Factors.HasApps() {
		return refused(http.StatusNotFound, "factors.nowhere")
	}
	secret, pending, err := c.site.deps.Factors.BeginApp(c.e.Key)
	if err != nil {
		return err
	}
	if err := c.keep(pending); err != nil {
		return err
	}
	return c.show(http.StatusOK, "app", view{Page: appView{factor.SecretText(secret)}})
}

// appPicture is the secret of the enrolment under way, as apps scan it.
func (c *call) appPicture() error {
	secret, err := c.site.deps.Factors.BegunApp(c.e.Key, c.s.pending)
	if err != nil {
		return refused(http.StatusNotFound, "app.old")
	}
	code, err := qr.Encode(factor.URI(c.site.cfg.Name, c.e.Primary.Unicode(), secret), qr.M)
	if err != nil {
		return err
	}
	code.Scale = 5
	c.w.Header().Set("Content-Type", "image/png")
	_, _ = c.w.Write(code.PNG()) // the client has left
	return nil
}

// addApp enrols the app. A wrong code can be corrected.
func (c *call) addApp() error {
	store := c.site.deps.Factors
	secret, err := store.BegunApp(c.e.Key, c.s.pending)
	if err != nil {
		return refused(http.StatusBadRequest, "app.old")
	}
	err = store.FinishApp(c.r.Context(), c.e.Key, c.field("name"), c.s.pending, c.field("code"))
	switch {
	case errors.Is(err, factor.ErrCode):
		return c.show(http.StatusForbidden, "app", view{Alert: say("app.wrong"), Page: appView{factor.SecretText(secret)}})
	case errors.Is(err, factor.ErrExists):
		return refused(http.StatusConflict, "factors.exists")
	case err != nil:
		return err
	}
	if err := c.keep(nil); err != nil {
		return err
	}
	return c.added(factor.KindApp)
}

// keyView is what the page needs that enrols a security key.
type keyView struct{ Options string }

// keyForm begins to enrol a security key.
func (c *call) keyForm() error { return c.askKey(http.StatusOK, "") }

func (c *call) askKey(code int, alert string) error {
	if !c.site.deps.Factors.HasKeys() {
		return refused(http.StatusNotFound, "factors.nowhere")
	}
	options, pending, err := c.site.deps.Factors.BeginKey(c.r.Context(), c.e)
	if errors.Is(err, factor.ErrTooManyKeys) {
		return refused(http.StatusConflict, "factors.many")
	}
	if err != nil {
		return err
	}
	if err := c.keep(pending); err != nil {
		return err
	}
	return c.show(code, "key", view{Alert: alert, Script: true, Page: keyView{string(options)}})
}

// addKey enrols the security key.
func (c *call) addKey() error {
	pending, err := c.take()
	if err != nil {
		return err
	}
	err = c.site.deps.Factors.FinishKey(c.r.Context(), c.e, c.field("name"), pending, []byte(c.field("key")))
	switch {
	case errors.Is(err, factor.ErrCode):
		c.emit(c.r.Context(), "second factor not added", c.e, envelope.Because(auth.ErrCredentials.Status, err))
		return c.askKey(http.StatusForbidden, say("key.wrong"))
	case errors.Is(err, factor.ErrExists):
		return refused(http.StatusConflict, "factors.exists")
	case errors.Is(err, factor.ErrTooManyKeys):
		return refused(http.StatusConflict, "factors.many")
	case err != nil:
		return err
	}
	return c.added(factor.KindKey)
}

// added goes on after a factor was added: with the first one come recovery codes.
// The session has shown a factor by it.
func (c *call) added(kind factor.Kind) error {
	c.emit(c.r.Context(), "second factor added", c.e, nil, slog.String("kind", string(kind)))
	c.tell(c.e, notice.Factor, say("factors."+string(kind))+" "+strconv.Quote(factor.Name(c.field("name"))))
	s := *c.s
	s.half, s.factor, s.pending = false, s.now, nil
	if err := c.create(c.r.Context(), &s); err != nil {
		return err
	}
	c.s.id = s.id // the page that follows has the token of the new session
	left, err := c.site.deps.Factors.RecoveryLeft(c.r.Context(), c.e.Key)
	if err != nil {
		return err
	}
	if left > 0 {
		return c.redirect("factors", "factor")
	}
	return c.showCodes()
}

// newCodes makes new recovery codes.
func (c *call) newCodes() error {
	has, err := c.hasFactor(c.e.Key)
	if err != nil {
		return err
	}
	if !has { // there is nothing that they would stand in for
		return c.redirect("factors", "")
	}
	c.emit(c.r.Context(), "recovery codes made", c.e, nil)
	c.tell(c.e, notice.Factor, say("factors.codes"))
	return c.showCodes()
}

func (c *call) showCodes() error {
	// The codes before are gone once there are new ones: they must get to the person.
	codes, err := c.site.deps.Factors.NewRecovery(context.WithoutCancel(c.r.Context()), c.e.Key)
	if err != nil {
		return err
	}
	return c.show(http.StatusOK, "codes", view{Page: codes})
}

// removeFactor takes a factor away.
func (c *call) removeFactor() error {
	id, err := strconv.ParseInt(c.field("id"), 10, 64)
	if err != nil {
		return refused(http.StatusBadRequest, "error.form")
	}
	ok, err := c.site.deps.Factors.Remove(c.r.Context(), c.e.Key, id)
	if err != nil {
		return err
	}
	if !ok {
		return c.redirect("factors", "")
	}
	c.emit(c.r.Context(), "second factor removed", c.e, nil)
	c.tell(c.e, notice.FactorRemoved, say("notice.removed"))
	return c.redirect("factors", "removed")
}
