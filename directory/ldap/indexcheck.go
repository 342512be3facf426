package ldap

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/go-ldap/ldap/v3"

	"dirpost/directory"
)

// Indexes says which indexes a server lacks for what we ask it.
type Indexes struct {
	Missing []MissingIndex
	// Unknown says why it cannot be told, "" where it can.
	Unknown string
}

// MissingIndex is an attribute that searches ask for and the server has no index of.
type MissingIndex struct {
	Attribute string
	Why       string // what asks for it
	LDIF      string // the change that adds it, for ldapmodify
}

// CheckIndexes looks whether the server has indexes for the filters by which it is
// read: the one of the entries that mail should know, with what is added to it, and what
// it needs to tell changes. Without them each search reads all of the directory.
// OpenLDAP tells in cn=config, if the account may read that, Active Directory in its
// schema.
func (c *Client) CheckIndexes(ctx context.Context) (Indexes, error) {
	nc, err := c.read.get(ctx)
	if err != nil {
		return Indexes{}, err
	}
	var found Indexes
	if c.isAD() {
		found, err = c.schemaIndexes(ctx, nc)
	} else {
		found, err = c.configIndexes(ctx, nc)
	}
	c.read.put(nc, err)
	return found, err
}

// asked are the attributes that searches ask for, with the reason, in order.
func (c *Client) asked() (names []string, why map[string]string) {
	why = map[string]string{}
	add := func(attribute, reason string) {
		attribute = strings.ToLower(attribute)
		if why[attribute] == "" {
			names, why[attribute] = append(names, attribute), reason
		}
	}
	m := c.mapping.Load()
	if text, err := directory.FilterQuery(c.cfg.Base, m.filter); err == nil {
		if q, err := directory.ParseQuery(text); err == nil {
			for _, a := range q.Attributes() {
				add(a, "the filter "+m.filter)
			}
		}
	}
	if c.isAD() {
		for _, field := range dnFields {
			for _, src := range m.fields[field] {
				if src.list == nil {
					add(src.attribute, "who names an entry that was renamed")
				}
			}
		}
		return names, why
	}
	add("entryCSN", "following changes (syncprov)")
	add("entryUUID", "following changes (syncprov)")
	return names, why
}

// serverConfig is what the configuration of an OpenLDAP server (slapd-config(5)) says of
// the database below which the base is.
type serverConfig struct {
	dn      string // of the database
	indexes []string
	rules   []string // of access, in the order in which they count, the front end's last
	// front says whether the front end could be read. Else there may be more rules.
	front bool
}

// configuration reads the configuration of the server, nil where the account may not
// read it or the server is no OpenLDAP.
func (c *Client) configuration(ctx context.Context, nc *conn) (*serverConfig, error) {
	req := ldap.NewSearchRequest("cn=config", ldap.ScopeSingleLevel, ldap.NeverDerefAliases, 0, 0, false,
		"(objectClass=olcDatabaseConfig)", []string{"olcDatabase", "olcSuffix", "olcDbIndex", "olcAccess"}, nil)
	res, err := nc.search(ctx, c.cfg.Timeout, req)
	if err != nil && broken(err) {
		return nil, fmt.Errorf("read the configuration of directory %q: %w", c.cfg.Name, err)
	}
	if err != nil {
		return nil, nil
	}
	base := directory.NormalizeDN(c.cfg.Base)
	var best, front *ldap.Entry
	length := -1
	for _, e := range res.Entries {
		if strings.EqualFold(orderPrefix.ReplaceAllString(e.GetEqualFoldAttributeValue("olcDatabase"), ""), "frontend") {
			front = e
		}
		for _, s := range e.GetEqualFoldAttributeValues("olcSuffix") {
			if s = directory.NormalizeDN(s); (base == s || strings.HasSuffix(base, ","+s)) && len(s) > length {
				best, length = e, len(s)
			}
		}
	}
	if best == nil {
		return nil, nil
	}
	found := &serverConfig{dn: best.DN, indexes: best.GetEqualFoldAttributeValues("olcDbIndex"), rules: inOrder(best.GetEqualFoldAttributeValues("olcAccess"))}
	if front != nil {
		// Rules of the front end are appended to those of each database.
		found.front = true
		found.rules = append(found.rules, inOrder(front.GetEqualFoldAttributeValues("olcAccess"))...)
	}
	return found, nil
}

// inOrder sorts values by the numbers in braces that they begin with.
func inOrder(values []string) []string {
	number := func(v string) int {
		n, err := strconv.Atoi(strings.Trim(orderPrefix.FindString(v), "{}"))
		if err != nil {
			return 0
		}
		return n
	}
	values = slices.Clone(values)
	slices.SortStableFunc(values, func(a, b string) int { return number(a) - number(b) })
	return values
}

func (c *Client) configIndexes(ctx context.Context, nc *conn) (Indexes, error) {
	names, why := c.asked()
	db, err := c.configuration(ctx, nc)
	if err != nil {
		return Indexes{}, err
	}
	if db == nil {
		return Indexes{Unknown: "the account may not read the server's configuration (cn=config in OpenLDAP); these should have an equality index: " + strings.Join(names, ", ")}, nil
	}
	has := equalityIndexes(db.indexes)
	var found Indexes
	for _, a := range names {
		if !has[a] {
			found.Missing = append(found.Missing, MissingIndex{Attribute: a, Why: why[a],
				LDIF: "dn: " + db.dn + "\nchangetype: modify\nadd: olcDbIndex\nolcDbIndex: " + a + " eq\n"})
		}
	}
	return found, nil
}

var orderPrefix = regexp.MustCompile(`^\{-?\d+\}`)

// equalityIndexes are the attributes, in lower case, with an index that equality uses,
// by the values of olcDbIndex: "uid,mail eq,sub", "cn", "default eq" (slapd-mdb(5)).
func equalityIndexes(values []string) map[string]bool {
	has := map[string]bool{}
	isEqual := func(types string) bool {
		return slices.Contains(strings.Split(strings.ToLower(types), ","), "eq")
	}
	byDefault := false
	for _, v := range values {
		attributes, types, ok := strings.Cut(strings.TrimSpace(orderPrefix.ReplaceAllString(v, "")), " ")
		if strings.EqualFold(attributes, "default") {
			byDefault = isEqual(types)
			continue
		}
		if ok && !isEqual(types) || !ok && !byDefault {
			continue
		}
		for a := range strings.SplitSeq(attributes, ",") {
			bare, _, _ := strings.Cut(strings.ToLower(strings.TrimSpace(a)), ";")
			has[bare] = true
		}
	}
	return has
}

// searchIndexed is fATTINDEX of searchFlags (MS-ADTS 2.2.10).
const searchIndexed = 1

// schemaIndexes looks at searchFlags. Attributes that link entries have an index of
// their own, and classes are found by objectCategory.
func (c *Client) schemaIndexes(ctx context.Context, nc *conn) (Indexes, error) {
	names, why := c.asked()
	names = slices.DeleteFunc(names, func(a string) bool { return a == "objectclass" })
	schema, err := c.schemaOf(ctx, nc, names, "searchFlags", "linkID")
	if err != nil {
		return Indexes{}, err
	}
	if len(schema) == 0 && len(names) > 0 {
		return Indexes{Unknown: "the account may not read the schema; these should be indexed: " + strings.Join(names, ", ")}, nil
	}
	var found Indexes
	for _, a := range names {
		e := schema[a]
		if e == nil || e.GetEqualFoldAttributeValue("linkID") != "" {
			continue
		}
		flags, _ := strconv.Atoi(e.GetEqualFoldAttributeValue("searchFlags"))
		if flags&searchIndexed != 0 {
			continue
		}
		found.Missing = append(found.Missing, MissingIndex{Attribute: e.GetEqualFoldAttributeValue("lDAPDisplayName"), Why: why[a],
			LDIF: fmt.Sprintf("dn: %s\nchangetype: modify\nreplace: searchFlags\nsearchFlags: %d\n", e.DN, flags|searchIndexed)})
	}
	return found, nil
}
