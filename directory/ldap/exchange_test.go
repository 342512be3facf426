package ldap

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/go-ldap/ldap/v3"

	"dirpost/directory"
	"dirpost/directory/descriptor"
	"dirpost/internal/envelope"
	"dirpost/internal/testenv"
)

// exchangeAttributes are those of Exchange's schema that mail is read from, with
// their syntax in Active Directory: s text, n number, b boolean, d DN, o octets;
// capitals for several values.
var exchangeAttributes = map[string]byte{
	"authOrig": 'D', "unauthOrig": 'D', "dLMemSubmitPerms": 'D', "dLMemRejectPerms": 'D', "publicDelegates": 'D',
	"delivContLength": 'n', "submissionContLength": 'n', "homeMDB": 'd', "mailNickname": 's', "targetAddress": 's',
	"mDBUseDefaults": 'b', "mDBStorageQuota": 'n', "mDBOverQuotaLimit": 'n', "mDBOverHardQuotaLimit": 'n', "protocolSettings": 'S',
	"msExchRecipientTypeDetails": 'n', "msExchRequireAuthToSendTo": 'b', "msExchHideFromAddressLists": 'b', "msExchModeratedByLink": 'D',
	"msExchEnableModeration": 'b', "msExchDynamicDLFilter": 's', "msExchDynamicDLBaseDN": 'd', "msExchMailboxGuid": 'o',
	"altRecipient": 'd', "deliverAndRedirect": 'b',
}

// extendSchema adds them, and the class of dynamic lists, as the set-up of Exchange
// does.
func extendSchema(t testing.TB, c *ldap.Conn, s *testenv.ADServer) {
	t.Helper()
	schema := ",CN=Schema,CN=Configuration," + s.Base
	syntaxes := map[byte][2]string{'s': {"2.5.5.12", "64"}, 'n': {"2.5.5.16", "65"}, 'b': {"2.5.5.8", "1"}, 'd': {"2.5.5.1", "127"}, 'o': {"2.5.5.10", "4"}}
	var names []string
	for name := range exchangeAttributes {
		names = append(names, name)
	}
	slices.Sort(names)
	for i, name := range names {
		kind := exchangeAttributes[name]
		syntax := syntaxes[kind|0x20]
		req := ldap.NewAddRequest("CN="+name+schema, nil)
		for attribute, value := range map[string]string{
			"objectClass": "attributeSchema", "attributeID": fmt.Sprintf("1.2.840.113556.1.4.7000.102.9999.%d", i+1), "lDAPDisplayName": name,
			"attributeSyntax": syntax[0], "oMSyntax": syntax[1], "isSingleValued": map[bool]string{true: "TRUE", false: "FALSE"}[kind >= 'a'],
		} {
			req.Attribute(attribute, []string{value})
		}
		if syntax[1] == "127" {
			req.Attribute("oMObjectClass", []string{"\x2b\x0c\x02\x87\x73\x1c\x00\x85\x4a"})
		}
		must(t, c.Add(req))
	}
	now := ldap.NewModifyRequest("", nil)
	now.Add("schemaUpdateNow", []string{"1"})
	must(t, c.Modify(now))
	list := ldap.NewAddRequest("CN=ms-Exch-Dynamic-Distribution-List"+schema, nil)
	for attribute, values := range map[string][]string{
		"objectClass": {"classSchema"}, "governsID": {"1.2.840.113556.1.5.7000.62.9999"}, "lDAPDisplayName": {"msExchDynamicDistributionList"},
		"objectClassCategory": {"1"}, "subClassOf": {"top"}, "possSuperiors": {"organizationalUnit"}, "rDNAttID": {"cn"},
		"defaultSecurityDescriptor": {"D:(A;;RPWPCRCCDCLCLORCWOWDSDDTSW;;;DA)(A;;RPWPCRCCDCLCLORCWOWDSDDTSW;;;SY)(A;;RPLCLORC;;;AU)"},
		"mayContain":                append([]string{"mail", "displayName"}, names...),
	} {
		list.Attribute(attribute, values)
	}
	must(t, c.Add(list))
	must(t, c.Modify(now))
	for _, class := range []string{"User", "Group"} {
		req := ldap.NewModifyRequest("CN="+class+schema, nil)
		req.Add("mayContain", names)
		must(t, c.Modify(req))
	}
	must(t, c.Modify(now))
}

// permit gives somebody a right over an entry, as dsacls does: an extended one, or what
// mask says about the attribute of a GUID.
func permit(t testing.TB, c *ldap.Conn, dn string, mask descriptor.Mask, right, sid string) {
	t.Helper()
	const all = 7 // owner, group, access
	res, err := c.Search(ldap.NewSearchRequest(dn, ldap.ScopeBaseObject, ldap.NeverDerefAliases, 1, 0, false, "(objectClass=*)", []string{attributeDescriptor}, []ldap.Control{sdFlags(all)}))
	must(t, err)
	b := slices.Clone(res.Entries[0].GetRawAttributeValue(attributeDescriptor))
	raw, err := hex.DecodeString(strings.ReplaceAll(right, "-", ""))
	must(t, err)
	slices.Reverse(raw[:4])
	slices.Reverse(raw[4:6])
	slices.Reverse(raw[6:8])
	body := append(binary.LittleEndian.AppendUint32(nil, uint32(mask)), 1, 0, 0, 0)
	body = append(body, raw...)
	body = append(body, sidOctets(t, sid)...)
	n := len(body) + 4
	ace := append([]byte{5, 0, byte(n), byte(n >> 8)}, body...)
	at := binary.LittleEndian.Uint32(b[16:])
	acl := b[at:]
	size, count := binary.LittleEndian.Uint16(acl[2:]), binary.LittleEndian.Uint16(acl[4:])
	// In front, so that nothing inherited stands before it.
	grown := slices.Concat(acl[:8], ace, acl[8:size])
	binary.LittleEndian.PutUint16(grown[2:], size+uint16(n))
	binary.LittleEndian.PutUint16(grown[4:], count+1)
	next := append(b[:len(b):len(b)], grown...)
	binary.LittleEndian.PutUint32(next[16:], uint32(len(b)))
	req := ldap.NewModifyRequest(dn, []ldap.Control{sdFlags(sdAccess)})
	req.Replace(attributeDescriptor, []string{string(next)})
	must(t, c.Modify(req))
}

// sidOf is the SID of an entry.
func sidOf(t testing.TB, c *ldap.Conn, dn string) string {
	t.Helper()
	res, err := c.Search(ldap.NewSearchRequest(dn, ldap.ScopeBaseObject, ldap.NeverDerefAliases, 1, 0, false, "(objectClass=*)", []string{"objectSid"}, nil))
	must(t, err)
	text, err := sid(string(res.Entries[0].GetRawAttributeValue("objectSid")))
	must(t, err)
	return text
}

// sidOctets is a SID as a descriptor has it.
func sidOctets(t testing.TB, text string) []byte {
	t.Helper()
	parts := strings.Split(text, "-")[2:]
	b := []byte{1, byte(len(parts) - 1), 0, 0}
	for i, p := range parts {
		n, err := strconv.ParseUint(p, 10, 32)
		must(t, err)
		if i == 0 {
			b = binary.BigEndian.AppendUint32(b, uint32(n))
		} else {
			b = binary.LittleEndian.AppendUint32(b, uint32(n))
		}
	}
	return b
}

// TestProfileOfExchange: a domain with the schema of Exchange is known as such, and
// its attributes mean what they mean to Exchange.
func TestProfileOfExchange(t *testing.T) {
	t.Parallel()
	s := testenv.ADExtensible(t)
	cfg := Config{
		Name: "corp", URLs: []string{s.TLSURL}, Base: s.Base, CA: s.CA, ServerName: s.Host, Domain: s.Domain,
		BindDN: s.ServiceDN, BindPassword: s.ServicePass, ConnectTimeout: time.Minute, Timeout: time.Minute,
	}
	if choice, err := client(t, cfg).Choice(t.Context()); err != nil || choice.Profile != PresetAD {
		t.Fatalf("before Exchange: %v %+v", err, choice)
	}
	admin := dcAdmin(t, s, cfg)
	extendSchema(t, admin, s)
	staff := ",OU=Staff," + s.Base
	alice, wei := "CN=Alice Archer"+staff, "CN=王伟"+staff
	change := func(dn string, set map[string][]string) {
		req := ldap.NewModifyRequest(dn, nil)
		for a, v := range set {
			req.Replace(a, v)
		}
		must(t, admin.Modify(req))
	}
	change(alice, map[string][]string{
		"mDBStorageQuota": {"900"}, "mDBOverQuotaLimit": {"1000"}, "mDBOverHardQuotaLimit": {"1024"}, "mDBUseDefaults": {"FALSE"},
		"delivContLength": {"2048"}, "submissionContLength": {"1024"}, "protocolSettings": {"POP3§0§1§4"},
		"publicDelegates": {wei}, "msExchHideFromAddressLists": {"TRUE"}, "department": {"Sales"}, "msExchRecipientTypeDetails": {"1"},
	})
	change(wei, map[string][]string{"mDBOverHardQuotaLimit": {"1024"}, "mDBUseDefaults": {"TRUE"}, "homeMDB": {s.Base}, "department": {"Sales"}})
	dave := "CN=Dave Disabled" + staff
	change(dave, map[string][]string{"altRecipient": {alice}, "deliverAndRedirect": {"TRUE"}})
	dynamic := ldap.NewAddRequest("CN=All Sales"+staff, nil)
	for a, v := range map[string]string{
		"objectClass": "msExchDynamicDistributionList", "mail": "all-sales@corp.example", "msExchDynamicDLFilter": "(&(objectClass=user)(department=Sales))",
		"msExchDynamicDLBaseDN": "OU=Staff," + s.Base, "msExchRequireAuthToSendTo": "TRUE", "unauthOrig": wei,
	} {
		dynamic.Attribute(a, []string{v})
	}
	must(t, admin.Add(dynamic))
	moderated := ldap.NewAddRequest("CN=Announcements"+staff, nil)
	for a, v := range map[string]string{
		"objectClass": "group", "sAMAccountName": "announcements", "mail": "announcements@corp.example", "managedBy": alice,
		"msExchEnableModeration": "TRUE", "msExchRequireAuthToSendTo": "TRUE", "member": alice,
	} {
		moderated.Attribute(a, []string{v})
	}
	must(t, admin.Add(moderated))
	change(dave, map[string][]string{"authOrig": {wei}})
	permit(t, admin, alice, descriptor.ControlAccess, descriptor.SendAs, sidOf(t, admin, dave))
	permit(t, admin, alice, descriptor.ControlAccess, descriptor.ReceiveAs, sidOf(t, admin, wei))

	c := client(t, cfg)
	if choice, err := c.Choice(t.Context()); err != nil || choice.Profile != PresetADExchange || len(choice.Notes) > 0 {
		t.Fatalf("%v %+v", err, choice)
	}
	snap := directory.NewSnapshot([]string{"corp.example"}, entries(t, c))
	a, w := snap.ByDN(alice), snap.ByDN(wei)
	if a.Quota != 1<<20 || a.QuotaSend != 1000<<10 || a.QuotaWarn != 900<<10 || a.MaxReceive != 2<<20 || a.MaxSend != 1<<20 || !a.Hidden || a.MayUseService("pop3") || !a.MayUseService("imap") || a.Place == directory.PlaceElsewhere {
		t.Errorf("%+v", a)
	}
	if w.Quota != 0 || w.Place != directory.PlaceElsewhere {
		t.Errorf("%+v", w)
	}
	if snap.MayUse(w, a.Primary) != directory.UsageOnBehalf {
		t.Error("a delegate may not send on behalf")
	}
	d := snap.ByDN(dave)
	if snap.MayUse(d, a.Primary) != directory.UsageSendAs || snap.MayUse(w, a.Primary) != directory.UsageOnBehalf || len(a.SendAs) != 1 {
		t.Errorf("send as alice: %q", a.SendAs)
	}
	announcements := snap.ByAddress(address(t, "announcements@corp.example"))
	if snap.MayPost(announcements, nil) != directory.PostRefused || snap.MayPost(announcements, w) != directory.PostHeld || snap.MayPost(announcements, a) != directory.PostAllowed {
		t.Errorf("moderated, and not for strangers: %+v", announcements)
	}
	for sender, want := range map[*directory.Entry]int{nil: 1, a: 1, w: 0} {
		if x := snap.Expand([]envelope.Recipient{{Address: d.Primary}}, directory.Terms{Sender: sender}); len(x.Refused) != want {
			t.Errorf("only wei may write to dave: %+v", x)
		}
	}
	x := snap.Expand([]envelope.Recipient{{Address: snap.ByDN(dave).Primary}}, directory.Terms{Sender: w})
	if len(x.Local) != 2 || x.Local[0].Entry.Key != a.Key || x.Local[1].Entry.DN != dave {
		t.Errorf("forwarded by altRecipient, with a copy: %+v", x)
	}
	l := snap.ByAddress(address(t, "all-sales@corp.example"))
	if l == nil || snap.MayPost(l, a) != directory.PostAllowed || snap.MayPost(l, w) != directory.PostRefused || snap.MayPost(l, nil) != directory.PostRefused {
		t.Fatalf("%+v", l)
	}
	x = snap.Expand([]envelope.Recipient{{Address: l.Primary}}, directory.Terms{Sender: a})
	if len(x.Local)+len(x.Remote)+len(x.Refused) == 0 || !slices.ContainsFunc(x.Local, func(r directory.LocalRecipient) bool { return r.Entry.Key == a.Key }) {
		t.Errorf("%+v", x)
	}
}
