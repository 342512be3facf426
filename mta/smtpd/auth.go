package smtpd

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"time"

	"dirpost/auth"
	"dirpost/internal/envelope"
)

var (
	statusAuthTwice  = envelope.Status{Code: 503, Enhanced: "5.5.1", Text: "Already authenticated"}
	statusMechanism  = envelope.Status{Code: 504, Enhanced: "5.5.4", Text: "Mechanism not available"}
	statusNeedsTLS   = envelope.Status{Code: 538, Enhanced: "5.7.11", Text: "Encryption required for authentication"}
	statusAuthSyntax = envelope.Status{Code: 501, Enhanced: "5.5.4", Text: "Syntax: AUTH mechanism [initial-response]"}
	statusBase64     = envelope.Status{Code: 501, Enhanced: "5.5.2", Text: "Cannot decode base64"}
	statusCancelled  = envelope.Status{Code: 501, Enhanced: "5.7.0", Text: "Authentication cancelled"}
	statusAuthLong   = envelope.Status{Code: 500, Enhanced: "5.5.6", Text: "Authentication exchange line too long"}
	statusAuthOk     = envelope.Status{Code: 235, Enhanced: "2.7.0", Text: "Authentication successful"}
)

// authConn is what the bridge must know of c.
func (c *conn) authConn() auth.Conn {
	a := auth.Conn{Protocol: "smtp", Client: c.facts.Addr, TLS: c.client.TLS != "", Session: c.client.Session}
	if tc, ok := c.nc.(*tls.Conn); ok {
		state := tc.ConnectionState()
		a.State, a.Certificate, a.Device = &state, c.shown, c.device
	}
	return a
}

// mechanisms lists what EHLO offers: nothing on an MX, and nothing once somebody
// has logged in.
func (c *conn) mechanisms() []string {
	if c.srv.cfg.Role != MSA || c.id != nil {
		return nil
	}
	return c.srv.deps.Auth.Mechanisms(c.authConn())
}

// authenticate runs a SASL exchange.
func authenticate(ctx context.Context, c *conn, arg []byte) error {
	mech, initial, given := strings.Cut(string(arg), " ")
	mech = strings.ToUpper(mech)
	if err := c.authAllowed(mech); err != nil {
		return c.refuse(ctx, "AUTH", err)
	}
	var response []byte // nil: no initial response
	if given {
		var err error
		if response, err = decodeResponse([]byte(strings.TrimLeft(initial, " "))); err != nil {
			return c.refuse(ctx, "AUTH", err)
		}
	}
	ex, err := c.srv.deps.Auth.Start(ctx, c.authConn(), mech)
	if err != nil {
		return c.authFailed(ctx, err)
	}
	for {
		challenge, done, err := ex.Next(ctx, response)
		if err != nil {
			return c.authFailed(ctx, err)
		}
		if done && len(challenge) == 0 {
			break
		}
		if response, err = c.challenge(challenge); err != nil {
			if c.dead != nil {
				return c.dead
			}
			return c.authFailed(ctx, err)
		}
		if done { // RFC 4954 §4: data with success need an empty response
			if len(response) > 0 {
				return c.authFailed(ctx, auth.ErrMalformed)
			}
			break
		}
	}
	c.loggedIn(ex.Identity())
	return c.reply(statusAuthOk)
}

// authAllowed says why AUTH may not be given now (RFC 4954 §4).
func (c *conn) authAllowed(mech string) error {
	switch {
	case c.srv.cfg.Role != MSA:
		return envelope.Because(statusNotHere, nil)
	case c.id != nil:
		return envelope.Because(statusAuthTwice, nil)
	case !c.ehlo:
		return envelope.Because(statusHello, nil)
	case c.mail.tx != nil:
		return envelope.Because(statusInMail, nil)
	case mech == "":
		return envelope.Because(statusAuthSyntax, nil)
	}
	mechs := c.mechanisms()
	switch {
	case slices.Contains(mechs, mech):
		return nil
	case c.client.TLS == "" && len(mechs) == 0:
		return envelope.Because(statusNeedsTLS, nil)
	}
	return envelope.Because(statusMechanism, nil)
}

// challenge sends a challenge and reads the response.
func (c *conn) challenge(challenge []byte) ([]byte, error) {
	c.out = append(c.out, "334 "...)
	c.out = base64.StdEncoding.AppendEncode(c.out, challenge)
	c.out = append(c.out, '\r', '\n')
	if err := c.flush(); err != nil {
		return nil, err
	}
	line, err := c.readLine(maxAuth)
	switch {
	case errors.Is(err, errLineTooLong):
		return nil, envelope.Because(statusAuthLong, err)
	case errors.Is(err, errBareLine):
		return nil, envelope.Because(statusBare, err)
	case err != nil:
		return nil, err
	case string(line) == "*": // RFC 4954 §4
		return nil, envelope.Because(statusCancelled, nil)
	}
	defer clear(line) // a password is not kept longer than it must
	return decodeBase64(line)
}

// decodeResponse decodes an initial response; "=" is an empty one (RFC 4954 §4).
func decodeResponse(s []byte) ([]byte, error) {
	if string(s) == "=" {
		return []byte{}, nil
	}
	if len(s) == 0 {
		return nil, envelope.Because(statusAuthSyntax, nil)
	}
	return decodeBase64(s)
}

func decodeBase64(s []byte) ([]byte, error) {
	if bytes.ContainsAny(s, "\r\n") {
		return nil, envelope.Because(statusBase64, nil)
	}
	out := make([]byte, base64.StdEncoding.DecodedLen(len(s)))
	n, err := base64.StdEncoding.Strict().Decode(out, s)
	if err != nil {
		return nil, envelope.Because(statusBase64, nil) // the cause would quote the secret
	}
	return out[:n], nil
}

// authFailed answers a failed exchange. Wrong credentials are counted apart, so
// that guessing needs many connections.
func (c *conn) authFailed(ctx context.Context, err error) error {
	if envelope.StatusOf(err).Code == envelope.StatusCredentials.Code {
		c.authFailures++
	}
	if err := c.refuse(ctx, "AUTH", err); err != nil {
		return err
	}
	if c.authFailures >= c.srv.cfg.MaxAuthFailures {
		return c.end(errTooMany)
	}
	return nil
}

// forgetLogin makes the client a stranger again.
func (c *conn) forgetLogin() {
	if c.logout != nil {
		c.logout()
	}
	c.id, c.facts.Identity, c.client.Login, c.logout = nil, nil, "", nil
}

// loggedIn makes id the person of this session, until the directory says
// otherwise.
func (c *conn) loggedIn(id *auth.Identity) {
	c.id, c.facts.Identity = id, id
	c.client.Login = string(id.Person)
	if a := id.Address.String(); a != "" {
		c.client.Login = a
	}
	c.active.Store(time.Now().UnixNano())
	id.Active = func() time.Time { return time.Unix(0, c.active.Load()) }
	c.logout = c.srv.deps.Auth.Watch(id, func(reason string) {
		c.log.Info("login revoked", slog.String("user", id.Address.String()), slog.String("err", reason))
		c.interrupt(errLoggedOut)
	})
}
