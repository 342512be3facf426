package selfservice

import (
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"dirpost/directory"
	"dirpost/internal/testenv"

	goldap "github.com/go-ldap/ldap/v3"
)

func TestLoginAndLogout(t *testing.T) {
	t.Parallel()
	c, s := slapdCorp(t)
	b := c.browser()
	for _, path := range []string{"", "password", "sessions", "factors", "factors/app", "confirm", "second"} {
		b.get(path).want(200, "login", "Log in")
	}
	b.login("alice", "wrong").want(403, "login", say("login.refused"))
	b.login("nobody", "wrong").want(403, "login", say("login.refused"))
	b.login("alice", "").want(403, "login", say("login.refused"))
	b.login("dave", s.UserPassword).want(403, "login", say("login.disabled"))
	b.login("dave", "wrong").want(403, "login", say("login.refused"))
	b.login("alice", s.UserPassword).want(200, "", "alice@corp.example")
	b.get("login").want(200, "", "alice@corp.example")
	b.get("sessions").want(200, "sessions", "127.0.0.1 (this one)")
	other := c.browser()
	other.login("alice", s.UserPassword).want(200, "", "Hello")
	if n := strings.Count(b.get("sessions").page, `scope="row"`); n != 2 {
		t.Errorf("%d sessions, want 2", n)
	}
	b.post("logout").want(200, "login?done=logout", say("done.logout"))
	b.get("").want(200, "login", "")
	other.get("sessions").want(200, "sessions", "")
	other.post("sessions").want(200, "login?done=everywhere", say("done.everywhere"))
	other.get("").want(200, "login", "")
	if k := <-c.killed; c.live.Snapshot().ByKey(k).Primary.String() != "alice@corp.example" {
		t.Errorf("logged out %s", k)
	}
	s.Stop()
	b.login("alice", s.UserPassword).want(503, "login", say("login.away"))
}

// What every page has in its header, whoever asks.
func TestHeaders(t *testing.T) {
	t.Parallel()
	c, s := slapdCorp(t)
	b := c.browser()
	check := func() {
		t.Helper()
		for name, want := range map[string]string{"Cache-Control": "no-store", "Content-Security-Policy": "default-src 'none'; style-src 'self'", "X-Frame-Options": "DENY"} {
			if got := b.head.Get(name); !strings.HasPrefix(got, want) {
				t.Errorf("%s: %s: %q", b.path, name, got)
			}
		}
		if strings.Contains(b.page, "<script>") || strings.Contains(b.page, "style=") || strings.Contains(b.page, "onclick") {
			t.Errorf("%s has a script or a style in it", b.path)
		}
	}
	b.get("login")
	check()
	b.login("alice", s.UserPassword)
	check()
	if v := b.head.Get("Content-Security-Policy"); strings.Contains(v, "script-src") {
		t.Errorf("a page without script may have one: %s", v)
	}
	for _, p := range []string{"password", "sessions", "factors", "factors/app", "confirm"} {
		b.get(p)
		check()
	}
	b.get("factors/key")
	if v := b.head.Get("Content-Security-Policy"); !strings.Contains(v, "script-src 'self'") || strings.Contains(v, "unsafe") {
		t.Errorf("key page: %s", v)
	}
	b.get("style.css").want(200, "style.css", "body")
	b.get("key.js").want(200, "key.js", "navigator.credentials")
	b.get("layout.html")
	if b.code != 404 {
		t.Errorf("a template is served: %d", b.code)
	}
}

// cookieOf returns the session of a browser.
func (b *browser) cookieOf() string {
	b.c.t.Helper()
	u, err := url.Parse(b.c.url + Root)
	if err != nil {
		b.c.t.Fatal(err)
	}
	for _, k := range b.client.Jar.Cookies(u) {
		if k.Name == cookieName {
			return k.Value
		}
	}
	return ""
}

// Requests that other sites cause, or that somebody makes by hand.
func TestHostile(t *testing.T) {
	t.Parallel()
	c, s := slapdCorp(t)
	b := c.browser()
	b.login("alice", s.UserPassword).want(200, "", "Hello")
	b.get("password")
	good := []string{"old", s.UserPassword, "new", "stolen", "again", "stolen"}
	refuse := func(name string, code int, change func(r *http.Request)) {
		t.Helper()
		r := b.form("password", good...)
		page := b.page
		change(r)
		if b.do(r); b.code != code {
			t.Errorf("%s: %d, want %d", name, b.code, code)
		}
		b.page = page
	}
	refuse("another site", 403, func(r *http.Request) { r.Header.Set("Sec-Fetch-Site", "cross-site") })
	refuse("another host of ours", 403, func(r *http.Request) { r.Header.Set("Sec-Fetch-Site", "same-site") })
	refuse("another origin", 403, func(r *http.Request) {
		r.Header.Del("Sec-Fetch-Site")
		r.Header.Set("Origin", "https://evil.example")
	})
	refuse("no origin", 403, func(r *http.Request) {
		r.Header.Del("Sec-Fetch-Site")
		r.Header.Set("Origin", "null")
	})
	refuse("another kind of form", 415, func(r *http.Request) { r.Header.Set("Content-Type", "text/plain") })
	refuse("multipart", 415, func(r *http.Request) { r.Header.Set("Content-Type", "multipart/form-data; boundary=x") })
	for _, token := range []string{"", "x", strings.Repeat("A", 43)} {
		b.post("password", append(good, "token", token)...).want(403, "password", say("error.token"))
		b.get("password")
	}
	b.post("password", append(good, "more", strings.Repeat("x", 2*maxForm))...)
	if b.code != 413 {
		t.Errorf("a huge form: %d", b.code)
	}
	b.get("password")
	r := b.form("password", good...)
	r.Body = io.NopCloser(strings.NewReader("a=%zz&b"))
	r.ContentLength = -1
	if b.do(r); b.code != 400 {
		t.Errorf("a form that cannot be read: %d", b.code)
	}
	b.get("password")

	// The login of somebody else, caused by another site.
	r = b.form("login", "user", "bob", "password", s.UserPassword)
	r.Header.Set("Sec-Fetch-Site", "cross-site")
	if b.do(r); b.code != 403 {
		t.Errorf("login from another site: %d", b.code)
	}
	for _, m := range []string{"GET", "HEAD", "PUT", "DELETE"} {
		r := b.form("logout")
		r.Method = m
		if b.do(r); b.code != 405 {
			t.Errorf("%s of a form: %d", m, b.code)
		}
	}
	// Nothing of the query gets into a page or a redirect.
	b.get("confirm?to=//evil.example&done=<b>x</b>")
	if strings.Contains(b.page, "evil") || strings.Contains(b.page, "<b>x") {
		t.Errorf("the query is in the page:\n%s", b.page)
	}
	b.post("confirm", "to", "https://evil.example/\r\nSet-Cookie: a=b", "password", s.UserPassword).want(200, "", "Hello")

	other := c.browser()
	evil := `"><script>alert(1)</script>` + "\r\nSet-Cookie: a=b"
	other.login(evil, "x").want(403, "login", say("login.refused"))
	if strings.Contains(other.page, "<script>") || other.head.Get("Set-Cookie") != "" {
		t.Errorf("what was typed is in the page as it was:\n%s", other.page)
	}
	for _, name := range []string{strings.Repeat("a", 5000), "\x00", "\xff", "*", "alice)(uid=*"} {
		other.login(name, "x").want(403, "login", say("login.refused"))
	}
	// The password never changed.
	other.login("alice", s.UserPassword).want(200, "", "Hello")
}

// A session that an attacker knows is worth nothing after the login, nor is one that
// has ended.
func TestFixation(t *testing.T) {
	t.Parallel()
	c, s := slapdCorp(t)
	b := c.browser()
	b.login("alice", s.UserPassword).want(200, "", "Hello")
	first := b.cookieOf()
	if len(first) != 43 {
		t.Fatalf("cookie %q", first)
	}
	b.post("logout")
	u, _ := url.Parse(c.url + Root)
	with := func(value string) *browser {
		o := c.browser()
		o.client.Jar.SetCookies(u, []*http.Cookie{{Name: cookieName, Value: value, Path: "/", Secure: true}})
		return o
	}
	with(first).get("").want(200, "login", "")
	b.login("alice", s.UserPassword).want(200, "", "Hello")
	second := b.cookieOf()
	// Somebody logs in with the cookie of a session that is there: it is not theirs after it.
	o := with(second)
	o.login("bob", s.UserPassword).want(200, "", "bob@corp.example")
	if o.cookieOf() == second {
		t.Error("the session of somebody else was taken over")
	}
	with(second).get("").want(200, "login", "")
	// It is made anew where the person shows again who it is.
	third := o.cookieOf()
	o.get("confirm").post("confirm", "password", s.UserPassword).want(200, "", "Hello")
	if o.cookieOf() == third {
		t.Error("the session was not made anew")
	}
	o.get("confirm").post("confirm", "password", "wrong").want(403, "confirm", say("login.refused"))
	for _, bad := range []string{"", "x", strings.Repeat("A", 43), strings.Repeat("A", 4000), third[:42]} {
		with(bad).get("").want(200, "login", "")
	}
	var n int
	if err := c.db.QueryRow(t.Context(), 0, "select count(*) from page_session where position($1::bytea in id_hash) > 0", []byte(third)).Scan(&n); err != nil || n != 0 {
		t.Errorf("%d sessions as they are in the cookie, %v", n, err)
	}
}

// Who is disabled is out with the next request, and who has too many sessions loses
// the oldest.
func TestSessionsEnd(t *testing.T) {
	t.Parallel()
	c, s := slapdCorp(t)
	b := c.browser()
	b.login("alice", s.UserPassword).want(200, "", "Hello")
	for range maxSessions {
		c.browser().login("alice", s.UserPassword).want(200, "", "Hello")
	}
	b.get("").want(200, "login", "")
	b.login("alice", s.UserPassword).want(200, "", "Hello")

	root, err := goldap.DialURL(s.SocketURL)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	if err := root.Bind(s.AdminDN, s.AdminPassword); err != nil {
		t.Fatal(err)
	}
	req := goldap.NewModifyRequest("uid=alice,ou=people,"+s.Base, nil)
	req.Replace("dirpostEnabled", []string{"nologin"})
	if err := root.Modify(req); err != nil {
		t.Fatal(err)
	}
	c.await("alice is disabled", func(s *directory.Snapshot) bool { return s.ByLogin("alice").Login == directory.StateDisabled })
	b.get("").want(200, "login", "")

	o := c.browser()
	o.login("bob", s.UserPassword).want(200, "", "Hello")
	if _, err := c.db.Exec(t.Context(), 0, "update page_session set seen_at = now() - interval '16 minutes'"); err != nil {
		t.Fatal(err)
	}
	o.get("").want(200, "login", "")
	o.login("bob", s.UserPassword).want(200, "", "Hello")
	if _, err := c.db.Exec(t.Context(), 0, "update page_session set created_at = now() - interval '9 hours'"); err != nil {
		t.Fatal(err)
	}
	o.get("").want(200, "login", "")
	if err := c.site.purge(t.Context()); err != nil {
		t.Fatal(err)
	}
	var n int
	if err := c.db.QueryRow(t.Context(), 0, "select count(*) from page_session").Scan(&n); err != nil || n != 0 {
		t.Errorf("%d sessions after the purge, %v", n, err)
	}
}

func TestChangePassword(t *testing.T) {
	t.Parallel()
	c, s := slapdCorp(t)
	b := c.browser()
	b.login("alice", s.UserPassword).want(200, "", "Hello")
	b.get("password").want(200, "password", say("password.text"))
	for _, tt := range []struct{ old, new, again, want string }{
		{s.UserPassword, "", "", "password.empty"},
		{s.UserPassword, "a new one", "another", "password.differ"},
		{s.UserPassword, s.UserPassword, s.UserPassword, "password.same"},
		{"wrong", "a new one", "a new one", "login.refused"},
		{s.UserPassword, "bad\x01", "bad\x01", "refused.too-simple"},
	} {
		b.post("password", "old", tt.old, "new", tt.new, "again", tt.again)
		if !strings.Contains(b.page, say(tt.want)) || b.code < 400 {
			t.Errorf("%+v: %d\n%s", tt, b.code, b.page)
		}
		if tt.new != "" && strings.Contains(b.page, tt.new) || strings.Contains(b.page, `value="`+s.UserPassword) {
			t.Error("a password is in the page")
		}
	}
	b.post("password", "old", s.UserPassword, "new", "Ein neues Paßwort", "again", "Ein neues Paßwort").want(200, "login?done=password", say("done.password"))
	if <-c.killed; !c.events.has("password changed") {
		t.Error("no event")
	}
	b.get("").want(200, "login", "")
	b.login("alice", s.UserPassword).want(403, "login", say("login.refused"))
	b.login("alice", "Ein neues Paßwort").want(200, "", "Hello")
	for _, e := range c.events.all {
		if text := fmt.Sprint(e); strings.Contains(text, "Paßwort") {
			t.Errorf("password in an event: %s", text)
		}
	}
}

// A password that must be changed is changed before the login, by who knows it.
func TestExpired(t *testing.T) {
	t.Parallel()
	s := testenv.Slapd(t)
	s.UsePasswordPolicy(t, "pwdMinLength: 8\npwdCheckQuality: 2\npwdMustChange: TRUE")
	c := newCorp(t, slapdConfig(t, s))
	root, err := goldap.DialURL(s.SocketURL)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	if err := root.Bind(s.AdminDN, s.AdminPassword); err != nil {
		t.Fatal(err)
	}
	req := goldap.NewModifyRequest("uid=alice,ou=people,"+s.Base, nil)
	req.Replace("pwdReset", []string{"TRUE"})
	if err := root.Modify(req); err != nil {
		t.Fatal(err)
	}
	b := c.browser()
	b.login("alice", "wrong").want(403, "login", say("login.refused"))
	b.login("alice", s.UserPassword).want(403, "login", say("expired.text"))
	if strings.Contains(b.page, `name="code"`) {
		t.Error("asks for a second factor that is not there")
	}
	b.post("expired", "user", "alice", "old", "wrong", "new", "long enough", "again", "long enough").want(403, "expired", say("login.refused"))
	b.post("expired", "user", "alice", "old", s.UserPassword, "new", "short", "again", "short").want(403, "expired", say("refused.too-short"))
	b.post("expired", "user", "alice", "old", s.UserPassword, "new", "long enough", "again", "long enough").want(200, "login?done=password", "")
	b.login("alice", "long enough").want(200, "", "Hello")
}
