package ldap

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	ber "github.com/go-asn1-ber/asn1-ber"
	"github.com/go-ldap/ldap/v3"
	"golang.org/x/sys/unix"

	"dirpost/internal/gssapi"
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
	used   atomic.Bool // had a request that went well
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
		c.used.Store(true)
	}
	return err
}

// dialer opens connections to the servers of one directory.
type dialer struct {
	cfg     Config
	servers *servers

	machine atomic.Pointer[identity] // nil: not joined yet, or no Kerberos
	keys    sync.Mutex               // held while machine is changed

	ctx    context.Context // of the probes in the background, done when closed
	cancel context.CancelFunc
}

func newDialer(cfg Config) (*dialer, error) {
	limitPackets()
	list, err := newServers(cfg)
	if err != nil {
		return nil, err
	}
	d := &dialer{cfg: cfg, servers: list}
	list.changed = d.setKDCs
	if cfg.Bind == BindGSSAPI {
		if err := d.setMachine(Machine{Principal: cfg.Principal, Realm: cfg.Realm, Keytab: cfg.Keytab}); err != nil {
			return nil, err
		}
	}
	d.ctx, d.cancel = context.WithCancel(context.Background()) // of the client, which Close ends
	return d, nil
}

// close ends the probes.
func (d *dialer) close() { d.cancel() }

// protection is what keeps a connection from being read or changed underway.
type protection int

const (
	byTLS      protection = iota // from the start, or by StartTLS
	byKerberos                   // from the bind on, until which nothing is secret
	protections
)

// binder makes a fresh connection that of somebody.
type binder func(context.Context, *conn) error

// dial connects to the first server that answers, in the order of preference. A
// server that fails is put aside, so that nobody waits for a dead one, and is
// asked in the background until it answers: then it is used again. bind, if there
// is one, belongs to it: a server that does not answer to it is as good as away,
// but one that refuses it is the last to be asked, since the next would count the
// same password as one more wrong one.
func (d *dialer) dial(ctx context.Context, p protection, bind binder) (*conn, error) {
	list, err := d.servers.order(ctx, p)
	if err != nil {
		return nil, err
	}
	var errs serverErrors
	for _, s := range list {
		c, err := d.connectTo(ctx, s, p, bind)
		if err == nil {
			return c, nil
		}
		if isJudged(err, p) {
			return nil, err
		}
		errs = append(errs, err)
		if ctx.Err() != nil {
			break
		}
	}
	return nil, d.unreachable(errs)
}

// connectTo connects to one server, binds, and keeps how it went.
func (d *dialer) connectTo(ctx context.Context, s *server, p protection, bind binder) (*conn, error) {
	c, err := d.open(ctx, s, p)
	if err == nil && bind != nil {
		if err = bind(ctx, c); err != nil {
			c.end()
		}
	}
	switch {
	case isJudged(err, p):
		d.note(s, p, nil)
		return nil, err
	case err != nil:
		err = fmt.Errorf("%s: %w", s.url, err)
	}
	// Where Kerberos judges instead, a server without TLS is as it should be.
	if !errors.Is(err, errNoTLS) || d.cfg.Passwords != PasswordsAuto || !d.cfg.byKerberos() {
		d.note(s, p, err)
	}
	if err != nil {
		return nil, err
	}
	return c, nil
}

// note keeps how a connection to s went. A server that is down from now on is
// probed until it is not.
func (d *dialer) note(s *server, p protection, err error) {
	if d.servers.note(s, p, err) && d.ctx.Err() == nil {
		go d.probe(s, p)
	}
}

// probe asks a server that is down, less and less often, until it answers.
func (d *dialer) probe(s *server, p protection) {
	failed := false
	for {
		wait, more := d.servers.nextProbe(s, p, failed)
		if !more || sleep(d.ctx, wait) != nil {
			return
		}
		err := d.knock(d.ctx, s, p)
		d.servers.note(s, p, err)
		failed = err != nil
	}
}

// knock connects to a server and reads its root DSE, which needs no bind. Any
// answer is good enough.
func (d *dialer) knock(ctx context.Context, s *server, p protection) error {
	c, err := d.open(ctx, s, p)
	if err != nil {
		return fmt.Errorf("%s: %w", s.url, err)
	}
	defer c.end()
	ctx, cancel := context.WithTimeout(ctx, d.cfg.Timeout)
	defer cancel()
	err = c.do(ctx, func() error {
		_, err := c.Search(ldap.NewSearchRequest("", ldap.ScopeBaseObject, ldap.NeverDerefAliases, 1, 0, false, "(objectClass=*)", []string{"1.1"}, nil))
		return err
	})
	if broken(err) || isElsewhere(err) {
		return fmt.Errorf("%s: %w", s.url, err)
	}
	return nil
}

// isJudged reports whether err is the word of a server or KDC about who asks: the
// next one would say the same, and count it.
func isJudged(err error, p protection) bool {
	if err == nil {
		return false
	}
	var (
		refused *gssapi.RefusedError
		setup   *SetupError
		judged  judgedError
		le      *ldap.Error
	)
	switch {
	case errors.As(err, &refused):
		return refused.Code != kdcUnknownService // that is about this server
	case errors.Is(err, ErrNotJoined), errors.As(err, &setup), errors.As(err, &judged):
		return true
	}
	// What a server says to a ticket is about its own key, or its clock.
	return p == byTLS && errors.As(err, &le) && !broken(err) && !isElsewhere(err)
}

// kdcUnknownService is KDC_ERR_S_PRINCIPAL_UNKNOWN (RFC 4120 §7.5.9).
const kdcUnknownService = 7

// isElsewhere reports whether a server has answered that it cannot now, and has
// judged nothing (RFC 4511 §A.1): another may. A read-only domain controller says so of
// a password that it does not have, when it reaches no other.
func isElsewhere(err error) bool {
	var le *ldap.Error
	if errors.As(err, &le) && le.ResultCode == ldap.LDAPResultInvalidCredentials {
		reason, _ := adReason(le.Error())
		return reason == 0
	}
	return ldap.IsErrorAnyOf(err, ldap.LDAPResultBusy, ldap.LDAPResultUnavailable, ldap.LDAPResultOperationsError, ldap.LDAPResultOther)
}

// open connects, with TLS where it is due. A server that refuses StartTLS gets no
// connection.
func (d *dialer) open(ctx context.Context, s *server, p protection) (*conn, error) {
	ctx, cancel := context.WithTimeout(ctx, d.cfg.ConnectTimeout)
	defer cancel()
	raw, err := d.reach(ctx, s)
	if err != nil {
		return nil, err
	}
	nc := net.Conn(&writeLimited{Conn: raw, timeout: d.cfg.Timeout})
	if p == byKerberos {
		nc = newSealable(nc)
		return d.start(nc, nc, s), nil
	}
	if s.tls == nil {
		return d.start(nc, raw, s), nil
	}
	if s.startTLS {
		if err := startTLS(ctx, raw); err != nil {
			_ = raw.Close()
			return nil, err
		}
	}
	t := tls.Client(nc, d.tlsConfig(s))
	if err := t.HandshakeContext(ctx); err != nil {
		_ = raw.Close()
		if err = tlsError(s, err); s.startTLS {
			err = fmt.Errorf("StartTLS: %w", err)
		}
		return nil, err
	}
	d.servers.noteCertificate(s, t.ConnectionState().PeerCertificates)
	return d.start(t, raw, s), nil
}

// reach connects the socket, to the first address that answers. The time of ctx
// is shared among those that are left.
func (d *dialer) reach(ctx context.Context, s *server) (net.Conn, error) {
	nd := net.Dialer{
		KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 15 * time.Second, Interval: 5 * time.Second, Count: 3},
		Control:         d.control,
	}
	all := d.servers.addresses(s)
	if len(all) == 0 {
		return nil, fmt.Errorf("the DNS knows no address of %s", s.name)
	}
	var errs serverErrors
	for n, address := range all {
		ctx, cancel := context.WithTimeout(ctx, d.cfg.ConnectTimeout/time.Duration(len(all)-n))
		c, err := nd.DialContext(ctx, s.network, address)
		cancel()
		if err == nil {
			return c, nil
		}
		errs = append(errs, err)
	}
	return nil, errs
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
