package ldap

import (
	"fmt"
	"strings"

	"github.com/go-ldap/ldap/v3"
)

// ignoreReferrals takes note of what a server has said lies elsewhere (RFC 4511
// §4.1.10, §4.5.3): nobody goes there, least of all with a password. One line in
// the log says so, and no more: Active Directory names its other partitions in
// every search.
func (c *Client) ignoreReferrals(urls []string) {
	if len(urls) == 0 {
		return
	}
	c.referred.Do(func() {
		first := urls[0]
		c.cfg.Log.Info("the directory refers to other servers, which are not asked: what lies there needs a directory section of its own",
			"directory", c.cfg.Name, "referral", first[:min(len(first), 200)])
	})
}

// searchError says what to do about a search that the server refuses: the base
// lies elsewhere, or the account may not see everything.
func (c *Client) searchError(err error) error {
	switch {
	case err == nil:
		return nil
	case ldap.IsErrorWithCode(err, ldap.LDAPResultReferral):
		return &SetupError{fmt.Errorf("directory %q does not have %s itself and refers to other servers, which are not followed: name the servers that have it in urls, or correct base", c.cfg.Name, c.cfg.Base)}
	case ldap.IsErrorAnyOf(err, ldap.LDAPResultSizeLimitExceeded, ldap.LDAPResultAdminLimitExceeded, ldap.LDAPResultTimeLimitExceeded):
		return fmt.Errorf("directory %q shows %s a part of its entries only (%w): raise its limits for that account", c.cfg.Name, c.cfg.account(), err)
	}
	if strings.Contains(err.Error(), "greater than maximum") { // the BER library has no error for it
		return fmt.Errorf("directory %q has an entry of more than %d MiB in what mail reads of it, and nothing can be read past it: make it smaller: %w", c.cfg.Name, maxPacket>>20, err)
	}
	return err
}
