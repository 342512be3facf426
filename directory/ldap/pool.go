package ldap

import (
	"context"
	"errors"
	"strings"
	"sync"

	"github.com/go-ldap/ldap/v3"
)

// pool keeps connections for one use: reading as the service account, or
// judging passwords. The two never mix, since a bind changes who a connection
// is.
type pool struct {
	dialer     *dialer
	protection protection
	bind       binder        // nil: the user of the connection binds
	slots      chan struct{} // one for each connection that may be in use

	mu     sync.Mutex // guards idle and closed
	idle   []*conn    // the last used at the end
	closed bool
}

func newPool(size int, d *dialer, p protection, bind binder) *pool {
	return &pool{dialer: d, protection: p, bind: bind, slots: make(chan struct{}, size)}
}

// get returns a connection that is not in use, to the server to prefer now; a new
// one if there is none. It waits while too many are in use.
func (p *pool) get(ctx context.Context) (*conn, error) {
	select {
	case p.slots <- struct{}{}:
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	if c := p.takeIdle(); c != nil {
		return c, nil
	}
	c, err := p.dialer.dial(ctx, p.protection, p.bind)
	if err != nil {
		<-p.slots
		return nil, err
	}
	return c, nil
}

func (p *pool) takeIdle() *conn {
	p.mu.Lock()
	defer p.mu.Unlock()
	for n := len(p.idle); n > 0; n = len(p.idle) {
		c := p.idle[n-1]
		p.idle = p.idle[:n-1]
		if !c.IsClosing() && p.dialer.servers.isPreferred(c.server, p.protection) {
			return c
		}
		c.end()
	}
	return nil
}

// put gives c back after a use that ended with err. A connection that did not
// answer is ended, and the idle ones to the same server with it: if the server
// has died in silence, not every next login should wait to find that out. Then
// it is put aside too.
func (p *pool) put(c *conn, err error) {
	var end []*conn
	p.mu.Lock()
	switch {
	case !broken(err) && !p.closed && !c.IsClosing():
		p.idle = append(p.idle, c)
	case broken(err) && !errors.Is(err, context.Canceled): // that was the client's doing
		p.idle, end = split(p.idle, c.server)
		fallthrough
	default:
		end = append(end, c)
	}
	p.mu.Unlock()
	for _, c := range end {
		c.end()
	}
	<-p.slots
	if isSilence(err) {
		p.dialer.note(c.server, p.protection, err)
	}
}

// isSilence reports whether a server did not answer in time. A connection that
// broke says less: servers close idle ones.
func isSilence(err error) bool {
	return errors.Is(err, context.DeadlineExceeded) || ldap.IsErrorWithCode(err, ldap.ErrorNetwork) && strings.Contains(err.Error(), "timed out")
}

// split separates the connections to s from the others.
func split(list []*conn, s *server) (others, to []*conn) {
	for _, c := range list {
		if c.server == s {
			to = append(to, c)
		} else {
			others = append(others, c)
		}
	}
	return others, to
}

// close ends the idle connections now and the others after their use.
func (p *pool) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	for _, c := range p.idle {
		c.end()
	}
	p.idle = nil
}
