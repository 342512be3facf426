//go:build acceptance

package ldap

import (
	"slices"
	"testing"
	"time"

	"github.com/go-ldap/ldap/v3"

	"dirpost/directory"
	"dirpost/internal/envelope"
	"dirpost/internal/testenv"
)

// TestAcceptanceTrust: with a trust that the tool of administrators has made, somebody of
// the other domain is a member of a list of ours, and logs in there.
func TestAcceptanceTrust(t *testing.T) {
	corp, other := testenv.ADTrusted(t)
	configs := map[string]Config{}
	for name, s := range map[string]*testenv.ADServer{"corp": corp, "other": other} {
		configs[name] = Config{Name: name, Preset: PresetAD, Follow: FollowPoll, URLs: []string{s.TLSURL}, CA: s.CA, ServerName: s.Host, Base: s.Base,
			BindDN: s.ServiceDN, BindPassword: s.ServicePass, ConnectTimeout: time.Minute, Timeout: time.Minute}
	}
	admin := dcAdmin(t, corp, configs["corp"])
	res, err := admin.Search(ldap.NewSearchRequest("CN=other.example,CN=System,"+corp.Base, ldap.ScopeBaseObject, 0, 0, 0, false, "(objectClass=trustedDomain)",
		[]string{"trustPartner", "flatName", "trustDirection", "trustType"}, nil))
	must(t, err)
	for name, want := range map[string]string{"trustPartner": "other.example", "flatName": "OTHER", "trustDirection": "3", "trustType": "2"} {
		if got := res.Entries[0].GetAttributeValue(name); got != want {
			t.Errorf("%s is %s, want %s", name, got, want)
		}
	}
	clients := map[string]*Client{"corp": client(t, configs["corp"]), "other": client(t, configs["other"])}
	read := func() *directory.Snapshot {
		return directory.NewSnapshot([]string{"corp.example", "other.example"}, append(entries(t, clients["corp"]), entries(t, clients["other"])...))
	}
	alice := read().ByLogin(`OTHER\alice`)
	if alice == nil || alice.Directory != "other" {
		t.Fatalf("alice of the other domain: %+v", alice)
	}
	group := ldap.NewAddRequest("CN=foreign,OU=Lists,"+corp.Base, nil)
	for name, value := range map[string]string{"objectClass": "group", "sAMAccountName": "foreign", "mail": "foreign@corp.example", "groupType": "-2147483644", "member": "<SID=" + alice.SID + ">"} {
		group.Attribute(name, []string{value})
	}
	must(t, admin.Add(group))
	x := read().Expand([]envelope.Recipient{{Address: addr("foreign@corp.example")}}, directory.Terms{Released: true})
	if !slices.ContainsFunc(x.Local, func(r directory.LocalRecipient) bool { return r.Entry.Key == alice.Key }) || len(x.Local) != 1 || len(x.Refused) > 0 {
		t.Errorf("members: %+v, refused %v", x.Local, x.Refused)
	}
	must(t, clients["other"].Verify(t.Context(), alice, other.UserPassword))
}
