package ldap

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/go-ldap/ldap/v3"

	"dirpost/directory"
)

// Object identifiers of controls, as supportedControl has them.
const (
	oidSyncrepl = "1.3.6.1.4.1.4203.1.9.1.1" // RFC 4533
	oidDirSync  = ldap.ControlTypeDirSync
)

// dsa is what a server says about itself.
type dsa struct {
	name       string   // dNSHostName, "" where there is none
	invocation string   // of the copy of its database: another one numbers its changes anew
	usn        int64    // highestCommittedUSN: the number of its last change
	context    string   // the naming context that holds the base
	contexts   []string // all naming contexts, that one first
}

// search runs one search that must be over within limit.
func (c *conn) search(ctx context.Context, limit time.Duration, req *ldap.SearchRequest) (*ldap.SearchResult, error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	var res *ldap.SearchResult
	err := c.do(ctx, func() (err error) { res, err = c.Search(req); return err })
	return res, err
}

// readObject reads attributes of one entry, "" for what the server says about
// itself (RFC 4512 §5.1).
func (b *base) readObject(ctx context.Context, c *conn, dn string, attributes ...string) (*ldap.Entry, error) {
	res, err := c.search(ctx, b.client.cfg.Timeout, ldap.NewSearchRequest(dn, ldap.ScopeBaseObject, ldap.NeverDerefAliases, 1, 0, false,
		"(objectClass=*)", attributes, nil))
	if err != nil {
		return nil, err
	}
	if len(res.Entries) == 0 {
		return nil, ldap.NewError(ldap.LDAPResultNoSuchObject, fmt.Errorf("%q is not there, or %s may not read it", dn, b.client.cfg.account()))
	}
	return res.Entries[0], nil
}

// readDSA reads what the server of c says about itself.
func (b *base) readDSA(ctx context.Context, c *conn) (*dsa, error) {
	e, err := b.readObject(ctx, c, "", "dnsHostName", "dsServiceName", "highestCommittedUSN", "namingContexts")
	if err != nil {
		return nil, fmt.Errorf("ask directory %q what it is: %w", b.Name(), err)
	}
	d := &dsa{name: strings.ToLower(e.GetEqualFoldAttributeValue("dnsHostName"))}
	all := e.GetEqualFoldAttributeValues("namingContexts")
	d.context = namingContext(b.client.cfg.Base, all)
	d.contexts = append([]string{d.context}, slices.DeleteFunc(slices.Clone(all), func(c string) bool { return c == d.context })...)
	d.usn, _ = strconv.ParseInt(e.GetEqualFoldAttributeValue("highestCommittedUSN"), 10, 64)
	if ds := e.GetEqualFoldAttributeValue("dsServiceName"); ds != "" {
		ntds, err := b.readObject(ctx, c, ds, "invocationId")
		if err != nil {
			return nil, fmt.Errorf("read invocationId of %s: %w", ds, err)
		}
		d.invocation, _ = guid(ntds.GetEqualFoldAttributeValue("invocationId"))
	}
	return d, nil
}

// readUSN reads the number of the last change of a domain controller.
func (b *base) readUSN(ctx context.Context, c *conn) (int64, error) {
	e, err := b.readObject(ctx, c, "", "highestCommittedUSN")
	if err != nil {
		return 0, err
	}
	n, err := strconv.ParseInt(e.GetEqualFoldAttributeValue("highestCommittedUSN"), 10, 64)
	if err != nil {
		return 0, errors.New("the server numbers no changes (highestCommittedUSN)")
	}
	return n, nil
}

// namingContext returns the naming context that holds base: the longest one that it
// ends in.
func namingContext(base string, contexts []string) string {
	best, normal := "", directory.NormalizeDN(base)
	for _, c := range contexts {
		n := directory.NormalizeDN(c)
		if (normal == n || n != "" && strings.HasSuffix(normal, ","+n)) && len(c) > len(best) {
			best = c
		}
	}
	return best
}
