package imapd

import (
	"context"
	"encoding/base64"
	"time"

	"dirpost/auth"
	"dirpost/mra"
	"dirpost/mra/imapd/wire"
)

// login is LOGIN: name and password in the command itself (RFC 9051 §6.2.3).
func login(ctx context.Context, c *conn, dec *wire.Decoder) error {
	dec.Space()
	user := dec.AString()
	dec.Space()
	password := dec.AString()
	if err := dec.End(); err != nil {
		return err
	}
	identity, err := c.srv.bridge.Login(ctx, c.authConn(), user, password)
	if err != nil {
		return err
	}
	return c.admit(identity)
}

// errCancelled reports that the client gave up an exchange (RFC 9051 §6.2.2).
var errCancelled = bad("Authentication cancelled")

// authenticate is AUTHENTICATE, with an initial response if there is one
// (RFC 4959 §3).
func authenticate(ctx context.Context, c *conn, dec *wire.Decoder) error {
	dec.Space()
	mechanism := string(dec.Word())
	var initial []byte
	if dec.Skip(' ') {
		var err error
		if initial, err = decodeResponse([]byte(dec.Rest())); err != nil {
			return err
		}
	}
	if err := dec.End(); err != nil {
		return err
	}
	x, err := c.srv.bridge.Start(ctx, c.authConn(), mechanism)
	if err != nil {
		return err
	}
	identity, err := mra.Authenticate(ctx, x, initial, c.prompt)
	if err != nil {
		return err
	}
	return c.admit(identity)
}

// prompt sends a challenge and reads the response to it.
func (c *conn) prompt(challenge []byte) ([]byte, error) {
	b := append(c.buf(), "+ "...)
	b = base64.StdEncoding.AppendEncode(b, challenge)
	c.put(append(b, "\r\n"...))
	if err := c.mc.Flush(); err != nil {
		return nil, &leaving{err}
	}
	line, err := c.dec.Line(strangerLimits.Line)
	if err != nil {
		return nil, &leaving{err}
	}
	if string(line) == "*" {
		return nil, errCancelled
	}
	return decodeResponse(line)
}

// decodeResponse decodes a response; "=" is an initial one that is empty
// (RFC 4959 §3). It is never nil, which would mean that there is none.
func decodeResponse(line []byte) ([]byte, error) {
	if string(line) == "=" {
		return []byte{}, nil
	}
	b := make([]byte, base64.StdEncoding.DecodedLen(len(line)))
	n, err := base64.StdEncoding.Strict().Decode(b, line)
	if err != nil {
		return nil, bad("Invalid base64")
	}
	return b[:n], nil
}

// admit makes the session that of id.
func (c *conn) admit(id *auth.Identity) error {
	session, done, err := c.mc.Admit(c.ctx, c.srv.bridge, id)
	if err != nil {
		return err
	}
	c.ctx, c.release, c.identity, c.state = session, done, id, authenticated
	c.dec.SetLimits(personLimits)
	c.mc.LimitRead(time.Time{})
	// A client that knows the capabilities need not ask (RFC 9051 §7.1).
	c.code, c.text = "CAPABILITY "+c.capabilities(), "Logged in"
	return nil
}
