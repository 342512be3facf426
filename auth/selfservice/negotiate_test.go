package selfservice

import (
	"encoding/base64"
	"net/http"
	"net/netip"
	"testing"

	"dirpost/auth/krb5"
	"dirpost/internal/gssapi"
	"dirpost/internal/testenv"
)

// ticket gets a page with a Kerberos ticket of somebody.
func (b *browser) ticket(r *testenv.Realm, path, header string) *browser {
	b.c.t.Helper()
	req, err := http.NewRequest("GET", b.c.url+Root+path, nil)
	if err != nil {
		b.c.t.Fatal(err)
	}
	req.Header.Set("Authorization", header)
	return b.do(req)
}

func negotiateHeader(t *testing.T, r *testenv.Realm, who string) string {
	t.Helper()
	i, err := gssapi.NewInitiator(gssapi.Account{Principal: who, Realm: r.Name, Password: who, KDCs: []string{r.KDC}})
	if err != nil {
		t.Fatal(err)
	}
	x, err := i.Initiate(t.Context(), "HTTP", "mail.corp.example")
	if err != nil {
		t.Fatal(err)
	}
	return "Negotiate " + base64.StdEncoding.EncodeToString(x.Token)
}

// A browser with a ticket is logged in without a word, others see the form; who has
// logged out stays out, and a ticket counts for a second factor.
func TestSingleSignOn(t *testing.T) {
	t.Parallel()
	r := testenv.StartRealm(t, "CORP.EXAMPLE")
	r.AddPerson(t, "alice")
	r.AddPerson(t, "dave")
	s := testenv.Slapd(t)
	withTickets := func(inside []netip.Prefix) func(*corp, *setting) {
		return func(_ *corp, s *setting) {
			s.parts.Tickets = krb5.New(krb5.Config{Outside: true, Realms: []krb5.Realm{{Name: r.Name, Login: krb5.LoginName, Directory: "corp"}}})
			if err := s.parts.Tickets.SetKeytab("", r.Keytab(t, "HTTP/mail.corp.example")); err != nil {
				t.Fatal(err)
			}
			s.auth.Inside = inside
			s.site.RequireFactor = true
		}
	}
	c := newCorp(t, slapdConfig(t, s), withTickets(nil), withApps)
	b := c.browser()
	b.get("").want(401, "login", "Log in")
	if h := b.head.Get("WWW-Authenticate"); h != "Negotiate" {
		t.Errorf("asked for %q", h)
	}
	if b.get("login?done=logout").want(200, "login?done=logout", say("done.logout")); b.head.Get("WWW-Authenticate") != "" {
		t.Error("asked for a ticket after logging out")
	}
	header := negotiateHeader(t, r, "alice")
	b.ticket(r, "login", header).want(200, "", "alice@corp.example")
	b.get("apps").post("apps", "name", "Phone", "service", "imap").want(200, "apps", say("made.text")) // no second factor is needed
	b.get("factors/app")
	a := newApp(t, b)
	b.post("factors/app", "code", a.code(0), "name", "phone").want(200, "factors/app", say("codes.text"))
	b.post("logout")
	b.ticket(r, "login", negotiateHeader(t, r, "alice")).want(200, "", "alice@corp.example")
	if _, err := c.db.Exec(t.Context(), 0, "update page_session set proved_at = now() - interval '11 minutes'"); err != nil {
		t.Fatal(err)
	}
	b.get("factors/key").want(401, "confirm?to=factors/key", say("confirm.text"))
	b.ticket(r, "confirm?to=factors/key", negotiateHeader(t, r, "alice")).want(200, "factors/key", say("key.text"))

	o := c.browser()
	o.ticket(r, "login", header).want(403, "login", say("login.ticket")) // a second time
	o.ticket(r, "login", negotiateHeader(t, r, "dave")).want(403, "login", say("login.disabled"))
	for _, bad := range []string{"Negotiate", "Negotiate !", "Negotiate TlRMTVNTUAABAAAA"} {
		if o.ticket(r, "login", bad); o.code != 403 && o.code != 401 || o.path != "login" {
			t.Errorf("%q: %d at %q", bad, o.code, o.path)
		}
	}
	o.login("alice", s.UserPassword).want(200, "second?to=", say("second.text"))

	// Through the outside door a ticket lets in, and is no second factor.
	c = newCorp(t, slapdConfig(t, s), withTickets([]netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}), withApps)
	b = c.browser()
	b.ticket(r, "login", negotiateHeader(t, r, "alice")).want(200, "", "alice@corp.example")
	b.get("apps").want(200, "apps", say("apps.factor"))
}
