package ldap

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/go-ldap/ldap/v3"

	"dirpost/internal/gssapi"
)

// Session is one connection to a domain controller of Active Directory, bound by
// Kerberos and sealed, for who administers. It is used by one goroutine.
type Session struct {
	// Root is what the controller says of itself and its domain.
	Root RootDSE
	// KDC is the controller as the one who gives tickets, host:port: what was
	// changed here is known there at once.
	KDC  string
	c    *conn
	wait time.Duration
}

// RootDSE is what a domain controller tells everybody ([MS-ADTS] §3.1.1.3.2).
type RootDSE struct {
	Host            string // full name
	Base            string // DN of the domain
	ConfigurationDN string
	Forest          string // DN of its root domain
	Level           int    // domainControllerFunctionality: 2 is 2003, 4 2008 R2, 7 2016, 10 2025
	Time            time.Time
}

// Open connects to a domain controller as an account that need not be the one that
// reads, binds by Kerberos and seals. No certificate is needed. The ticket is for
// the service ldap/HOST/DOMAIN, which nobody but a domain controller of DOMAIN
// has, so it does not matter who says what HOST is: a search in DNS, or the other
// side itself. Without KDCs in a, the controller is asked for tickets first.
//
// A [gssapi.RefusedError] is the KDC's no.
func (c *Client) Open(ctx context.Context, a gssapi.Account) (*Session, error) {
	ctx, cancel := context.WithTimeout(ctx, c.cfg.ConnectTimeout)
	defer cancel()
	nc, err := c.dialer.dial(ctx, byKerberos, nil)
	if err != nil {
		return nil, err
	}
	s := &Session{c: nc, wait: c.cfg.Timeout, KDC: nc.kdc()}
	if len(c.cfg.KDCs) > 0 {
		s.KDC = c.cfg.kdcs()[0]
	}
	if len(a.KDCs) == 0 {
		a.KDCs = append([]string{s.KDC}, slices.DeleteFunc(c.dialer.servers.kdcs(), func(k string) bool { return k == s.KDC })...)
	}
	if err := s.open(ctx, c.cfg.Base, a); err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

// kdc is the address of the KDC on the same host.
func (c *conn) kdc() string {
	host, _, _ := net.SplitHostPort(c.net.RemoteAddr().String())
	return net.JoinHostPort(host, "88")
}

func (s *Session) open(ctx context.Context, base string, a gssapi.Account) error {
	initiator, err := gssapi.NewInitiator(a)
	if err != nil {
		return err
	}
	if err := s.c.sealToController(ctx, initiator, DNSDomain(base)); err != nil {
		return err
	}
	s.Root, err = s.c.readRoot(ctx)
	return err
}

// sealToController binds c to a controller of domain, whatever its name.
func (c *conn) sealToController(ctx context.Context, initiator *gssapi.Initiator, domain string) error {
	name := c.server.name
	if _, err := netip.ParseAddr(name); err == nil || !strings.Contains(name, ".") {
		// Asked in clear; the bind shows whether it is true.
		root, err := c.readRoot(ctx)
		if err != nil {
			return err
		}
		if name = root.Host; name == "" {
			return errors.New("server does not say its name: it is no domain controller")
		}
	}
	return c.seal(ctx, initiator, name, domain)
}

// DNSDomain is the DNS name of the domain that holds an entry: that of the DC=
// parts at the end of its DN. "" if there are none.
func DNSDomain(dn string) string {
	parsed, err := ldap.ParseDN(dn)
	if err != nil {
		return ""
	}
	var labels []string
	for _, rdn := range parsed.RDNs {
		if len(rdn.Attributes) == 1 && strings.EqualFold(rdn.Attributes[0].Type, "DC") {
			labels = append(labels, strings.ToLower(rdn.Attributes[0].Value))
		} else {
			labels = nil
		}
	}
	return strings.Join(labels, ".")
}

// seal binds c by Kerberos and seals it.
func (c *conn) seal(ctx context.Context, initiator *gssapi.Initiator, instance ...string) error {
	nc, ok := c.net.(*sealable)
	if !ok {
		return errors.New("connection cannot be sealed")
	}
	x, err := initiator.Initiate(ctx, "ldap", instance...)
	if err != nil {
		return err
	}
	client := &sealer{exchange: x}
	name := "ldap/" + strings.Join(instance, "/")
	if err := c.do(ctx, func() error { return c.GSSAPIBind(client, name, "") }); err != nil {
		// Perhaps the server has a new key: the next try begins anew.
		initiator.Forget("ldap", instance...)
		return fmt.Errorf("GSSAPI bind to %s: %w", name, err)
	}
	nc.seal(client.context, client.maxSend)
	return nil
}

// readRoot reads the root DSE.
func (c *conn) readRoot(ctx context.Context) (RootDSE, error) {
	var res *ldap.SearchResult
	err := c.do(ctx, func() (err error) {
		res, err = c.Search(ldap.NewSearchRequest("", ldap.ScopeBaseObject, ldap.NeverDerefAliases, 1, 0, false, "(objectClass=*)",
			[]string{"dnsHostName", "defaultNamingContext", "configurationNamingContext", "rootDomainNamingContext", "domainControllerFunctionality", "currentTime"}, nil))
		return err
	})
	if err != nil {
		return RootDSE{}, fmt.Errorf("read what the server says of itself: %w", err)
	}
	if len(res.Entries) != 1 {
		return RootDSE{}, errors.New("server says nothing of itself")
	}
	e := res.Entries[0]
	r := RootDSE{
		Host: e.GetAttributeValue("dnsHostName"), Base: e.GetAttributeValue("defaultNamingContext"),
		ConfigurationDN: e.GetAttributeValue("configurationNamingContext"), Forest: e.GetAttributeValue("rootDomainNamingContext"),
	}
	r.Level, _ = strconv.Atoi(e.GetAttributeValue("domainControllerFunctionality"))
	r.Time, _ = time.Parse("20060102150405.0Z", e.GetAttributeValue("currentTime"))
	return r, nil
}

// Close ends the connection.
func (s *Session) Close() { s.c.end() }

// do runs one request within its time.
func (s *Session) do(ctx context.Context, f func() error) error {
	ctx, cancel := context.WithTimeout(ctx, s.wait)
	defer cancel()
	return s.c.do(ctx, f)
}

// Search returns the entries that match, at most a few thousand. Referrals are
// not followed.
func (s *Session) Search(ctx context.Context, base string, scope int, filter string, attributes ...string) ([]*ldap.Entry, error) {
	var res *ldap.SearchResult
	err := s.do(ctx, func() (err error) {
		res, err = s.c.Search(ldap.NewSearchRequest(base, scope, ldap.NeverDerefAliases, 0, 0, false, filter, attributes, nil))
		return err
	})
	if err != nil {
		return nil, err
	}
	return res.Entries, nil
}

// Read returns one entry, nil if it does not exist or may not be seen.
func (s *Session) Read(ctx context.Context, dn string, attributes ...string) (*ldap.Entry, error) {
	entries, err := s.Search(ctx, dn, ldap.ScopeBaseObject, "(objectClass=*)", attributes...)
	if ldap.IsErrorWithCode(err, ldap.LDAPResultNoSuchObject) || err == nil && len(entries) == 0 {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return entries[0], nil
}

// Add adds an entry.
func (s *Session) Add(ctx context.Context, req *ldap.AddRequest) error {
	return s.do(ctx, func() error { return s.c.Add(req) })
}

// Modify changes an entry.
func (s *Session) Modify(ctx context.Context, req *ldap.ModifyRequest) error {
	return s.do(ctx, func() error { return s.c.Modify(req) })
}

// Delete deletes an entry.
func (s *Session) Delete(ctx context.Context, dn string) error {
	return s.do(ctx, func() error { return s.c.Del(ldap.NewDelRequest(dn, nil)) })
}
