package ldap

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-ldap/ldap/v3"

	"dirpost/directory"
)

// Client talks to the servers of one directory. It connects when it is first
// asked, and keeps its connections.
type Client struct {
	cfg    Config
	dialer *dialer
	read   *pool // bound as the service account
	bind   *pool // bound as whoever logged in last

	referred sync.Once              // a referral has been mentioned
	mapping  atomic.Pointer[mapper] // replaced by learn
	learning sync.Mutex             // guards learned, and held while the mapping is settled
	profiles Profiles               // nil: nobody remembers
	learned  *Choice                // nil: no server was reached yet

	lockouts lockoutRules
}

// New returns a Client for a valid configuration. It asks no server.
func New(cfg Config) (*Client, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if cfg.Discover != "" && cfg.Resolver == nil {
		return nil, errors.New("discover: nobody to ask the DNS")
	}
	cfg = cfg.withDefaults()
	d, err := newDialer(cfg)
	if err != nil {
		return nil, err
	}
	m, err := newMapper(cfg)
	if err != nil {
		return nil, err
	}
	c := &Client{cfg: cfg, dialer: d}
	c.mapping.Store(m)
	c.read = newPool(cfg.ReadConnections, d, c.protection(), c.bindService)
	// Passwords of people travel by TLS alone, whatever the account does.
	c.bind = newPool(cfg.BindConnections, d, byTLS, nil)
	return c, nil
}

// protection is that of the connections that read.
func (c *Client) protection() protection {
	if c.cfg.byKerberos() {
		return byKerberos
	}
	return byTLS
}

// dialService connects to the server to prefer and binds as the service account.
func (c *Client) dialService(ctx context.Context) (*conn, error) {
	return c.dialer.dial(ctx, c.protection(), c.bindService)
}

// bindService binds as the service account, and settles how the directory is
// read if no server was reached before.
func (c *Client) bindService(ctx context.Context, nc *conn) error {
	if err := c.dialer.bindService(ctx, nc); err != nil {
		return err
	}
	return c.learn(ctx, nc)
}

// Name is the name of the directory in the configuration.
func (c *Client) Name() string { return c.cfg.Name }

// Close ends all connections, and what looks for servers in the background.
func (c *Client) Close() {
	c.dialer.close()
	c.read.close()
	c.bind.close()
}

// Check connects and reads the base as the service account. Its errors are for
// the administrator, one line that says what to do: unreachable server,
// certificate, password, base. Those that only the administrator can mend are
// SetupErrors.
func (c *Client) Check(ctx context.Context) error {
	nc, err := c.read.get(ctx)
	if err != nil {
		return err
	}
	err = c.readBase(ctx, nc)
	c.read.put(nc, err)
	return err
}

// CheckLogin connects as a login does, and asks nothing of anybody. Where passwords
// are judged by Kerberos, it gets a ticket for our own account.
func (c *Client) CheckLogin(ctx context.Context) error {
	if c.judgesByKerberos() {
		return c.checkKerberos(ctx)
	}
	nc, err := c.bind.get(ctx)
	if c.isWithoutTLS(err) {
		return c.checkKerberos(ctx)
	}
	if err != nil {
		return err
	}
	c.bind.put(nc, nil)
	return nil
}

// readBase reads nothing of the base but that it is there.
func (c *Client) readBase(ctx context.Context, nc *conn) error {
	ctx, cancel := context.WithTimeout(ctx, c.cfg.Timeout)
	defer cancel()
	var res *ldap.SearchResult
	err := nc.do(ctx, func() (err error) {
		res, err = nc.Search(ldap.NewSearchRequest(c.cfg.Base, ldap.ScopeBaseObject, ldap.NeverDerefAliases, 1, 0, false, "(objectClass=*)", []string{"1.1"}, nil))
		return err
	})
	switch {
	case ldap.IsErrorWithCode(err, ldap.LDAPResultNoSuchObject) || err == nil && len(res.Entries) == 0:
		return &SetupError{fmt.Errorf("directory %q: %s does not exist, or %s may not read it: correct base", c.cfg.Name, c.cfg.Base, c.cfg.account())}
	case ldap.IsErrorWithCode(err, ldap.LDAPResultReferral):
		return c.searchError(err)
	case err != nil:
		return fmt.Errorf("read base of directory %q: %w", c.cfg.Name, err)
	}
	return nil
}

// Verify judges the password of e by a simple bind with its DN, one round trip
// on a kept connection, or by Kerberos, as Config.Passwords says. It implements
// auth.Verifier: nil means right, a *directory.Refusal that the server said no,
// directory.ErrUnanswered that nobody knows, anything else that it did not judge.
//
// An empty password never reaches the server: there it would ask for an
// unauthenticated bind, which succeeds (RFC 4513 §5.1.2).
func (c *Client) Verify(ctx context.Context, e *directory.Entry, password string) error {
	_, err := c.VerifyWithNotice(ctx, e, password)
	return err
}

// VerifyWithNotice is Verify that also returns what the directory says of a right
// password, nil for nothing.
func (c *Client) VerifyWithNotice(ctx context.Context, e *directory.Entry, password string) (*directory.Notice, error) {
	if password == "" {
		return nil, &directory.Refusal{Reason: directory.ReasonPassword, Diagnostic: "empty password"}
	}
	if e.DN == "" {
		return nil, fmt.Errorf("entry %s has no DN to bind with", e.Key)
	}
	if c.judgesByKerberos() {
		return nil, c.verifyByKerberos(ctx, e, password)
	}
	for another := true; ; {
		nc, err := c.bind.get(ctx)
		if c.isWithoutTLS(err) {
			return nil, c.verifyByKerberos(ctx, e, password)
		}
		if err != nil {
			return nil, err
		}
		kept, start := nc.used.Load(), time.Now()
		res, err := c.bindAs(ctx, nc, e.DN, password)
		c.bind.put(nc, err)
		// A server may close an idle connection at any moment. What was sent on
		// one that breaks at once was not judged: once more, on another.
		if kept && broken(err) && time.Since(start) < time.Second && ctx.Err() == nil {
			continue
		}
		// A server that says that it cannot has judged nothing either. A refusal
		// is never taken to a second one: it would be counted there once more.
		if another && isElsewhere(err) && ctx.Err() == nil {
			c.dialer.note(nc.server, byTLS, err)
			another = false
			continue
		}
		if broken(err) {
			return nil, fmt.Errorf("bind: %w: %w", directory.ErrUnanswered, err)
		}
		return noticeOf(res), judge(res, err)
	}
}

func (c *Client) bindAs(ctx context.Context, nc *conn, dn, password string) (*ldap.SimpleBindResult, error) {
	ctx, cancel := context.WithTimeout(ctx, c.cfg.Timeout)
	defer cancel()
	var controls []ldap.Control
	if !c.isAD() {
		controls = append(controls, ldap.NewControlBeheraPasswordPolicy())
	}
	var res *ldap.SimpleBindResult
	err := nc.do(ctx, func() (err error) {
		res, err = nc.SimpleBind(ldap.NewSimpleBindRequest(dn, password, controls))
		return err
	})
	return res, err
}

// isAD reports whether the directory is Active Directory, as far as that is known
// yet.
func (c *Client) isAD() bool {
	return c.mapping.Load().profile.ad
}

// broken reports whether a connection cannot be used after err: anything that
// is not the answer of a server.
func broken(err error) bool {
	if err == nil {
		return false
	}
	var le *ldap.Error
	return !errors.As(err, &le) || le.ResultCode >= ldap.ErrorNetwork
}
