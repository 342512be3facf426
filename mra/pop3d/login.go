package pop3d

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"

	"dirpost/auth"
	"dirpost/internal/envelope"
	"dirpost/internal/store"
	"dirpost/mra"
)

// errCancelled reports that the client has broken off a SASL exchange with "*"
// (RFC 5034 §4).
var errCancelled = errors.New("authentication cancelled")

// authConn is what the SASL bridge must know of the connection.
func (c *conn) authConn() auth.Conn {
	return c.mc.AuthConn("pop3")
}

// capa lists what the server can do (RFC 2449 §5). The list is the same in both
// states, as RFC 2449 §6 and RFC 2595 §4 want it, but for STLS, which ends with its
// use.
func capa(c *conn, _ [][]byte) error {
	c.ok("Capabilities follow")
	w := c.mc.Writer()
	w.WriteString("TOP\r\n" + // RFC 2449 §6.1
		"UIDL\r\n" + // RFC 2449 §6.8
		"RESP-CODES\r\n" + // RFC 2449 §6.4
		"AUTH-RESP-CODE\r\n" + // RFC 3206 §6
		"PIPELINING\r\n" + // RFC 2449 §6.6
		"EXPIRE NEVER\r\n") // RFC 2449 §6.7
	mechs := c.srv.bridge.Mechanisms(c.authConn())
	if takesPasswords(mechs) {
		w.WriteString("USER\r\n") // RFC 2449 §6.2
	}
	if len(mechs) > 0 {
		w.WriteString("SASL " + strings.Join(mechs, " ") + "\r\n") // RFC 5034 §3
	}
	if c.mc.CanStartTLS() {
		w.WriteString("STLS\r\n") // RFC 2595 §4
	}
	w.WriteString("IMPLEMENTATION Dirpost\r\n.\r\n") // RFC 2449 §6.9
	return nil
}

// stls starts TLS (RFC 2595 §4). Everything said in clear is forgotten; if the
// handshake fails, so is the client.
func stls(c *conn, _ [][]byte) error {
	if !c.mc.CanStartTLS() {
		c.wrong("TLS is not available")
		return nil
	}
	if c.mc.Reader().Buffered() > 0 {
		c.err("Nothing may follow STLS before TLS")
		return mra.ErrInjection
	}
	c.ok("Begin TLS negotiation now")
	return c.mc.StartTLS(c.mc.Work(c.ctx))
}

// takesPasswords reports whether a password would be taken in some way: then
// USER and PASS do what PLAIN does.
func takesPasswords(mechs []string) bool { return slices.Contains(mechs, "PLAIN") }

// user takes a name (RFC 1939 §7). It is judged together with the password.
func user(c *conn, args [][]byte) error {
	name := string(args[0])
	switch {
	case !c.mc.IsTLS() && len(c.srv.bridge.Mechanisms(c.authConn())) == 0:
		c.say(auth.ErrPolicy.Status)
	case name == "":
		c.wrong("A name is wanted")
	default:
		c.name = name
		c.ok("Password, please")
	}
	return nil
}

// pass takes a password: all of the line behind the space (RFC 1939 §7).
func pass(c *conn, args [][]byte) error {
	if c.name == "" {
		c.wrong("USER comes first")
		return nil
	}
	id, err := c.srv.bridge.Login(c.mc.Work(c.ctx), c.authConn(), c.name, string(args[0]))
	return c.enter("PASS", id, err)
}

// authCmd runs a SASL exchange (RFC 5034 §4). Without a mechanism it lists those
// there are, as older clients expect.
func authCmd(c *conn, args [][]byte) error {
	if len(args) == 0 {
		c.ok("Mechanisms follow")
		for _, m := range c.srv.bridge.Mechanisms(c.authConn()) {
			c.mc.Writer().WriteString(m + "\r\n")
		}
		c.mc.Writer().WriteString(".\r\n")
		return nil
	}
	mech := string(args[0])
	var initial []byte
	if len(args) > 1 {
		var err error
		if initial, err = decode(args[1]); err != nil {
			return c.enter("AUTH", nil, err)
		}
	}
	x, err := c.srv.bridge.Start(c.mc.Work(c.ctx), c.authConn(), mech)
	if err != nil {
		return c.enter("AUTH", nil, err)
	}
	var gone error
	id, err := mra.Authenticate(c.mc.Work(c.ctx), x, initial, func(challenge []byte) ([]byte, error) {
		response, end, err := c.prompt(challenge)
		gone = end
		return response, errors.Join(end, err)
	})
	if gone != nil {
		return gone
	}
	return c.enter("AUTH", id, err)
}

// decode reads base64, or "=" for an empty initial response (RFC 5034 §4).
func decode(b []byte) ([]byte, error) {
	if string(b) == "=" {
		return []byte{}, nil
	}
	out := make([]byte, base64.StdEncoding.DecodedLen(len(b)))
	n, err := base64.StdEncoding.Strict().Decode(out, b)
	if err != nil {
		return nil, auth.ErrMalformed
	}
	return out[:n], nil
}

// prompt sends a challenge and reads the response. gone ends the session.
func (c *conn) prompt(challenge []byte) (response []byte, gone, err error) {
	w := c.mc.Writer()
	w.WriteString("+ ")
	w.WriteString(base64.StdEncoding.EncodeToString(challenge))
	w.WriteString("\r\n")
	if err := c.wait(); err != nil {
		return nil, err, nil
	}
	line, err := c.readLine(maxSASLLine)
	switch {
	case err != nil:
		return nil, err, nil
	case string(line) == "*":
		return nil, nil, errCancelled
	case len(line) == 0:
		return []byte{}, nil, nil
	}
	response, err = decode(line)
	return response, nil, err
}

// enter opens the drop for who was authenticated, or answers why not.
func (c *conn) enter(verb string, id *auth.Identity, err error) error {
	if errors.Is(err, errCancelled) {
		c.wrong("Authentication cancelled")
		return nil
	}
	if err != nil {
		c.say(envelope.StatusOf(err)) // the bridge has logged it
		if c.logins++; c.logins >= maxLogins {
			return errTooMany
		}
		return nil
	}
	switch err := c.open(id); {
	case errors.Is(err, mra.ErrTooManySessions):
		c.err("[IN-USE] Too many sessions") // RFC 2449 §8.1.2
	case err != nil:
		c.fail(verb, err)
	default:
		c.ok(fmt.Sprintf("Logged in, %s", c.drop))
	}
	return nil
}

// open takes the view of the person's INBOX.
func (c *conn) open(id *auth.Identity) error {
	session, done, err := c.mc.Admit(c.ctx, c.srv.bridge, id)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(session, lookTime)
	defer cancel()
	account, err := c.srv.store.Account(ctx, string(id.Person), store.KindPerson)
	if err != nil {
		done()
		return fmt.Errorf("open account: %w", err)
	}
	listing, err := c.srv.store.Drop(ctx, account.ID, store.Inbox)
	if err != nil {
		done()
		return fmt.Errorf("open INBOX: %w", err)
	}
	c.ctx, c.release = session, done
	c.identity, c.account, c.drop = id, account, newDrop(c.srv.store, account.ID, listing)
	c.state = transaction
	c.mc.Log = c.mc.Log.With("user", id.Address.String())
	return nil
}
