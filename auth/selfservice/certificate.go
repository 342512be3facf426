package selfservice

import (
	"context"
	"errors"
	"net"
	"net/http"
	"strings"

	"dirpost/auth"
	"dirpost/auth/sasl"
)

// isAsking reports whether the request is for the name under which browsers are asked
// for a certificate.
func (c *call) isAsking() bool {
	return c.site.cfg.CertificateHost != "" && strings.EqualFold(hostOf(c.r), c.site.cfg.CertificateHost)
}

// hostOf is the name of the host that a request is for, without its port.
func hostOf(r *http.Request) string {
	if h, _, err := net.SplitHostPort(r.Host); err == nil {
		return h
	}
	return r.Host
}

// isMisdirected reports whether a request for the name under which browsers are asked
// for a certificate came by a connection on which nobody was: browsers use one for all
// names that its certificate has (RFC 9110 §7.4, RFC 9113 §9.1.1).
func (c *call) isMisdirected() bool {
	return c.isAsking() && !strings.EqualFold(c.r.TLS.ServerName, c.site.cfg.CertificateHost)
}

// byCertificate lets in who has shown a certificate of their own (EXTERNAL, RFC 4422
// §A). handled says that the request is answered; else alert says why a certificate
// that was shown opens nothing.
func (c *call) byCertificate(to string) (handled bool, code int, alert string, err error) {
	if !c.isAsking() || len(c.r.TLS.PeerCertificates) == 0 {
		return false, http.StatusOK, "", nil
	}
	id, err := c.external(c.r.Context())
	if err == nil && (!isOwner(id) || c.s != nil && id.Person != c.s.person) {
		err = auth.ErrCredentials
	}
	if err != nil {
		code, word := loginWord(err)
		if errors.Is(err, auth.ErrMechanism) || word == "login.refused" {
			code, word = http.StatusForbidden, "login.certificate"
		}
		return false, code, say(word), nil
	}
	return true, 0, "", c.enter(&session{person: id.Person, authcid: id.Authcid, mechanism: id.Mechanism}, to)
}

// external is one login by the certificate of the connection.
func (c *call) external(ctx context.Context) (*auth.Identity, error) {
	x, err := c.site.deps.Bridge.Start(ctx, c.conn, sasl.External)
	if err != nil {
		return nil, err
	}
	if _, done, err := x.Next(ctx, []byte{}); err != nil || !done {
		return nil, errors.Join(err, ctx.Err())
	}
	return x.Identity(), nil
}

// proved lets in who shows who they are without typing anything: by certificate, or by
// a Kerberos ticket.
func (c *call) proved(to string) (handled bool, code int, alert string, err error) {
	if handled, code, alert, err = c.byCertificate(to); handled || err != nil || alert != "" {
		return handled, code, alert, err
	}
	return c.negotiate(to)
}
