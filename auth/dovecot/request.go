package dovecot

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/netip"
	"runtime/debug"
	"slices"
	"strconv"
	"sync"
	"time"

	"dirpost/auth"
	"dirpost/internal/envelope"
)

// request is one exchange.
type request struct {
	id    uint32
	start start
	conn  auth.Conn
	ctx   context.Context // ends with the request; the one of AUTH and of each CONT
	end   context.CancelFunc

	exchange auth.Exchange
	// done says that what the client still owes is to acknowledge the last data.
	done bool

	// Guarded by conn.mu: busy while it is judged; else timer waits for the client,
	// since then.
	busy  bool
	timer *time.Timer
	since time.Time
}

// begin takes AUTH.
func (c *conn) begin(ctx context.Context, id uint32, s start, parts *sync.WaitGroup) error {
	r := &request{id: id, start: s, busy: true}
	r.conn = auth.Conn{
		Protocol: s.service, Client: s.client, TLS: s.secured || c.srv.cfg.AssumeSecured,
		Session: c.session + "-" + strconv.FormatUint(uint64(id), 10),
	}
	if r.conn.Client == (netip.Addr{}) {
		r.conn.Client = netip.IPv6Unspecified() // a stranger of whom nothing is known
	}
	c.mu.Lock()
	_, taken := c.requests[id]
	full := !taken && len(c.requests) >= c.srv.cfg.MaxRequests && !c.makeRoomLocked()
	if !taken && !full {
		r.ctx, r.end = context.WithCancel(ctx)
		c.requests[id] = r
	}
	c.mu.Unlock()
	switch {
	case taken:
		return fmt.Errorf("%w: request %d begun twice", errProtocol, id)
	case full:
		c.fail(ctx, id, envelope.Because(envelope.StatusBusy, errors.New("too many requests at once")))
		return nil
	}
	parts.Go(func() { c.step(r, s.response) })
	return nil
}

// makeRoomLocked gives up the request whose client has been silent the longest, and
// reports whether there was one. Postfix does not say that a client has left in the
// middle of an exchange.
func (c *conn) makeRoomLocked() bool {
	var oldest *request
	for _, r := range c.requests {
		if !r.busy && (oldest == nil || r.since.Before(oldest.since)) {
			oldest = r
		}
	}
	if oldest == nil {
		return false
	}
	oldest.timer.Stop()
	delete(c.requests, oldest.id)
	oldest.end()
	return true
}

// respond takes CONT.
func (c *conn) respond(ctx context.Context, id uint32, data []byte, parts *sync.WaitGroup) error {
	c.mu.Lock()
	r := c.requests[id]
	early := r != nil && r.busy
	if r != nil && !early {
		r.busy = true
		r.timer.Stop()
	}
	c.mu.Unlock()
	switch {
	case early:
		return fmt.Errorf("%w: request %d continued before it was its turn", errProtocol, id)
	case r == nil: // it was given up a moment ago
		c.reply(ctx, "FAIL", id, "reason="+escape("Authentication timed out"))
		return nil
	}
	parts.Go(func() { c.step(r, data) })
	return nil
}

// step judges what the client has said, and answers.
func (c *conn) step(r *request, response []byte) {
	challenge, more, err := c.next(r, response)
	switch {
	case err != nil:
		if c.forget(r) {
			c.fail(r.ctx, r.id, err)
		}
	case more:
		if c.await(r) {
			c.reply(r.ctx, "CONT", r.id, base64.StdEncoding.EncodeToString(challenge))
		}
	default:
		if c.forget(r) {
			c.succeed(r, challenge)
		}
	}
	if !more {
		r.end()
	}
}

// next runs the exchange on. more says that the client must answer challenge;
// otherwise it is data to send with success. It recovers: this goroutine is the
// top of what a bug could break.
func (c *conn) next(r *request, response []byte) (challenge []byte, more bool, err error) {
	defer func() {
		if p := recover(); p != nil {
			c.srv.panics.Inc()
			c.log.ErrorContext(r.ctx, "panic", "err", fmt.Sprint(p), "stack", string(debug.Stack()))
			err = errPanic
		}
	}()
	if r.done {
		return nil, false, nil
	}
	if r.exchange == nil {
		if err := c.start(r); err != nil {
			return nil, false, err
		}
	}
	challenge, done, err := r.exchange.Next(r.ctx, response)
	if err != nil {
		return nil, false, err
	}
	r.done = done
	return challenge, !done || len(challenge) > 0 && !r.start.final, nil
}

// start begins the exchange.
func (c *conn) start(r *request) (err error) {
	if !slices.Contains(c.srv.cfg.Services, r.start.service) {
		c.log.WarnContext(r.ctx, "login for a service that is not in auth.socket.services", "protocol", r.start.service)
		return auth.ErrAuthorization
	}
	if only := c.srv.cfg.Mechanisms; len(only) > 0 && !slices.Contains(only, r.start.mech) {
		return auth.ErrMechanism
	}
	r.exchange, err = c.srv.deps.Bridge.Start(r.ctx, r.conn, r.start.mech)
	return err
}

// await lets the client have its say. false: the request is not there any more.
func (c *conn) await(r *request) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.requests[r.id] != r {
		return false
	}
	r.busy, r.since = false, time.Now()
	r.timer = time.AfterFunc(exchangeTime, func() { c.expire(r) })
	return true
}

// expire gives up a request whose client has fallen silent.
func (c *conn) expire(r *request) {
	c.mu.Lock()
	silent := c.requests[r.id] == r && !r.busy
	if silent {
		delete(c.requests, r.id)
	}
	c.mu.Unlock()
	if silent {
		r.end()
	}
}

// forget takes a request that is over off the list. false: it was not there any
// more, and nobody wants an answer.
func (c *conn) forget(r *request) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.requests[r.id] != r {
		return false
	}
	delete(c.requests, r.id)
	return true
}

// drop cancels a request: it is not answered.
func (c *conn) drop(id uint32) {
	c.mu.Lock()
	r := c.requests[id]
	delete(c.requests, id)
	if r != nil && r.timer != nil {
		r.timer.Stop()
	}
	c.mu.Unlock()
	if r != nil {
		r.end()
	}
}

// dropAll cancels all requests.
func (c *conn) dropAll() {
	c.mu.Lock()
	ids := make([]uint32, 0, len(c.requests))
	for id := range c.requests {
		ids = append(ids, id)
	}
	c.mu.Unlock()
	for _, id := range ids {
		c.drop(id)
	}
}

// succeed answers OK, with who it is.
func (c *conn) succeed(r *request, data []byte) {
	c.srv.requests.WithLabelValues("ok").Inc()
	id := r.exchange.Identity()
	name := id.Address.String()
	if name == "" || c.srv.cfg.LoginName {
		name = id.Authcid
	}
	params := []string{"user=" + escape(name)}
	if len(data) > 0 && r.start.final {
		params = append(params, "resp="+base64.StdEncoding.EncodeToString(data))
	}
	c.reply(r.ctx, "OK", r.id, params...)
}

// knowsTemporary is the version since which a client is expected to tell a
// temporary failure from a wrong password.
const knowsTemporary = 2

// fail answers FAIL: the one place where an error becomes words of this protocol.
// The bridge has logged the cause.
func (c *conn) fail(ctx context.Context, id uint32, err error) {
	st := envelope.StatusOf(err)
	if !st.IsTemporary() {
		c.srv.requests.WithLabelValues("failed").Inc()
		c.reply(ctx, "FAIL", id, append(kindOf(err), "reason="+escape(st.Text))...)
		return
	}
	c.srv.requests.WithLabelValues("temporary").Inc()
	if c.minor < knowsTemporary {
		c.end(errAway)
		return
	}
	c.reply(ctx, "FAIL", id, "temp", "code=temp_fail", "reason="+escape(st.Text))
}

// kindOf says of what kind a failure is, in the older form and the newer one.
func kindOf(err error) []string {
	switch {
	case errors.Is(err, auth.ErrExpired):
		return []string{"pass_expired", "code=pass_expired"}
	case errors.Is(err, auth.ErrDisabled):
		return []string{"user_disabled", "code=user_disabled"}
	case errors.Is(err, auth.ErrAuthorization):
		return []string{"authz", "code=authz_fail"}
	case errors.Is(err, auth.ErrMechanism):
		return []string{"code=auth_mech_invalid"}
	case errors.Is(err, auth.ErrPolicy):
		return []string{"code=auth_mech_ssl_required"}
	}
	return nil
}
