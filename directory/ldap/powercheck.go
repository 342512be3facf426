package ldap

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/go-ldap/ldap/v3"

	"dirpost/directory"
	"dirpost/directory/descriptor"
)

// Changers says who may change the members of a group.
type Changers struct {
	// Names are of people, groups, or, in angle brackets, kinds of accounts; beside the
	// administrators of the domain, who may change everything. SIDs stand for those
	// whom nobody knows.
	Names []string
	// Unknown says why the server does not tell, "" where it does.
	Unknown string
	// Rules are access rules of an OpenLDAP server that may be about the members, as
	// they stand in its configuration.
	Rules []string
}

// administrators are the accounts and groups that may change everything in a domain,
// by SID, or the last part of it (MS-DTYP 2.4.2.4).
var administrators = map[string]bool{
	"S-1-5-18": true, "S-1-5-9": true, "S-1-5-32-544": true, "S-1-5-32-548": true, // SYSTEM, domain controllers, Administrators, Account Operators
	"512": true, "516": true, "518": true, "519": true, "526": true, "527": true, // Domain Admins, controllers, Schema, Enterprise and Key Admins
}

func isAdministrators(sid string) bool {
	return administrators[sid] || strings.HasPrefix(sid, "S-1-5-21-") && administrators[sid[strings.LastIndexByte(sid, '-')+1:]]
}

// kindsOfAccounts are SIDs that stand for more than one account.
var kindsOfAccounts = map[string]string{
	"S-1-1-0": "everybody", "S-1-5-7": "anonymous", "S-1-5-11": "everybody who has logged in", "S-1-5-10": "each member itself", "S-1-3-0": "whoever made it",
}

// CheckGroup says who may change the members of a group. Active Directory tells it in
// the security descriptor; other servers tell an ordinary account nothing about the
// rights of others, but for OpenLDAP, where its configuration may be read, the rules
// are shown. s is where SIDs are looked up.
func (c *Client) CheckGroup(ctx context.Context, s *directory.Snapshot, g *directory.Entry) (Changers, error) {
	nc, err := c.read.get(ctx)
	if err != nil {
		return Changers{}, err
	}
	var found Changers
	if c.isAD() {
		found, err = c.descriptorChangers(ctx, nc, s, g.DN)
	} else {
		found, err = c.ruleChangers(ctx, nc)
	}
	c.read.put(nc, err)
	return found, err
}

func (c *Client) descriptorChangers(ctx context.Context, nc *conn, s *directory.Snapshot, dn string) (Changers, error) {
	d, ok, err := c.descriptorOf(ctx, nc, dn)
	switch {
	case err != nil:
		return Changers{}, err
	case !ok:
		return Changers{Unknown: "the account may not read its security descriptor (Read permissions)"}, nil
	case d.Open:
		return Changers{Names: []string{"<" + kindsOfAccounts["S-1-1-0"] + ">"}}, nil
	}
	var found Changers
	for _, sid := range d.MayChangeMembers() {
		switch e := s.BySID(sid); {
		case isAdministrators(sid):
		case kindsOfAccounts[sid] != "":
			found.Names = append(found.Names, "<"+kindsOfAccounts[sid]+">")
		case e != nil:
			found.Names = append(found.Names, e.DN)
		default:
			found.Names = append(found.Names, sid)
		}
	}
	return found, nil
}

// descriptorOf reads the owner and the access list of an entry, false where the
// account may not.
func (c *Client) descriptorOf(ctx context.Context, nc *conn, dn string) (descriptor.Descriptor, bool, error) {
	req := ldap.NewSearchRequest(dn, ldap.ScopeBaseObject, ldap.NeverDerefAliases, 1, 0, false, "(objectClass=*)",
		[]string{attributeDescriptor}, []ldap.Control{sdFlags(sdOwner | sdAccess)})
	res, err := nc.search(ctx, c.cfg.Timeout, req)
	if err != nil && broken(err) {
		return descriptor.Descriptor{}, false, fmt.Errorf("read the security descriptor of %s: %w", dn, err)
	}
	if err != nil || len(res.Entries) == 0 {
		return descriptor.Descriptor{}, false, nil
	}
	raw := res.Entries[0].GetRawAttributeValue(attributeDescriptor)
	if len(raw) == 0 {
		return descriptor.Descriptor{}, false, nil
	}
	d, err := descriptor.Parse(raw)
	if err != nil {
		return d, false, fmt.Errorf("security descriptor of %s: %w", dn, err)
	}
	return d, true, nil
}

// ruleChangers shows the access rules of an OpenLDAP server that let somebody write
// and may be about members.
func (c *Client) ruleChangers(ctx context.Context, nc *conn) (Changers, error) {
	db, err := c.configuration(ctx, nc)
	if err != nil {
		return Changers{}, err
	}
	if db == nil {
		return Changers{Unknown: "the server does not tell an account what others may write: look at its access rules for the attribute of the members"}, nil
	}
	members := map[string]bool{}
	for _, src := range c.mapping.Load().fields["member"] {
		members[src.attribute] = true
	}
	var found Changers
	rules, end := reached(db.rules)
	for _, rule := range rules {
		if letsWrite(withoutRoot(rule)) && mayBeAbout(rule, members) {
			found.Rules = append(found.Rules, rule)
		}
	}
	if !end && !db.front {
		found.Unknown = frontUnknown
	}
	return found, nil
}

// frontUnknown says that there may be more rules than could be read.
const frontUnknown = "the account may not read the access rules of the front end (olcDatabase={-1}frontend), which count after those of the database"

// reached returns the access rules that can count: behind one for everything none does,
// unless somebody is let through it. end reports whether there is one.
func reached(rules []string) (counting []string, end bool) {
	for i, rule := range rules {
		words := strings.Fields(strings.ToLower(orderPrefix.ReplaceAllString(rule, "")))
		if len(words) > 2 && words[0] == "to" && words[1] == "*" && words[2] == "by" && !slices.Contains(words, "break") {
			return rules[:i+1], true
		}
	}
	return rules, false
}

// serverRoot is who is root on the machine of the server, by its socket: everywhere
// Debian and Ubuntu let that manage all.
const serverRoot = "gidnumber=0+uidnumber=0,cn=peercred,cn=external,cn=auth"

// withoutRoot is an access rule without what it gives to the server's own root.
func withoutRoot(rule string) string {
	words := strings.Fields(rule)
	for i := 0; i+2 < len(words); {
		who := strings.ReplaceAll(strings.ToLower(words[i+1]), `"`, "")
		if strings.EqualFold(words[i], "by") && (who == "dn.exact="+serverRoot || who == "dn="+serverRoot || who == "dn.base="+serverRoot) {
			words = slices.Delete(words, i, i+3)
			continue
		}
		i++
	}
	return strings.Join(words, " ")
}

// letsWrite reports whether an access rule (slapd.access(5)) gives anybody the right
// to write.
func letsWrite(rule string) bool {
	for _, word := range strings.Fields(strings.ToLower(rule)) {
		word = strings.TrimPrefix(word, "self")
		if word == "write" || word == "manage" || word == "add" ||
			strings.HasPrefix(word, "=") && strings.ContainsAny(word, "wam") || strings.HasPrefix(word, "+") && strings.ContainsAny(word, "wam") {
			return true
		}
	}
	return false
}

// mayBeAbout reports whether an access rule is about one of these attributes: it names
// one, or none at all.
func mayBeAbout(rule string, attributes map[string]bool) bool {
	for _, word := range strings.Fields(strings.ToLower(rule)) {
		if word == "by" {
			break
		}
		list, ok := strings.CutPrefix(word, "attrs=")
		if !ok {
			list, ok = strings.CutPrefix(word, "attr=")
		}
		if !ok {
			continue
		}
		for a := range strings.SplitSeq(list, ",") {
			// A class stands for its attributes, which are not known here.
			if attributes[a] || strings.HasPrefix(a, "@") || strings.HasPrefix(a, "!") {
				return true
			}
		}
		return false
	}
	return true
}

// SelfPower says which fields with power people could give themselves, by writing an
// attribute of their own entry that mail reads.
type SelfPower struct {
	// How says what was looked at, "" where the server does not tell.
	How      string
	Writable []SelfWrite
	// Unknown says why there may be more, "" where there is not.
	Unknown string
}

// samplePeople is how many people are looked at: rights differ by unit, not by person.
const samplePeople = 200

// CheckSelfPower looks which mapped attributes with power people may write in their
// own entry. Active Directory tells it of everybody: by their security descriptors,
// or, where these may not be read, those that its schema gives to new people, and by the
// sets of attributes of the schema. 389 Directory Server tells who may ask for
// effective rights, OpenLDAP who may read its configuration. What the configuration
// of Dirpost trusts is left out.
func (c *Client) CheckSelfPower(ctx context.Context) (SelfPower, error) {
	nc, err := c.read.get(ctx)
	if err != nil {
		return SelfPower{}, err
	}
	var found SelfPower
	mapped := c.powerSources()
	switch {
	case len(mapped) == 0:
	case c.isAD():
		found, err = c.selfByDescriptors(ctx, nc, mapped)
	default:
		if found, err = c.selfByEffectiveRights(ctx, nc, mapped); err == nil && found.How == "" {
			found, err = c.selfByRules(ctx, nc, mapped)
		}
	}
	c.read.put(nc, err)
	return found, err
}

// powerSources are the attributes of people that give power, with the fields, but for
// those that the configuration trusts, and those of lists.
func (c *Client) powerSources() map[string][]string {
	mapped := c.mapping.Load().fieldsOf(false)
	for attribute, fields := range mapped {
		fields = slices.DeleteFunc(slices.Clone(fields), func(f string) bool {
			level, _ := levelOf(f)
			return level != Power || slices.Contains(c.cfg.Trusted, f)
		})
		if len(fields) == 0 {
			delete(mapped, attribute)
		} else {
			mapped[attribute] = fields
		}
	}
	return mapped
}

func (c *Client) selfByDescriptors(ctx context.Context, nc *conn, mapped map[string][]string) (SelfPower, error) {
	guids, err := c.attributeSets(ctx, nc, mapped)
	if err != nil || len(guids) == 0 {
		return SelfPower{}, err
	}
	people, err := c.sample(ctx, nc, []string{attributeDescriptor}, sdFlags(sdAccess))
	if err != nil {
		return SelfPower{}, err
	}
	writable, read := map[string]bool{}, 0
	note := func(writes []string) {
		for _, one := range writes {
			for attribute, of := range guids {
				if one == "" || slices.Contains(of, one) {
					writable[attribute] = true
				}
			}
		}
	}
	for _, p := range people {
		raw := p.GetRawAttributeValue(attributeDescriptor)
		d, err := descriptor.Parse(raw)
		if err != nil {
			continue
		}
		read++
		note(d.SelfWritable())
	}
	how := fmt.Sprintf("security descriptors of %d people", read)
	if read == 0 {
		writes, err := c.selfByDefault(ctx, nc)
		if err != nil || len(writes) == 0 {
			return SelfPower{}, err
		}
		note(writes)
		how = "rights that the schema gives to new people"
	}
	check := SelfCheck{}
	for _, a := range slices.Sorted(maps.Keys(writable)) {
		check.add(a, mapped[a])
	}
	return SelfPower{How: how, Writable: check.Writable}, nil
}

// sample reads attributes of some people.
func (c *Client) sample(ctx context.Context, nc *conn, attributes []string, controls ...ldap.Control) ([]*ldap.Entry, error) {
	filter := "(&" + c.mapping.Load().filter + "(objectClass=person))"
	req := ldap.NewSearchRequest(c.cfg.Base, ldap.ScopeWholeSubtree, ldap.NeverDerefAliases, 0, 0, false, filter, attributes,
		append(controls, ldap.NewControlPaging(samplePeople)))
	res, err := nc.search(ctx, pageLimit, req)
	if err != nil && broken(err) {
		return nil, fmt.Errorf("read some people of directory %q: %w", c.cfg.Name, err)
	}
	if err != nil {
		return nil, nil
	}
	return res.Entries, nil
}

// attributeSets returns, of each attribute, its own GUID and that of the set that it is
// in, as the schema of Active Directory has them.
func (c *Client) attributeSets(ctx context.Context, nc *conn, mapped map[string][]string) (map[string][]string, error) {
	found, err := c.schemaOf(ctx, nc, slices.Sorted(maps.Keys(mapped)), "schemaIDGUID", "attributeSecurityGUID")
	if err != nil {
		return nil, err
	}
	sets := map[string][]string{}
	for attribute, e := range found {
		for _, a := range []string{"schemaIDGUID", "attributeSecurityGUID"} {
			if text, err := guid(string(e.GetRawAttributeValue(a))); err == nil {
				sets[attribute] = append(sets[attribute], text)
			}
		}
	}
	return sets, nil
}

// schemaOf reads what the schema of Active Directory says about attributes, by the name
// in names. That it may not be read is no error.
func (c *Client) schemaOf(ctx context.Context, nc *conn, names []string, attributes ...string) (map[string]*ldap.Entry, error) {
	root, err := readOne(ctx, nc, c.cfg.Timeout, "", "(objectClass=*)", "schemaNamingContext")
	if err != nil || root == nil {
		return nil, err
	}
	var filter strings.Builder
	byName := map[string]string{}
	for _, n := range names {
		byName[strings.ToLower(n)] = n
		filter.WriteString("(lDAPDisplayName=" + ldap.EscapeFilter(n) + ")")
	}
	req := ldap.NewSearchRequest(root.GetEqualFoldAttributeValue("schemaNamingContext"), ldap.ScopeSingleLevel, ldap.NeverDerefAliases, 0, 0, false,
		"(&(objectClass=attributeSchema)(|"+filter.String()+"))", append(attributes, "lDAPDisplayName"), nil)
	res, err := nc.search(ctx, c.cfg.Timeout, req)
	if err != nil && broken(err) {
		return nil, fmt.Errorf("read the schema of directory %q: %w", c.cfg.Name, err)
	}
	if err != nil {
		return nil, nil
	}
	found := map[string]*ldap.Entry{}
	for _, e := range res.Entries {
		if n := byName[strings.ToLower(e.GetEqualFoldAttributeValue("lDAPDisplayName"))]; n != "" {
			found[n] = e
		}
	}
	return found, nil
}

// sampleRights is how many people are asked about one by one.
const sampleRights = 20

func (c *Client) selfByEffectiveRights(ctx context.Context, nc *conn, mapped map[string][]string) (SelfPower, error) {
	people, err := c.sample(ctx, nc, []string{"1.1"})
	if err != nil {
		return SelfPower{}, err
	}
	var found SelfPower
	seen := map[string]bool{}
	for i, p := range people {
		if i == sampleRights {
			break
		}
		check, err := c.askEffective(ctx, nc, p.DN, mapped)
		if err != nil {
			return SelfPower{}, err
		}
		if check.How == "" {
			return found, nil
		}
		found.How = fmt.Sprintf("effective rights of %d people", i+1)
		for _, w := range check.Writable {
			if !seen[w.Attribute] {
				seen[w.Attribute] = true
				found.Writable = append(found.Writable, w)
			}
		}
	}
	return found, nil
}
