package mra

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"dirpost/auth"
)

// ErrTooManySessions reports that a person has as many sessions as one may have.
var ErrTooManySessions = errors.New("too many sessions of this person")

// RevokedError is the cause of a session's context that ended because the person
// may no longer be logged in.
type RevokedError struct {
	Reason string // for the log
}

// Error says so.
func (e *RevokedError) Error() string { return "login revoked: " + e.Reason }

// AuthConn is what the SASL bridge must know of c, on which protocol is spoken.
func (c *Conn) AuthConn(protocol string) auth.Conn {
	a := auth.Conn{Protocol: protocol, Client: c.Client.Addr(), TLS: c.IsTLS(), Session: c.Session}
	if a.TLS {
		state := c.TLSState()
		a.State, a.Certificate = &state, c.Certificate()
		a.Device = auth.TLSDevice(c.sock.session, c.sock.returned)
	}
	return a
}

// Watcher is what Admit needs of the SASL bridge.
type Watcher interface {
	// Watch calls f when id may no longer be logged in.
	Watch(id *auth.Identity, f func(reason string)) (cancel func())
}

// Admit makes c the session of id. The context that it returns ends, and c is
// woken, when the person is disabled, removed or logged out by an administrator;
// its cause is then a RevokedError. Whatever the client is in the middle of, a
// literal that it sends or a message that it does not read, ends with it: reads
// fail, and writes half a second later. done must be called at the end of the
// session.
func (c *Conn) Admit(ctx context.Context, w Watcher, id *auth.Identity) (_ context.Context, done func(), _ error) {
	release := func() {}
	if s := c.server; s != nil {
		if !s.persons.take(id.Person) {
			s.refused.WithLabelValues("person").Inc()
			return ctx, nil, fmt.Errorf("%s: %w", id.Person, ErrTooManySessions)
		}
		release = func() { s.persons.give(id.Person) }
	}
	ctx, cancel := context.WithCancelCause(ctx)
	// The wake belongs to this context and not to the one above: that one wakes c
	// before this one has ended, or after, as it happens, and c would wait again.
	quiet := context.AfterFunc(ctx, func() {
		var revoked *RevokedError
		if errors.As(context.Cause(ctx), &revoked) {
			c.cut()
			return
		}
		c.Wake()
	})
	c.active.Store(time.Now().UnixNano())
	id.Active = func() time.Time { return time.Unix(0, c.active.Load()) }
	stop := w.Watch(id, func(reason string) {
		revoked := &RevokedError{Reason: reason}
		cancel(revoked)
		if c.endWork != nil {
			c.endWork(revoked)
		}
		if ctx.Err() != nil && context.Cause(ctx) != error(revoked) { // the server was leaving already
			c.cut()
		}
	})
	return ctx, sync.OnceFunc(func() {
		stop()
		quiet()
		cancel(nil)
		release()
	}), nil
}

// Authenticate runs a SASL exchange to its end. initial is the client's initial
// response, nil if there was none; prompt sends a challenge and returns what the
// client answered. The errors are those of the exchange and of prompt.
func Authenticate(ctx context.Context, x auth.Exchange, initial []byte, prompt func(challenge []byte) ([]byte, error)) (*auth.Identity, error) {
	response := initial
	for {
		challenge, done, err := x.Next(ctx, response)
		if err != nil {
			return nil, err
		}
		// A mechanism that is done with data left to say has it acknowledged by an
		// empty response (RFC 4422 §3.7), since neither protocol can send data
		// with success (RFC 5034 §4, RFC 9051 §6.2.2).
		if !done || len(challenge) > 0 {
			if response, err = prompt(challenge); err != nil {
				return nil, err
			}
		}
		if done && len(response) > 0 && len(challenge) > 0 {
			return nil, auth.ErrMalformed
		}
		if done {
			return x.Identity(), nil
		}
		if response == nil {
			response = []byte{}
		}
	}
}
