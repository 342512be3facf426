package selfservice

import (
	"errors"
	"net/http"
	"strings"

	"dirpost/auth/apppassword"
	"dirpost/auth/notice"
	"dirpost/directory"
)

// byPerson is who the audit names for what a person does here.
const byPerson = "the person, on the self-service page"

// appPasswordView is one app password.
type appPasswordView struct {
	ID, Name, Services, Created, Expires, Used string
}

// serviceView is a protocol that an app password can be for.
type serviceView struct{ Name, Text string }

// appPasswordsView is the page of app passwords.
type appPasswordsView struct {
	All         []appPasswordView
	Services    []serviceView
	Name        string // as typed, after a refusal
	NeedsFactor bool   // a second factor must be enrolled first
}

// serviceText is a service for people.
func serviceText(name string) string {
	if text, ok := words["service."+name]; ok {
		return text
	}
	return name
}

// appPasswords shows the app passwords of the person.
func (c *call) appPasswords() error { return c.showAppPasswords(http.StatusOK, "", "") }

func (c *call) showAppPasswords(code int, alert, name string) error {
	if c.site.deps.AppPasswords == nil {
		return refused(http.StatusNotFound, "apps.nowhere")
	}
	all, err := c.site.deps.AppPasswords.List(c.r.Context(), c.e.Key)
	if err != nil {
		return err
	}
	v := appPasswordsView{Name: name}
	if v.NeedsFactor, err = c.needsFactor(); err != nil {
		return err
	}
	now := c.site.deps.DB.Now()
	for _, p := range all {
		o := appPasswordView{ID: p.ID.String(), Name: p.Name, Services: say("apps.everything"), Created: date(p.Created), Used: say("factors.never"), Expires: say("factors.never")}
		if len(p.Services) > 0 {
			var texts []string
			for _, s := range p.Services {
				texts = append(texts, serviceText(s))
			}
			o.Services = strings.Join(texts, ", ")
		}
		switch {
		case p.Expired(now):
			o.Expires = say("apps.expired")
		case !p.Expires.IsZero():
			o.Expires = date(p.Expires)
		}
		if !p.LastUsed.IsZero() {
			o.Used = say("apps.used", date(p.LastUsed), serviceText(p.LastService), p.LastClient.String())
		}
		v.All = append(v.All, o)
	}
	for _, s := range directory.ServiceNames() {
		v.Services = append(v.Services, serviceView{s, serviceText(s)})
	}
	return c.show(code, "apps", view{Alert: alert, Page: v})
}

// needsFactor reports whether the person must enrol a second factor before a
// credential is made: where the administrator wants it, and the person has logged in
// by a password alone.
func (c *call) needsFactor() (bool, error) {
	if !c.site.cfg.RequireFactor || c.s.strong {
		return false, nil
	}
	has, err := c.hasFactor(c.e.Key)
	return !has, err
}

// newAppPassword makes an app password, and shows it: it cannot be had again.
func (c *call) newAppPassword() error {
	store := c.site.deps.AppPasswords
	if store == nil {
		return refused(http.StatusNotFound, "apps.nowhere")
	}
	name := c.field("name")
	needs, err := c.needsFactor()
	if err != nil {
		return err
	}
	if needs {
		return c.showAppPasswords(http.StatusForbidden, say("apps.factor"), name)
	}
	if len(c.r.PostForm["service"]) == 0 { // none would mean all of them
		return c.showAppPasswords(http.StatusBadRequest, say("apps.which"), name)
	}
	secret, p, err := store.Issue(c.r.Context(), apppassword.Request{Person: c.e.Key, Name: name, Services: c.r.PostForm["service"], By: byPerson})
	switch {
	case errors.Is(err, apppassword.ErrTooMany):
		return c.showAppPasswords(http.StatusConflict, say("apps.many"), name)
	case errors.Is(err, apppassword.ErrExists):
		return c.showAppPasswords(http.StatusConflict, say("apps.exists"), name)
	case errors.Is(err, apppassword.ErrInvalid):
		return c.showAppPasswords(http.StatusBadRequest, say("apps.invalid"), name)
	case err != nil:
		return err
	}
	c.tell(c.e, notice.AppPassword, say("notice.app", p.Name))
	return c.show(http.StatusOK, "app-password", view{Page: struct{ Name, User, Secret string }{p.Name, c.e.Primary.Unicode(), string(secret)}})
}

// revokeAppPassword ends an app password, and the sessions that it has opened.
func (c *call) revokeAppPassword() error {
	store := c.site.deps.AppPasswords
	if store == nil {
		return refused(http.StatusNotFound, "apps.nowhere")
	}
	id, err := apppassword.ParseID(c.field("id"))
	if err != nil {
		return refused(http.StatusBadRequest, "error.form")
	}
	err = store.Revoke(c.r.Context(), c.e.Key, byPerson, id)
	if err != nil && !errors.Is(err, apppassword.ErrNotFound) { // gone is gone
		return err
	}
	return c.redirect("apps", "revoked")
}
