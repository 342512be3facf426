package ldap

import (
	"context"
	"fmt"
	"strings"

	"github.com/go-ldap/ldap/v3"

	"dirpost/directory"
)

// netbiosName reads the NetBIOS name of the domain that holds the base: each domain
// of the forest has a crossRef with it among its partitions (MS-ADTS §6.1.1.2.1.1).
// It is "" where that may not be read.
func (c *Client) netbiosName(ctx context.Context, nc *conn) (string, error) {
	root, err := readOne(ctx, nc, c.cfg.Timeout, "", "(objectClass=*)", "configurationNamingContext")
	if err != nil || root == nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(ctx, c.cfg.Timeout)
	defer cancel()
	var res *ldap.SearchResult
	err = nc.do(ctx, func() (err error) {
		res, err = nc.Search(ldap.NewSearchRequest("CN=Partitions,"+root.GetEqualFoldAttributeValue("configurationNamingContext"), ldap.ScopeSingleLevel, ldap.NeverDerefAliases,
			0, 0, false, "(&(objectClass=crossRef)(nETBIOSName=*))", []string{"nCName", "nETBIOSName"}, nil))
		return err
	})
	if err != nil {
		if broken(err) {
			return "", fmt.Errorf("read the domains of the forest: %w", err)
		}
		return "", nil
	}
	return domainHolding(c.cfg.Base, res.Entries), nil
}

// domainHolding returns the NetBIOS name of the domain that a DN is in: of a child
// domain and its parent that is the child.
func domainHolding(dn string, crossRefs []*ldap.Entry) (name string) {
	dn, longest := ","+directory.NormalizeDN(dn), 0
	for _, e := range crossRefs {
		context := directory.NormalizeDN(e.GetEqualFoldAttributeValue("nCName"))
		netbios := e.GetEqualFoldAttributeValue("nETBIOSName")
		if context == "" || len(context) <= longest || !strings.HasSuffix(dn, ","+context) || strings.ContainsAny(netbios, `\@`) {
			continue
		}
		name, longest = netbios, len(context)
	}
	return name
}
