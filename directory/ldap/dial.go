package ldap

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	ber "github.com/go-asn1-ber/asn1-ber"
	"github.com/go-ldap/ldap/v3"
	"golang.org/x/sys/unix"
)

// maxPacket bounds one LDAP message from a server, in octets: enough for a
// group of 200,000 members, and not for a server that lost its mind.
const maxPacket = 16 << 20

// limitPackets sets the limit of the BER library, whose default is 2 GiB. The
// library knows no other way than its variable; it is set once, before the
// first connection of this package.
var limitPackets = sync.OnceFunc(func() { ber.MaxPacketLengthBytes = maxPacket })

// conn is one connection to a server. A Conn of the library is one failure
// domain: a request that outlives its time poisons it, so every time-out ends
// the connection.
type conn struct {
	*ldap.Conn
	net    net.Conn // to end the connection from outside, whatever the library does
	server *server
	used   bool // had a request that went well
}

// end closes the network connection under the library, which notices and
// finishes all that waits. The library's own Close can block behind a write.
func (c *conn) end() {
	_ = c.net.Close()
	go func() { _ = c.Conn.Close() }()
}

// do runs one request of the library, which takes no context: it is
// interrupted by ending the connection.
func (c *conn) do(ctx context.Context, f func() error) error {
	stop := context.AfterFunc(ctx, c.end)
	err := f()
	if !stop() && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err == nil {
		c.used = true
	}
	return err
}

// dialer opens connections to the servers of one directory.
type dialer struct {
	cfg     Config
	servers []*server
	machine atomic.Pointer[identity] // with BindGSSAPI and BindJoined

	mu   sync.Mutex // guards down
	down map[*server]backoff
}

// backoff keeps a server that did not answer from being tried too often.
type backoff struct {
	until time.Time
	wait  time.Duration
}

const (
	firstBackoff = 200 * time.Millisecond
	maxBackoff   = 30 * time.Second
)

func newDialer(cfg Config) (*dialer, error) {
	limitPackets()
	d := &dialer{cfg: cfg, down: map[*server]backoff{}}
	for _, u := range cfg.URLs {
		s, err := cfg.server(u)
		if err != nil {
			return nil, err
		}
		d.servers = append(d.servers, s)
	}
	if cfg.Bind == BindGSSAPI {
		if err := d.setMachine(Machine{Principal: cfg.Principal, Realm: cfg.Realm, Keytab: cfg.Keytab}); err != nil {
			return nil, err
		}
	}
	return d, nil
}

// protection is what keeps a connection from being read or changed underway.
type protection int

const (
	byTLS      protection = iota // from the start, or by StartTLS
	byKerberos                   // from the bind on, until which nothing is secret
)

// dial connects to the first server that answers, in the order of the
// configuration: a server that comes back is used again. Servers that failed a
// moment ago come last, so that a login does not wait for a dead one.
func (d *dialer) dial(ctx context.Context, p protection) (*conn, error) {
	var errs serverErrors
	for _, s := range d.order() {
		c, err := d.dialServer(ctx, s, p)
		d.note(s, err)
		if err == nil {
			return c, nil
		}
		errs = append(errs, fmt.Errorf("%s: %w", s.url, err))
		if ctx.Err() != nil {
			break
		}
	}
	return nil, d.unreachable(errs)
}

func (d *dialer) order() []*server {
	d.mu.Lock()
	defer d.mu.Unlock()
	now := time.Now()
	up := make([]*server, 0, len(d.servers))
	var down []*server
	for _, s := range d.servers {
		if now.Before(d.down[s].until) {
			down = append(down, s)
		} else {
			up = append(up, s)
		}
	}
	return append(up, down...)
}

func (d *dialer) note(s *server, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err == nil {
		delete(d.down, s)
		return
	}
	b := d.down[s]
	b.wait = min(max(2*b.wait, firstBackoff), maxBackoff)
	b.until = time.Now().Add(b.wait)
	d.down[s] = b
}

// dialServer connects, with TLS where it is due. A server that refuses StartTLS
// gets no connection.
func (d *dialer) dialServer(ctx context.Context, s *server, p protection) (*conn, error) {
	ctx, cancel := context.WithTimeout(ctx, d.cfg.ConnectTimeout)
	defer cancel()
	nd := net.Dialer{
		KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 15 * time.Second, Interval: 5 * time.Second, Count: 3},
		Control:         d.control,
	}
	raw, err := nd.DialContext(ctx, s.network, s.address)
	if err != nil {
		return nil, err
	}
	nc := net.Conn(&writeLimited{Conn: raw, timeout: d.cfg.Timeout})
	if p == byKerberos {
		nc = newSealable(nc)
		return d.start(nc, nc, s), nil
	}
	if s.tls != nil && !s.startTLS {
		t := tls.Client(nc, d.tlsConfig(s))
		if err := t.HandshakeContext(ctx); err != nil {
			_ = raw.Close()
			return nil, err
		}
		nc = t
	}
	c := d.start(nc, raw, s)
	if s.startTLS {
		if err := c.do(ctx, func() error { return c.StartTLS(d.tlsConfig(s)) }); err != nil {
			c.end()
			return nil, fmt.Errorf("StartTLS: %w", noTLS(err))
		}
	}
	return c, nil
}

// start makes a connection of the library from nc; closing end ends it.
func (d *dialer) start(nc, end net.Conn, s *server) *conn {
	_, isTLS := nc.(*tls.Conn)
	c := &conn{Conn: ldap.NewConn(nc, isTLS), net: end, server: s}
	c.SetTimeout(d.cfg.Timeout)
	c.Start()
	return c
}

// control sets TCP_USER_TIMEOUT (RFC 5482): written octets that nobody
// acknowledges end the connection after Timeout, not after a quarter of an
// hour.
func (d *dialer) control(network, _ string, rc syscall.RawConn) error {
	if network == "unix" {
		return nil
	}
	var err error
	if cerr := rc.Control(func(fd uintptr) {
		err = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(d.cfg.Timeout/time.Millisecond))
	}); cerr != nil {
		return cerr
	}
	return err
}

// writeLimited gives every write a deadline: the library sets none, and a
// server that does not read would block all requests of the connection.
type writeLimited struct {
	net.Conn
	timeout time.Duration
}

// Write implements net.Conn.
func (w *writeLimited) Write(p []byte) (int, error) {
	if err := w.SetWriteDeadline(time.Now().Add(w.timeout)); err != nil {
		return 0, err
	}
	n, err := w.Conn.Write(p)
	if err != nil {
		_ = w.Close()
	}
	return n, err
}

// bindService binds c as the account that reads the directory.
func (d *dialer) bindService(ctx context.Context, c *conn) error {
	ctx, cancel := context.WithTimeout(ctx, d.cfg.ConnectTimeout)
	defer cancel()
	if d.cfg.byKerberos() {
		return d.bindSealed(ctx, c)
	}
	if d.cfg.BindDN == "" {
		return nil
	}
	if err := c.do(ctx, func() error { return c.Bind(d.cfg.BindDN, d.cfg.BindPassword) }); err != nil {
		return d.cfg.bindError(err)
	}
	return nil
}
