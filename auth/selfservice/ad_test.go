package selfservice

import (
	"fmt"
	"testing"
	"time"

	"dirpost/directory"
	"dirpost/directory/ldap"
	"dirpost/internal/testenv"

	goldap "github.com/go-ldap/ldap/v3"
)

// TestExpiredInAD: in a real domain a password that must be changed is changed on the
// page, and lets in after it.
func TestExpiredInAD(t *testing.T) {
	t.Parallel()
	ad := testenv.AD(t)
	root, err := goldap.DialURL(ad.TLSURL, goldap.DialWithTLSConfig(adTLS(t, ad)))
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	if err := root.Bind(ad.AdminDN, ad.AdminPassword); err != nil {
		t.Fatal(err)
	}
	name := fmt.Sprintf("page%d", time.Now().UnixNano()%1e9)
	dn := "CN=" + name + ",OU=Staff," + ad.Base
	add := goldap.NewAddRequest(dn, nil)
	for a, v := range map[string]string{
		"objectClass": "user", "sAMAccountName": name, "userPrincipalName": name + "@corp.example", "mail": name + "@corp.example",
		"userAccountControl": "512", "unicodePwd": ldap.UnicodePwd(ad.UserPassword), "pwdLastSet": "0",
	} {
		add.Attribute(a, []string{v})
	}
	if err := root.Add(add); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = root.Del(goldap.NewDelRequest(dn, nil)) })
	c := newCorp(t, ldap.Config{
		Name: "corp", Preset: ldap.PresetAD, URLs: []string{ad.TLSURL}, Base: ad.Base, CA: ad.CA, ServerName: ad.Host, Domain: ad.Domain,
		BindDN: ad.ServiceDN, BindPassword: ad.ServicePass, ConnectTimeout: time.Minute, Timeout: time.Minute,
	})
	c.await("the person is known", func(s *directory.Snapshot) bool { return s.ByLogin(name) != nil })
	b := c.browser()
	b.login(name, "wrong").want(403, "login", say("login.refused"))
	b.login(`CORP\`+name, ad.UserPassword).want(403, "login", say("expired.text"))
	change := func(user, old, next string) *browser {
		t.Helper()
		return b.post("expired", "user", user, "old", old, "new", next, "again", next)
	}
	change(name, "wrong", "Passw0rd.Öther").want(403, "expired", say("login.refused"))
	change(name, ad.UserPassword, "Pa.0").want(403, "expired", say("refused.too-short"))
	b.want(403, "expired", say("rules.complex"))
	change(name+"@corp.example", ad.UserPassword, "Passw0rd.Öther").want(200, "login?done=password", say("done.password"))
	b.login(name, "Passw0rd.Öther").want(200, "", name)
	b.login(name, ad.UserPassword)
	if o := c.browser().login(name, ad.UserPassword); o.code != 403 {
		t.Errorf("the old password lets in: %d", o.code)
	}
}
