package ldap

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"

	"github.com/go-ldap/ldap/v3"

	"dirpost/internal/gssapi"
)

// Machine is an account with keys, by which connections are bound and sealed.
type Machine struct {
	Principal string // without realm: MAIL$
	Realm     string
	// Keytab has the key that is in use.
	Keytab []byte
	// Pending are keytabs of keys that the domain has perhaps taken already, or that
	// a controller of it still has: they are tried, the first one first, where it
	// refuses that of Keytab.
	Pending [][]byte
	// Tickets is a keytab with all keys that a ticket for the account may be made
	// with, old ones too. Empty means Keytab.
	Tickets []byte
	// CA holds PEM certificates that may have signed the servers' ones, "" for
	// what the configuration says.
	CA string
}

// identity is a Machine made ready.
type identity struct {
	initiators []*gssapi.Initiator // that of Keytab, those of Pending
	own        gssapi.Account      // with the keytab that opens tickets
	roots      *x509.CertPool      // nil: as configured
}

// ErrNotJoined reports that the account of this system in the domain is not known.
var ErrNotJoined = errors.New("this system is not joined to the domain: run 'dirpost join'")

// SetMachine tells which account binds with [BindJoined]. It may be called at any
// time, from any goroutine; connections that are there go on.
func (c *Client) SetMachine(m Machine) error { return c.dialer.setMachine(m) }

func (d *dialer) setMachine(m Machine) error {
	d.keys.Lock()
	defer d.keys.Unlock()
	id, kdcs := &identity{}, d.servers.kdcs()
	for _, keytab := range append([][]byte{m.Keytab}, m.Pending...) {
		i, err := gssapi.NewInitiator(gssapi.Account{Principal: m.Principal, Realm: m.Realm, Keytab: keytab, KDCs: kdcs})
		if err != nil {
			return fmt.Errorf("keytab: %w", err)
		}
		id.initiators = append(id.initiators, i)
	}
	if m.Tickets == nil {
		m.Tickets = m.Keytab
	}
	id.own = gssapi.Account{Principal: m.Principal, Realm: m.Realm, Keytab: m.Tickets, KDCs: kdcs}
	if m.CA != "" && d.cfg.CA == "" {
		id.roots = x509.NewCertPool()
		if !id.roots.AppendCertsFromPEM([]byte(m.CA)) {
			return errors.New("authority of the domain: holds no PEM certificate")
		}
	}
	d.machine.Store(id)
	return nil
}

// setKDCs says who gives tickets now.
func (d *dialer) setKDCs(kdcs []string) {
	d.keys.Lock()
	defer d.keys.Unlock()
	old := d.machine.Load()
	if old == nil {
		return // setMachine asks
	}
	id := *old
	id.own.KDCs = kdcs
	for _, i := range id.initiators {
		i.SetKDCs(kdcs)
	}
	d.machine.Store(&id)
}

// bindSealed binds c with the key of the account and seals it.
func (d *dialer) bindSealed(ctx context.Context, c *conn) error {
	id := d.machine.Load()
	if id == nil {
		return fmt.Errorf("directory %q: %w", d.cfg.Name, ErrNotJoined)
	}
	var err error
	for _, i := range id.initiators {
		if d.cfg.Bind == BindJoined {
			err = c.sealToController(ctx, i, DNSDomain(d.cfg.Base))
		} else {
			err = c.seal(ctx, i, c.server.name)
		}
		var refused *gssapi.RefusedError
		if !errors.As(err, &refused) || refused.Code != gssapi.CodePassword {
			break
		}
	}
	if err == nil {
		return nil
	}
	err = fmt.Errorf("as %s@%s: %w", id.own.Principal, id.own.Realm, err)
	// Keys of a joined computer change, and controllers hear of it one after the
	// other; a keytab from a file stays as it is.
	var refused *gssapi.RefusedError
	if d.cfg.Bind == BindGSSAPI && errors.As(err, &refused) && (refused.Code == gssapi.CodePassword || refused.Code == gssapi.CodeUnknownClient) {
		return &SetupError{fmt.Errorf("directory %q refuses the account: %w", d.cfg.Name, err)}
	}
	return err
}

// tlsConfig is what a connection to s is made with.
func (d *dialer) tlsConfig(s *server) *tls.Config {
	id := d.machine.Load()
	if id == nil || id.roots == nil {
		return s.tls
	}
	c := s.tls.Clone()
	c.RootCAs = id.roots
	return c
}

// errNoTLS reports a server that answers that it has no TLS.
var errNoTLS = errors.New("server has no TLS")

// isNoTLS reports whether a server that declines StartTLS with this result has no
// TLS. A handshake that fails is something else: a server with a wrong certificate
// is not one without.
func isNoTLS(code uint16) bool {
	switch code {
	case ldap.LDAPResultOperationsError, ldap.LDAPResultProtocolError, ldap.LDAPResultUnavailable, ldap.LDAPResultUnwillingToPerform:
		return true
	}
	return false
}
