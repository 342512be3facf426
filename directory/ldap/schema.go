package ldap

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/go-ldap/ldap/v3"
)

// schema is what a server says that it is and that its entries may hold.
type schema struct {
	vendor     string            // vendorName (RFC 3045), "" where it says none
	ad         bool              // Active Directory, by its capability
	known      bool              // attributes and classes were read
	attributes map[string]string // name in lower case -> OID
	classes    map[string]string
}

// The bounds of a schema: definitions that are looked at, and octets of each.
const (
	maxDefinitions = 50_000
	maxDefinition  = 64 << 10
)

// capabilityAD is what every domain controller has among its capabilities
// (MS-ADTS 3.1.1.3.4.3).
const capabilityAD = "1.2.840.113556.1.4.800"

// readSchema asks the server of nc what it is, and which of the attributes and
// classes in names it knows. That the schema may not be read is no error.
func readSchema(ctx context.Context, nc *conn, timeout time.Duration, names []string) (*schema, error) {
	root, err := readOne(ctx, nc, timeout, "", "(objectClass=*)", "vendorName", "supportedCapabilities", "subschemaSubentry", "schemaNamingContext")
	if err != nil {
		return nil, fmt.Errorf("ask the server what it is (root DSE): %w", err)
	}
	s := &schema{attributes: map[string]string{}, classes: map[string]string{}}
	if root == nil {
		return s, nil
	}
	s.vendor = root.GetEqualFoldAttributeValue("vendorName")
	for _, c := range root.GetEqualFoldAttributeValues("supportedCapabilities") {
		s.ad = s.ad || c == capabilityAD
	}
	if s.ad {
		return s, s.readAD(ctx, nc, timeout, root.GetEqualFoldAttributeValue("schemaNamingContext"), names)
	}
	dn := root.GetEqualFoldAttributeValue("subschemaSubentry")
	if dn == "" {
		return s, nil
	}
	sub, err := readOne(ctx, nc, timeout, dn, "(objectClass=subschema)", "attributeTypes", "objectClasses")
	if err != nil {
		return nil, fmt.Errorf("read the schema %s: %w", dn, err)
	}
	if sub == nil {
		return s, nil
	}
	s.known = true
	define(s.attributes, sub.GetEqualFoldAttributeValues("attributeTypes"))
	define(s.classes, sub.GetEqualFoldAttributeValues("objectClasses"))
	return s, nil
}

// readAD asks Active Directory for single definitions: all of them together are
// more than a server with Exchange gives at once.
func (s *schema) readAD(ctx context.Context, nc *conn, timeout time.Duration, base string, names []string) error {
	if base == "" {
		return nil
	}
	var filter strings.Builder
	filter.WriteString("(|")
	for _, n := range names {
		filter.WriteString("(lDAPDisplayName=" + ldap.EscapeFilter(n) + ")")
	}
	filter.WriteString(")")
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	var res *ldap.SearchResult
	err := nc.do(ctx, func() (err error) {
		res, err = nc.Search(ldap.NewSearchRequest(base, ldap.ScopeSingleLevel, ldap.NeverDerefAliases, 0, 0, false, filter.String(), []string{"lDAPDisplayName", "attributeID", "governsID"}, nil))
		return err
	})
	if err != nil {
		if broken(err) {
			return fmt.Errorf("read the schema %s: %w", base, err)
		}
		return nil
	}
	s.known = true
	for _, e := range res.Entries {
		name := strings.ToLower(e.GetEqualFoldAttributeValue("lDAPDisplayName"))
		if oid := e.GetEqualFoldAttributeValue("attributeID"); oid != "" {
			s.attributes[name] = oid
		} else {
			s.classes[name] = e.GetEqualFoldAttributeValue("governsID")
		}
	}
	return nil
}

// readOne reads attributes of one entry, nil if it is not there or may not be
// read.
func readOne(ctx context.Context, nc *conn, timeout time.Duration, dn, filter string, attributes ...string) (*ldap.Entry, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	var res *ldap.SearchResult
	err := nc.do(ctx, func() (err error) {
		res, err = nc.Search(ldap.NewSearchRequest(dn, ldap.ScopeBaseObject, ldap.NeverDerefAliases, 1, 0, false, filter, attributes, nil))
		return err
	})
	if err != nil && broken(err) {
		return nil, err
	}
	if err != nil || len(res.Entries) == 0 {
		return nil, nil
	}
	return res.Entries[0], nil
}

// define enters the names of definitions.
func define(into map[string]string, definitions []string) {
	for i, text := range definitions {
		if i == maxDefinitions {
			return
		}
		oid, names := parseDefinition(text)
		for _, n := range names {
			into[strings.ToLower(n)] = oid
		}
	}
}

// parseDefinition takes the object identifier and the names from the definition
// of an attribute type or object class (RFC 4512 §4.1). Of what is none, it takes
// nothing.
func parseDefinition(text string) (oid string, names []string) {
	if len(text) > maxDefinition {
		return "", nil
	}
	token, rest := definitionToken(text)
	if token != "(" {
		return "", nil
	}
	oid, rest = definitionToken(rest)
	if oid == "" || oid[0] == '\'' || oid == "(" || oid == ")" {
		return "", nil
	}
	for {
		token, rest = definitionToken(rest)
		switch token {
		case "":
			return oid, nil
		case "NAME":
			return oid, definitionNames(rest)
		}
	}
}

// definitionNames takes 'name' or ( 'name' 'name' ) from the front of text.
func definitionNames(text string) []string {
	token, rest := definitionToken(text)
	list := token == "("
	if list {
		token, rest = definitionToken(rest)
	}
	var names []string
	for len(token) > 2 && token[0] == '\'' && isAttribute(token[1:len(token)-1]) {
		names = append(names, token[1:len(token)-1])
		if !list {
			break
		}
		token, rest = definitionToken(rest)
	}
	return names
}

// definitionToken takes a parenthesis, a quoted string with its quotes, or a word
// from the front of text, "" at its end.
func definitionToken(text string) (token, rest string) {
	text = strings.TrimLeft(text, " \t\r\n")
	if text == "" {
		return "", ""
	}
	switch text[0] {
	case '(', ')', '$':
		return text[:1], text[1:]
	case '\'':
		end := strings.IndexByte(text[1:], '\'')
		if end < 0 {
			return "", ""
		}
		return text[:end+2], text[end+2:]
	}
	end := strings.IndexAny(text, " \t\r\n()'$")
	if end < 0 {
		end = len(text)
	}
	return text[:end], text[end:]
}
