package selfservice

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"strconv"
	"time"

	"dirpost/auth"
	"dirpost/auth/notice"
	"dirpost/directory"
	"dirpost/internal/envelope"
)

// passwordForm asks for the old and the new password.
func (c *call) passwordForm() error {
	if c.changer() == nil {
		return refused(http.StatusNotFound, "password.nowhere")
	}
	return c.show(http.StatusOK, "password", view{})
}

// changePassword changes the password of who is logged in. The old one is judged
// by the bridge first, with its limits.
func (c *call) changePassword() error {
	if c.changer() == nil {
		return refused(http.StatusNotFound, "password.nowhere")
	}
	again := func(code int, alert string) error { return c.show(code, "password", view{Alert: alert}) }
	if alert := c.checkNew(); alert != "" {
		return again(http.StatusBadRequest, alert)
	}
	id, err := c.site.deps.Bridge.Login(c.r.Context(), c.conn, c.loginName(), c.field("old"))
	switch {
	case errors.Is(err, auth.ErrExpired): // since this session began
	case err != nil:
		code, word := loginWord(err)
		return again(code, say(word))
	case id.Person != c.s.person || !isOwner(id):
		return again(http.StatusForbidden, say("login.refused"))
	}
	return c.change(c.e, again)
}

// changeExpired changes a password that does not let in any more. Nobody is logged
// in: name and old password are in the form, and the bridge judges them.
func (c *call) changeExpired() error {
	user := c.field("user")
	// The field for a second factor is there for who has shown the password; a form
	// that has it may have it again.
	v := expiredView{User: user, Factor: c.r.PostForm.Has("code")}
	again := func(code int, alert string) error { return c.show(code, "expired", view{Alert: alert, Page: v}) }
	if alert := c.checkNew(); alert != "" {
		return again(http.StatusBadRequest, alert)
	}
	id, err := c.site.deps.Bridge.Login(c.r.Context(), c.conn, user, c.field("old"))
	if err == nil && !isOwner(id) {
		err = auth.ErrCredentials
	}
	if err != nil && !errors.Is(err, auth.ErrExpired) {
		code, word := loginWord(err)
		return again(code, say(word))
	}
	e := c.site.entryOf(user)
	if e == nil || c.site.deps.Passwords[e.Directory] == nil {
		return again(http.StatusForbidden, say("password.nowhere"))
	}
	if v.Factor, err = c.hasFactor(e.Key); err != nil {
		return err
	}
	if v.Factor {
		if err := c.site.deps.Factors.Check(c.r.Context(), e.Key, c.field("code")); err != nil {
			word, err := c.factorWord(e, err)
			if err != nil {
				return err
			}
			return again(http.StatusForbidden, say(word))
		}
	}
	return c.change(e, again)
}

// expiredView is what the form for an expired password needs.
type expiredView struct {
	User   string
	Factor bool // a second factor is needed
}

func (c *call) expiredView(user string) (v expiredView, err error) {
	v.User = user
	if e := c.site.entryOf(user); e != nil {
		v.Factor, err = c.hasFactor(e.Key)
	}
	return v, err
}

// checkNew says what is wrong with the new password before anybody is asked.
func (c *call) checkNew() string {
	switch {
	case c.field("new") == "":
		return say("password.empty")
	case c.field("new") != c.field("again"):
		return say("password.differ")
	case c.field("new") == c.field("old"):
		return say("password.same")
	}
	return ""
}

// change lets the directory change the password of e, and logs the person out
// everywhere: what goes on with the old password shall not.
func (c *call) change(e *directory.Entry, again func(int, string) error) error {
	// A change that has begun is not given up because the browser is gone.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(c.r.Context()), 30*time.Second)
	defer cancel()
	err := c.site.deps.Passwords[e.Directory].ChangePassword(ctx, e, c.field("old"), c.field("new"))
	var (
		no  *directory.ChangeRefusal
		old *directory.Refusal
	)
	switch {
	case errors.As(err, &no):
		c.emit(ctx, "password not changed", e, envelope.Because(auth.ErrAuthorization.Status, no), slog.String("reason", no.Reason.String()))
		return again(http.StatusForbidden, changeWords(no))
	case errors.As(err, &old):
		c.emit(ctx, "password not changed", e, envelope.Because(auth.ErrCredentials.Status, old), slog.String("reason", old.Reason.String()))
		return again(http.StatusForbidden, say("login.refused"))
	case err != nil:
		c.emit(ctx, "password not changed", e, err, slog.String("reason", "directory"))
		return again(http.StatusServiceUnavailable, say("login.away"))
	}
	c.emit(ctx, "password changed", e, nil)
	c.site.awaitChange(ctx, e.Key)
	c.tell(e, notice.Password, say("notice.password"))
	if err := c.site.logOut(ctx, e.Key); err != nil {
		return err
	}
	c.setCookie("", -1)
	return c.redirect("login", "password")
}

// maxAwait bounds how long a person waits for the change to come back to us.
const maxAwait = 10 * time.Second

// awaitChange returns when the snapshot does not say any more that the password must
// be changed: before, the new one would not let in.
func (s *Site) awaitChange(ctx context.Context, person directory.Key) {
	changed := make(chan struct{}, 1)
	stop := s.deps.Live.Watch(func(*directory.Snapshot, []directory.Key) {
		select {
		case changed <- struct{}{}:
		default:
		}
	})
	defer stop()
	ctx, cancel := context.WithTimeout(ctx, maxAwait)
	defer cancel()
	for {
		e := s.deps.Live.Snapshot().ByKey(person)
		if e == nil || e.LoginState(time.Now()) != directory.StateMustChange {
			return
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return
		}
	}
}

// changeWords are what a person is told whose new password the directory does not
// take: why, and what it would.
func changeWords(r *directory.ChangeRefusal) string {
	text := say("refused." + r.Reason.String())
	if r.Reason == directory.ChangeForbidden || r.Reason == directory.ChangeOldWrong || r.Reason == directory.ChangeNoWay {
		return text
	}
	var rules []string
	if n := r.Rules.MinLength; n > 0 {
		rules = append(rules, say("rules.length", strconv.Itoa(n)))
	}
	if r.Rules.Complex {
		rules = append(rules, say("rules.complex"))
	}
	if n := r.Rules.History; n > 0 {
		rules = append(rules, say("rules.history", strconv.Itoa(n)))
	}
	if d := r.Rules.MinAge; d > 0 {
		rules = append(rules, say("rules.age", span(d)))
	}
	for i, rule := range rules {
		if i == 0 {
			text += " " + say("rules.intro")
		}
		text += " " + rule
	}
	return text
}

// span is a time span for people.
func span(d time.Duration) string {
	switch {
	case d >= 48*time.Hour:
		return say("span.days", strconv.Itoa(int(d.Round(24*time.Hour)/(24*time.Hour))))
	case d >= 2*time.Hour:
		return say("span.hours", strconv.Itoa(int(d.Round(time.Hour)/time.Hour)))
	}
	return say("span.minutes", strconv.Itoa(int(max(d.Round(time.Minute), time.Minute)/time.Minute)))
}
