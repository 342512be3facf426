package smtpd

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"net"
	"time"

	"dirpost/auth"
	"dirpost/internal/envelope"
)

var (
	statusHasTLS = envelope.Status{Code: 503, Enhanced: "5.5.1", Text: "TLS is active already"}
	statusReady  = envelope.Status{Code: 220, Enhanced: "2.0.0", Text: "Ready to start TLS"}
	statusInMail = envelope.Status{Code: 503, Enhanced: "5.5.1", Text: "Not during a mail transaction"}
)

// starttls changes to TLS. What the client has sent behind the command is dropped
// unseen, and the session begins anew (RFC 3207 §4.2): otherwise somebody on the
// way could put words into it.
func starttls(ctx context.Context, c *conn, _ []byte) error {
	switch {
	case c.client.TLS != "":
		return c.refuse(ctx, "STARTTLS", envelope.Because(statusHasTLS, nil))
	case c.srv.deps.TLS == nil:
		return c.refuse(ctx, "STARTTLS", envelope.Because(statusNotHere, nil))
	case c.mail.tx != nil:
		return c.refuse(ctx, "STARTTLS", envelope.Because(statusInMail, nil))
	}
	if n := c.in.discard(); n > 0 {
		c.event(ctx, slog.LevelInfo, "plaintext behind STARTTLS dropped", slog.Int("size", n))
	}
	c.reply(statusReady)
	if err := c.flush(); err != nil {
		return err
	}
	if err := c.startTLS(ctx); err != nil {
		// RFC 3207 §4.1: the client decides what to do when TLS fails; going
		// on in clear is what nobody asked for.
		c.dead = err
		return err
	}
	return nil
}

// startTLS does the handshake. After an error the connection is dead. A shutdown lets
// it end, in a short time: within it there is no place for 421, behind it there is.
func (c *conn) startTLS(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, c.srv.cfg.TLSTimeout)
	defer cancel()
	if err := c.beginHandshake(); err != nil {
		return err
	}
	defer c.endHandshake()
	tc := tls.Server(&presenter{c.nc, c}, c.srv.deps.TLS)
	if err := tc.HandshakeContext(ctx); err != nil {
		return fmt.Errorf("tls handshake: %w", err)
	}
	c.nc = tc
	c.client.TLS = tlsState(tc.ConnectionState())
	c.client.Helo, c.ehlo = "", false
	c.forgetLogin()
	return nil
}

// beginHandshake gives the handshake its time, or says why it may have none.
func (c *conn) beginHandshake() error {
	c.phase.Lock()
	defer c.phase.Unlock()
	d := c.srv.cfg.TLSTimeout
	switch why := c.interrupted(); why {
	case nil:
	case errShutdown:
		d = c.srv.patience.words
	default:
		return why
	}
	c.writeBy = time.Now().Add(d)
	c.nc.SetDeadline(c.writeBy)
	c.phase.handshake = true
	return nil
}

func (c *conn) endHandshake() {
	c.phase.Lock()
	defer c.phase.Unlock()
	c.phase.handshake = false
}

// presenter is the connection below TLS. It implements tlsconf.Presenter.
type presenter struct {
	net.Conn
	c *conn
}

// Present takes note of the certificate that the client is shown.
func (p *presenter) Present(leaf *x509.Certificate) { p.c.shown = leaf }

// Recognize takes note of the name of the TLS session. It implements
// tlsconf.Recognizer.
func (p *presenter) Recognize(session string, returned bool) {
	p.c.device = auth.TLSDevice(session, returned)
}
