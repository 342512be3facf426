package selfservice

import (
	"strings"
	"testing"

	"dirpost/auth/apppassword"
	"dirpost/internal/testenv"
)

// withApps gives a site app passwords.
func withApps(c *corp, s *setting) {
	s.apps = apppassword.New(apppassword.Config{Max: 3}, c.db, nobody{}, c.events, quiet)
	s.parts.AppPasswords = s.apps
}

func TestAppPasswords(t *testing.T) {
	t.Parallel()
	s := testenv.Slapd(t)
	c := newCorp(t, slapdConfig(t, s), withApps)
	b := c.browser()
	b.login("alice", s.UserPassword).want(200, "", say("home.apps"))
	b.get("apps").want(200, "apps", say("apps.none"))
	b.post("apps", "name", "Phone").want(400, "apps", say("apps.which"))
	b.post("apps", "name", "", "service", "imap").want(400, "apps", say("apps.invalid"))
	b.post("apps", "name", "x", "service", "http").want(400, "apps", say("apps.invalid"))
	b.post("apps", "name", `<i>Phone</i>`, "service", "imap").want(200, "apps", say("made.text"))
	secret := strings.TrimSpace(b.find(`id="secret">([^<]*)<`))
	if !apppassword.Recognise(secret) || strings.Contains(b.page, "<i>") {
		t.Fatalf("secret %q in\n%s", secret, b.page)
	}
	b.get("apps").want(200, "apps", `<i>Phone</i>`)
	if strings.Contains(b.page, secret) || strings.Contains(b.page, "<i>Phone") {
		t.Error("the app password is shown again, or its name as it was")
	}
	b.post("apps", "name", `<i>phone</i>`, "service", "imap").want(409, "apps", say("apps.exists"))
	// It opens no page on which others are made.
	o := c.browser()
	o.login("alice", secret)
	if o.get("apps").path != "login" {
		t.Errorf("an app password has opened %q", o.path)
	}
	o.login("bob", s.UserPassword).want(200, "", "Hello")
	id := b.find(`name="id" value="([^"]+)"`)
	o.get("apps").post("apps/revoke", "id", id).want(200, "apps?done=revoked", "") // of somebody else: nothing
	if b.get("apps").find(`name="id" value="([^"]+)"`) != id {
		t.Error("somebody else has revoked it")
	}
	if _, err := c.db.Exec(t.Context(), 0, "update page_session set proved_at = now() - interval '11 minutes'"); err != nil {
		t.Fatal(err)
	}
	b.post("apps", "name", "later", "service", "imap").want(200, "confirm?to=apps", say("confirm.text"))
	b.post("confirm", "to", "apps", "password", s.UserPassword).want(200, "apps", "")
	b.post("apps/revoke", "id", id).want(200, "apps?done=revoked", say("apps.none"))
	b.post("apps/revoke", "id", "?!").want(400, "apps/revoke", "")
	var kinds string
	if err := c.db.QueryRow(t.Context(), 0, "select string_agg(kind, ' ') from auth_notice").Scan(&kinds); err != nil || kinds != "app-password" {
		t.Errorf("told of %q, %v", kinds, err)
	}
}

// Where a second factor is required, a password alone makes no credential.
func TestRequiredFactor(t *testing.T) {
	t.Parallel()
	s := testenv.Slapd(t)
	c := newCorp(t, slapdConfig(t, s), withApps, func(_ *corp, s *setting) { s.site.RequireFactor = true })
	b := c.browser()
	b.login("alice", s.UserPassword).want(200, "", "Hello")
	b.get("apps").want(200, "apps", say("apps.factor"))
	b.post("apps", "name", "Phone", "service", "imap").want(403, "apps", say("apps.factor"))
	b.get("factors/app")
	a := newApp(t, b)
	b.post("factors/app", "code", a.code(0), "name", "phone").want(200, "factors/app", say("codes.text"))
	b.get("apps").post("apps", "name", "Phone", "service", "imap").want(200, "apps", say("made.text"))
}
