package selfservice

import (
	"encoding/base64"
	"net/http"
	"net/netip"
	"strings"
	"testing"

	"dirpost/auth/krb5"
	"dirpost/internal/gssapi"
	"dirpost/internal/testenv"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"
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

// A browser that likes Kerberos best and has not sent its ticket yet, sends it in a second
// request on the same connection (RFC 4178 §4.2.2); on another one it means nothing.
func TestSingleSignOnInSteps(t *testing.T) {
	t.Parallel()
	r := testenv.StartRealm(t, "CORP.EXAMPLE")
	r.AddPerson(t, "alice")
	c := newCorp(t, slapdConfig(t, testenv.Slapd(t)), func(_ *corp, s *setting) {
		s.parts.Tickets = krb5.New(krb5.Config{Outside: true, Realms: []krb5.Realm{{Name: r.Name, Login: krb5.LoginName, Directory: "corp"}}})
		if err := s.parts.Tickets.SetKeytab("", r.Keytab(t, "HTTP/mail.corp.example")); err != nil {
			t.Fatal(err)
		}
	})
	// NegTokenInit { mechTypes { 1.2.840.113554.1.2.2 } }
	offer := "Negotiate " + base64.StdEncoding.EncodeToString([]byte("\x60\x1b\x06\x06\x2b\x06\x01\x05\x05\x02\xa0\x11\x30\x0f\xa0\x0d\x30\x0b\x06\x09\x2a\x86\x48\x86\xf7\x12\x01\x02\x02"))
	ticket, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(negotiateHeader(t, r, "alice"), "Negotiate "))
	if err != nil {
		t.Fatal(err)
	}
	// NegTokenResp { responseToken }
	octets := cryptobyte.NewBuilder(nil)
	octets.AddASN1(asn1.Tag(1).Constructed().ContextSpecific(), func(b *cryptobyte.Builder) {
		b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
			b.AddASN1(asn1.Tag(2).Constructed().ContextSpecific(), func(b *cryptobyte.Builder) { b.AddASN1OctetString(ticket) })
		})
	})
	step := "Negotiate " + base64.StdEncoding.EncodeToString(octets.BytesOrPanic())

	b, other := c.browser(), c.browser()
	b.ticket(r, "login", offer).want(401, "login", "Log in")
	if h := b.head.Get("WWW-Authenticate"); h != "Negotiate oRQwEqADCgEBoQsGCSqGSIb3EgECAg==" { // accept-incomplete, Kerberos
		t.Errorf("answered with %q", h)
	}
	other.ticket(r, "login", step).want(403, "login", say("login.ticket"))
	b.ticket(r, "login", step).want(200, "", "alice@corp.example")
}
