package ldap

import (
	"context"
	"fmt"
	"strings"
)

// notPeople begin the naming contexts in which no people are: configuration, schema,
// monitoring, the log of changes, and zones of the DNS.
var notPeople = []string{"cn=config", "cn=schema", "cn=monitor", "cn=changelog", "cn=accesslog", "cn=ldbm", "o=ipaca", "o=netscaperoot", "dc=domaindnszones", "dc=forestdnszones", "cn=configuration,"}

// Bases connects with cfg, whose Base may be empty, and returns what the server says
// of itself could be it, the one that it names as the default first (RFC 4512 §5.1,
// [MS-ADTS] §3.1.1.3.2.6). None is no error: many servers tell it to nobody. Errors
// are for the administrator, as those of [Client.Check].
func Bases(ctx context.Context, cfg Config) ([]string, error) {
	if cfg.Base == "" {
		cfg.Base = "dc=unknown" // nothing below it is asked for
	}
	c, err := New(cfg)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	nc, err := c.dialer.dial(ctx, c.protection(), c.dialer.bindService)
	if err != nil {
		return nil, err
	}
	defer nc.end()
	root, err := readOne(ctx, nc, c.cfg.Timeout, "", "(objectClass=*)", "defaultNamingContext", "namingContexts")
	if err != nil {
		return nil, fmt.Errorf("ask directory %q what it is (root DSE): %w", cfg.Name, err)
	}
	if root == nil {
		return nil, nil
	}
	var all []string
	for _, dn := range append(root.GetEqualFoldAttributeValues("defaultNamingContext"), root.GetEqualFoldAttributeValues("namingContexts")...) {
		skip := dn == ""
		for _, prefix := range notPeople {
			skip = skip || strings.HasPrefix(strings.ToLower(dn), prefix)
		}
		for _, seen := range all {
			skip = skip || strings.EqualFold(seen, dn)
		}
		if !skip {
			all = append(all, dn)
		}
	}
	return all, nil
}
