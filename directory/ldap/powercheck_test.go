package ldap

import (
	"slices"
	"strings"
	"testing"

	"dirpost/directory"
	"dirpost/directory/descriptor"
	"dirpost/internal/testenv"

	"github.com/go-ldap/ldap/v3"
)

func TestEqualityIndexes(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ values, want string }{
		{"objectClass eq", "objectclass"},
		{"{0}uid,mail eq,sub|{1}cn sub", "mail uid"},
		{"{-1}default eq|sn|cn;lang-de pres,eq", "cn sn"},
		{"default sub|sn", ""},
		{"entryUUID,  eq", ""},
		{"", ""},
	} {
		var got []string
		for a := range equalityIndexes(strings.Split(tt.values, "|")) {
			got = append(got, a)
		}
		slices.Sort(got)
		if strings.Join(got, " ") != tt.want {
			t.Errorf("%q: %q, want %q", tt.values, got, tt.want)
		}
	}
}

func TestAccessRules(t *testing.T) {
	t.Parallel()
	members := map[string]bool{"member": true, "uniquemember": true}
	for rule, want := range map[string]bool{
		`{0}to attrs=userPassword by self write by anonymous auth by * none`:                         false,
		`{1}to attrs=member,owner by dnattr=owner write by * read`:                                   true,
		`{2}to attrs=member by * read`:                                                               false,
		`{3}to dn.subtree="ou=groups,dc=corp,dc=example" by group="cn=admins,dc=x" manage by * read`: true,
		`{4}to * by self write by * read`:                                                            true,
		`{5}to * by users read`:                                                                      false,
		`{6}to attrs=@groupOfNames by set="user & this/owner" =w by * read`:                          true,
		`{7}to attrs=member by self selfwrite by * +r`:                                               true,
	} {
		if got := letsWrite(rule) && mayBeAbout(rule, members); got != want {
			t.Errorf("%s: %t", rule, got)
		}
	}
}

// TestCheckOpenLDAP: what a server tells of its indexes and of who may change groups
// depends on whether the account may read its configuration.
func TestCheckOpenLDAP(t *testing.T) {
	t.Parallel()
	s := testenv.Slapd(t)
	cfg := config(t, s)
	c := client(t, cfg)
	group := &directory.Entry{DN: "cn=sales,ou=groups," + s.Base}
	indexes, err := c.CheckIndexes(t.Context())
	if err != nil || len(indexes.Missing) != 0 || !strings.Contains(indexes.Unknown, "cn=config") || !strings.Contains(indexes.Unknown, "entryuuid") {
		t.Errorf("closed: %v %+v", err, indexes)
	}
	if who, err := c.CheckGroup(t.Context(), nil, group); err != nil || who.Unknown == "" || len(who.Names)+len(who.Rules) != 0 {
		t.Errorf("closed: %v %+v", err, who)
	}
	if self, err := c.CheckSelfPower(t.Context()); err != nil || self.How != "" {
		t.Errorf("it tells nobody's rights: %v %+v", err, self)
	}

	s.ShowConfig(t, "access to dn.children=\"ou=groups,"+s.Base+"\" attrs=member by dnattr=owner write by users read\n")
	c = client(t, cfg)
	if indexes, err = c.CheckIndexes(t.Context()); err != nil || len(indexes.Missing) != 0 || indexes.Unknown != "" {
		t.Errorf("all that is needed is there: %v %+v", err, indexes)
	}
	if who, err := c.CheckGroup(t.Context(), nil, group); err != nil || who.Unknown != "" || len(who.Rules) != 1 || !strings.Contains(who.Rules[0], "dnattr=owner write") {
		t.Errorf("open: %v %+v", err, who)
	}
	cfg.Filter = "(&(objectClass=inetOrgPerson)(employeeType=internal))"
	indexes, err = client(t, cfg).CheckIndexes(t.Context())
	if err != nil || len(indexes.Missing) != 1 || indexes.Missing[0].Attribute != "employeetype" ||
		!strings.Contains(indexes.Missing[0].LDIF, "add: olcDbIndex\nolcDbIndex: employeetype eq\n") || !strings.HasPrefix(indexes.Missing[0].LDIF, "dn: olcDatabase={1}mdb,cn=config\n") {
		t.Errorf("another filter: %v %+v", err, indexes)
	}
}

// TestCheckAD: a domain controller tells an ordinary account who may change a group,
// what people may write themselves, and what is indexed.
func TestCheckAD(t *testing.T) {
	t.Parallel()
	u := newADUnit(t)
	u.cfg.Preset = PresetAD
	dn := u.person("keeper")
	list := u.group("crew", dn)
	c := client(t, u.cfg)
	indexes, err := c.CheckIndexes(t.Context())
	if err != nil || len(indexes.Missing) != 0 || indexes.Unknown != "" {
		t.Errorf("as it is found: %v %+v", err, indexes)
	}
	other := u.cfg
	other.Filter = "(&(objectCategory=person)(employeeType=internal))"
	indexes, err = client(t, other).CheckIndexes(t.Context())
	if err != nil || len(indexes.Missing) != 1 || indexes.Missing[0].Attribute != "employeeType" ||
		!strings.HasPrefix(indexes.Missing[0].LDIF, "dn: CN=Employee-Type,CN=Schema,CN=Configuration,") || !strings.Contains(indexes.Missing[0].LDIF, "searchFlags: ") {
		t.Errorf("another filter: %v %+v", err, indexes)
	}

	snap := directory.NewSnapshot([]string{"corp.example"}, entries(t, c))
	group, keeper := snap.ByDN(list), snap.ByDN(dn)
	if who, err := c.CheckGroup(t.Context(), snap, group); err != nil || who.Unknown != "" || len(who.Names) != 0 {
		t.Errorf("as it is made: %v %+v", err, who)
	}
	permit(t, u.Conn, list, descriptor.WriteProperty, descriptor.Member, keeper.SID)
	permit(t, u.Conn, list, descriptor.Self, descriptor.Member, "S-1-5-11")
	who, err := c.CheckGroup(t.Context(), snap, group)
	slices.Sort(who.Names)
	if want := []string{"<everybody who has logged in>", dn}; err != nil || !slices.Equal(who.Names, want) {
		t.Errorf("%v %+v, want %q", err, who, want)
	}

	other = u.cfg
	other.Mapping = map[string][]string{"quota": {"employeeNumber:mib"}}
	if self, err := client(t, other).CheckSelfPower(t.Context()); err != nil || self.How != "security descriptors of 1 people" || len(self.Writable) != 0 {
		t.Errorf("as it is found: %v %+v", err, self)
	}
	permit(t, u.Conn, dn, descriptor.WriteProperty, attributeGUID(t, c, "employeeNumber"), descriptor.PrincipalSelf)
	self, err := client(t, other).CheckSelfPower(t.Context())
	if err != nil || len(self.Writable) != 1 || self.Writable[0].Attribute != "employeeNumber" || !slices.Equal(self.Writable[0].Fields, []string{"quota"}) {
		t.Errorf("%v %+v", err, self)
	}
	other.Trusted = []string{"quota"}
	if self, err := client(t, other).CheckSelfPower(t.Context()); err != nil || len(self.Writable) != 0 {
		t.Errorf("trusted: %v %+v", err, self)
	}
}

// TestSendAsIsFollowed: a right that is given in the security descriptor of somebody
// holds when the change is seen, in a domain without Exchange too.
func TestSendAsIsFollowed(t *testing.T) {
	t.Parallel()
	u := newADUnit(t)
	u.cfg.Preset = PresetAD
	u.cfg.Mapping = map[string][]string{"send_as": {"nTSecurityDescriptor:send-as"}, "access": {"nTSecurityDescriptor:receive-as"}}
	office, clerk, other := u.person("office"), u.person("clerk"), u.person("other")
	desk := u.group("desk", clerk)
	n := start(t, testenv.Database(t), &hints{}, client(t, u.cfg))
	n.untilComplete(t)
	may := func(who string, want directory.Rights) func(*directory.Snapshot) bool {
		return func(s *directory.Snapshot) bool { return s.Rights(s.ByDN(who), s.ByDN(office)) == want }
	}
	if s := n.live.Snapshot(); !may(clerk, 0)(s) || !may(other, 0)(s) {
		t.Fatalf("somebody has a right already: %+v", s.ByDN(office))
	}
	permit(t, u.Conn, office, descriptor.ControlAccess, descriptor.SendAs, n.live.Snapshot().ByDN(desk).SID)
	n.until(t, "the group may send as it", may(clerk, directory.RightSendAs))
	permit(t, u.Conn, office, descriptor.ControlAccess, descriptor.ReceiveAs, n.live.Snapshot().ByDN(other).SID)
	n.until(t, "another opens it", may(other, directory.RightOpen))
	s := n.live.Snapshot()
	if boxes := s.MailboxesOf(s.ByDN(other)); len(boxes) != 1 || boxes[0].DN != office {
		t.Errorf("mailboxes of the other: %+v", boxes)
	}
	u.members(desk, false, clerk)
	n.until(t, "who has left the group may not", may(clerk, 0))
}

// attributeGUID is the GUID of an attribute in the schema.
func attributeGUID(t testing.TB, c *Client, name string) string {
	t.Helper()
	nc, err := c.read.get(t.Context())
	must(t, err)
	defer c.read.put(nc, nil)
	sets, err := c.attributeSets(t.Context(), nc, map[string][]string{name: nil})
	must(t, err)
	if len(sets[name]) == 0 {
		t.Fatalf("no %s in the schema", name)
	}
	return sets[name][0]
}

func TestSelfMayWrite(t *testing.T) {
	t.Parallel()
	const own = `{0}to attrs=userPassword by self write by anonymous auth by * none`
	for _, tt := range []struct {
		name  string
		rules []string
		want  bool
	}{
		{"none", nil, false},
		{"only the password", []string{own, `{1}to * by users read`}, false},
		{"everything", []string{own, `{1}to * by self write by users read`}, true},
		{"everybody", []string{`{0}to * by * write`}, true},
		{"the attribute, among others", []string{`{0}to attrs=cn,Mail by self =wr by users read`}, true},
		{"another one, and read the rest", []string{`{0}to attrs=cn by self write`, `{1}to * by self read by users write`}, false},
		{"who comes first counts", []string{`{0}to * by users read by self write`}, false},
		{"unless that goes on", []string{`{0}to * by users read continue by self write`}, true},
		{"the first rule counts", []string{`{0}to attrs=mail by users read`, `{1}to * by self write`}, false},
		{"unless that goes on", []string{`{0}to attrs=mail by users read break`, `{1}to * by self write`}, true},
		{"or is about some entries", []string{`{0}to dn.subtree="ou=groups,dc=x" by users read`, `{1}to * by self write`}, true},
		{"some entries", []string{`{0}to dn.subtree="ou=people,dc=x" by self write`, `{1}to * by users read`}, true},
		{"a class", []string{`{0}to attrs=@inetOrgPerson by self write`}, true},
		{"administrators", []string{`{0}to * by group="cn=admins,dc=x" manage by users read`}, false},
		{"broken", []string{`{0}to`, `by`, `{2}to * by`, `{3}to * by by by self`}, false},
	} {
		if got := selfMayWrite(tt.rules, "mail"); got != tt.want {
			t.Errorf("%s: %t", tt.name, got)
		}
	}
}

func TestSelfWrites(t *testing.T) {
	t.Parallel()
	const web, personal = "e45795b3-9455-11d1-aebd-0000f80367c1", "77b5b886-944a-11d1-aebd-0000f80367c1"
	for sddl, want := range map[string]string{
		"D:(A;;RPWPCRCCDCLCLORCWOWDSDDTSW;;;DA)(A;;RPLCLORC;;;PS)(OA;;CR;ab721a53-1e2f-11d0-9819-00aa0040529b;;PS)(OA;;RPWP;77B5B886-944A-11d1-AEBD-0000F80367C1;;PS)(OA;;RPWP;E45795B3-9455-11d1-AEBD-0000F80367C1;;PS)": personal + " " + web,
		"D:(A;;GA;;;S-1-5-10)":           "",
		"D:(D;;GA;;;PS)(A;;LCRPRC;;;PS)": "-",
		"D:(A;;RPXWPX;;;PS)":             "-",
		"":                               "-", "D:(A;;W;;;PS)(OA;;WP;;": "-",
	} {
		got := selfWrites(sddl)
		if want == "-" && got != nil || want != "-" && strings.Join(got, " ") != want {
			t.Errorf("%s: %q, want %q", sddl, got, want)
		}
	}
}

// TestSelfByRules: OpenLDAP's own rules say what people could give themselves.
func TestSelfByRules(t *testing.T) {
	t.Parallel()
	s := testenv.Slapd(t)
	cfg := config(t, s)
	s.ShowConfig(t, "access to dn.subtree=\"ou=people,"+s.Base+"\" attrs=dirpostQuotaBytes,description by self write by users read\n")
	self, err := client(t, cfg).CheckSelfPower(t.Context())
	if err != nil || self.How == "" || len(self.Writable) != 1 || self.Writable[0].Attribute != "dirpostQuotaBytes" || !slices.Equal(self.Writable[0].Fields, []string{"quota"}) {
		t.Errorf("%v %+v", err, self)
	}
	cfg.Trusted = []string{"quota"}
	if self, err := client(t, cfg).CheckSelfPower(t.Context()); err != nil || self.How == "" || len(self.Writable) != 0 {
		t.Errorf("trusted: %v %+v", err, self)
	}
}

// TestSelfByDefault: the schema of a domain says what new people may write, and its sets
// what that is.
func TestSelfByDefault(t *testing.T) {
	t.Parallel()
	u := newADUnit(t)
	u.cfg.Mapping = map[string][]string{"quota": {"msDS-cloudExtensionAttribute1:mib"}, "forward": {"employeeNumber"}}
	u.cfg.Trusted = []string{"quota"} // else the file alone is refused
	c := client(t, u.cfg)
	nc, err := c.read.get(t.Context())
	must(t, err)
	defer c.read.put(nc, nil)
	writes, err := c.selfByDefault(t.Context(), nc)
	must(t, err)
	sets, err := c.attributeSets(t.Context(), nc, map[string][]string{"msDS-cloudExtensionAttribute1": nil, "employeeNumber": nil})
	must(t, err)
	for name, want := range map[string]bool{"msDS-cloudExtensionAttribute1": true, "employeeNumber": false} {
		if got := slices.ContainsFunc(sets[name], func(g string) bool { return slices.Contains(writes, g) }); got != want {
			t.Errorf("%s: %t; sets %q, writes %q", name, got, sets[name], writes)
		}
	}
}

// TestFrontRules: access rules of the front end count behind those of the database, and
// what a real slapd lets people write is what is said.
func TestFrontRules(t *testing.T) {
	t.Parallel()
	s := testenv.Slapd(t)
	cfg := config(t, s)
	person := "uid=bob,ou=people," + s.Base
	group := &directory.Entry{DN: "cn=sales,ou=groups," + s.Base}
	mayWrite := func() bool {
		t.Helper()
		nc, err := ldap.DialURL(s.URL)
		must(t, err)
		defer nc.Close()
		must(t, nc.Bind(person, s.UserPassword))
		m := ldap.NewModifyRequest(person, nil)
		m.Replace("dirpostQuotaBytes", []string{"1000000"})
		err = nc.Modify(m)
		if err != nil && !ldap.IsErrorWithCode(err, ldap.LDAPResultInsufficientAccessRights) {
			t.Fatal(err)
		}
		return err == nil
	}
	const front = "access to attrs=dirpostQuotaBytes by self write by users read\naccess to attrs=member by dnattr=owner write by users read\n"
	check := func(what string, power bool, rules int) {
		t.Helper()
		c := client(t, cfg)
		self, err := c.CheckSelfPower(t.Context())
		if got := len(self.Writable) == 1 && self.Writable[0].Attribute == "dirpostQuotaBytes"; err != nil || self.How == "" || self.Unknown != "" || got != power || mayWrite() != power {
			t.Errorf("%s: %v %+v; the server lets it be written: %t", what, err, self, mayWrite())
		}
		who, err := c.CheckGroup(t.Context(), nil, group)
		if err != nil || who.Unknown != "" || len(who.Rules) != rules {
			t.Errorf("%s: %v %+v", what, err, who)
		}
	}
	s.AllowInFront(t, front)
	check("what the database says nothing of", true, 1)
	s.ShowConfig(t, "access to * by anonymous auth by users read\n")
	check("the database has the last word", false, 0)
	s.ShowConfig(t, "access to attrs=dirpostQuotaBytes by users read\n")
	check("the database has it of this attribute", false, 1)
	s.ShowConfig(t, "access to * by * break\n")
	check("it lets everybody through", true, 1)

	s.HideFront(t)
	c := client(t, cfg)
	if self, err := c.CheckSelfPower(t.Context()); err != nil || len(self.Writable) != 0 || !strings.Contains(self.Unknown, "frontend") {
		t.Errorf("hidden: %v %+v", err, self)
	}
	if who, err := c.CheckGroup(t.Context(), nil, group); err != nil || len(who.Rules) != 0 || !strings.Contains(who.Unknown, "frontend") {
		t.Errorf("hidden: %v %+v", err, who)
	}
	s.ShowConfig(t, "access to * by anonymous auth by users read\n")
	if self, err := client(t, cfg).CheckSelfPower(t.Context()); err != nil || self.How == "" || self.Unknown != "" {
		t.Errorf("hidden, and not asked: %v %+v", err, self)
	}
}

// TestRulesInOrder: rules count by their numbers, those behind the last word do not, and
// the server's own root is nobody else.
func TestRulesInOrder(t *testing.T) {
	t.Parallel()
	if got := inOrder([]string{"{10}c", "{2}b", "{0}a", "d"}); strings.Join(got, " ") != "{0}a d {2}b {10}c" {
		t.Errorf("%q", got)
	}
	const root = `to * by dn.exact="gidNumber=0+uidNumber=0,cn=peercred,cn=external,cn=auth" manage`
	for _, tt := range []struct {
		rules []string
		want  int
		end   bool
	}{
		{nil, 0, false},
		{[]string{"{0}to attrs=mail by self write", "{1}to * by users read", "{2}to * by * write"}, 2, true},
		{[]string{"{0}to * by self write by * break", "{1}to * by users read", "{2}to * by * write"}, 2, true},
		{[]string{`{0}to dn.subtree="dc=x" by users read`, "{1}to * filter=(uid=*) by users read"}, 2, false},
		{[]string{"{0}" + root + " by * break", "{1}to *"}, 2, false},
	} {
		if got, end := reached(tt.rules); len(got) != tt.want || end != tt.end {
			t.Errorf("%q: %q, %t", tt.rules, got, end)
		}
	}
	for rule, want := range map[string]bool{
		root: false, root + " by * break": false, root + " by self write": true, `{0}to * by dn.base="cn=admin,dc=x" manage`: true,
		`to * by dn.exact=gidNumber=0+uidNumber=0,cn=peercred,cn=external,cn=auth manage by * read`: false, "to * by": false,
	} {
		if got := letsWrite(withoutRoot(rule)); got != want {
			t.Errorf("%s: %t", rule, got)
		}
	}
}
