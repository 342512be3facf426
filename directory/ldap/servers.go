package ldap

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"hash/maphash"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"sync"
	"time"

	"dirpost/directory"
)

// ServerState says whether a server is used.
type ServerState int

// The states of a server.
const (
	ServerUntried ServerState = iota // nobody needed it yet
	ServerUp                         // answered last
	ServerDown                       // put aside; asked in the background until it answers
)

// String returns the state for people: untried, up, down.
func (s ServerState) String() string {
	return [...]string{"untried", "up", "down"}[s]
}

// ServerStatus is how one server is doing, as this process sees it.
type ServerStatus struct {
	URL  string // as connected to: ldaps://dc1.corp.example
	Name string // of the host, as certificate and Kerberos have it; "" for a socket
	// Use is what the server was needed for: "directory", reading as the account
	// of the configuration, or "login". They are one, "directory", unless the
	// account uses Kerberos: then a server without certificate can be up for the
	// one and down for the other.
	Use   string
	State ServerState
	Since time.Time // of the state; zero while it is untried
	// Seen is when somebody last connected to it; connections are kept.
	Seen time.Time
	// LastError is why it was put aside last, for people; "" if it never was. It
	// stays after the server is back.
	LastError string
	Site      string // of Active Directory; "" where it is not known
	PDC       bool   // the PDC emulator
	ReadOnly  bool   // a read-only domain controller
	// Expires is the end of the certificate that it has shown last; zero if it has
	// shown none, as with Kerberos in place of TLS.
	Expires time.Time
}

// condition is how a server does for one protection. The dialer's mutex guards
// it.
type condition struct {
	state ServerState
	since time.Time
	seen  time.Time // when it last answered to somebody who connected
	err   string
	wait  time.Duration // until the next probe; 0: nobody probes
}

const (
	// firstProbe is after how long a server that failed is asked again in the
	// background; the time doubles up to maxProbe.
	firstProbe = 200 * time.Millisecond
	maxProbe   = 30 * time.Second
	// findEvery is after how long the servers of a domain are found anew,
	// findAgain when none of those that are known answers.
	findEvery = 15 * time.Minute
	findAgain = 10 * time.Second
)

// servers are the servers of a directory: those of the configuration, or those
// that the DNS names now.
type servers struct {
	cfg     Config
	log     *slog.Logger
	seed    maphash.Seed   // this process's dice among servers of equal rank
	changed func([]string) // is told the KDCs, where the servers found are those

	finding sync.Mutex // held while the DNS is asked: one asks for all

	mu    sync.Mutex // guards what follows, and all conditions
	list  []*server
	site  string
	found time.Time // when the DNS was asked last, zero: not yet
}

func newServers(cfg Config) (*servers, error) {
	s := &servers{cfg: cfg, log: cfg.Log, seed: maphash.MakeSeed()}
	for _, u := range cfg.URLs {
		one, err := cfg.server(u)
		if err != nil {
			return nil, err
		}
		s.list = append(s.list, one)
	}
	return s, nil
}

// all returns the servers in the order of preference. With Config.Discover the
// DNS is asked when that was long ago, or when nobody answers; while it says
// nothing, those that are known are used on.
func (s *servers) all(ctx context.Context, p protection) ([]*server, error) {
	if s.cfg.Discover == "" {
		return s.list, nil
	}
	if list := s.known(p); list != nil {
		return list, nil
	}
	s.finding.Lock()
	defer s.finding.Unlock()
	if list := s.known(p); list != nil { // somebody has found them meanwhile
		return list, nil
	}
	s.mu.Lock()
	old, site := s.list, s.site
	s.mu.Unlock()
	d, err := discover(ctx, s.cfg.Resolver, s.cfg.Discover, site, s.seed)
	if err != nil && len(old) == 0 {
		return nil, fmt.Errorf("directory %q: %w", s.cfg.Name, err)
	}
	if err != nil {
		s.log.WarnContext(ctx, "servers of the directory not found again, those known are used on", "directory", s.cfg.Name, "err", err)
		s.mu.Lock()
		s.found = time.Now()
		s.mu.Unlock()
		return old, nil
	}
	return s.take(ctx, d), nil
}

// known returns the servers if the DNS need not be asked now.
func (s *servers) known(p protection) []*server {
	s.mu.Lock()
	defer s.mu.Unlock()
	age := time.Since(s.found)
	if s.found.IsZero() || age > findEvery || age > findAgain && !slices.ContainsFunc(s.list, func(one *server) bool { return one.use[p].state != ServerDown }) {
		return nil
	}
	return s.list
}

// take makes the servers of a domain those of the directory. One that was known
// stays what it is.
func (s *servers) take(ctx context.Context, d *Domain) []*server {
	var list []*server
	var names []string
	s.mu.Lock()
	for _, c := range d.Controllers {
		one := s.cfg.discovered(c)
		if i := slices.IndexFunc(s.list, func(k *server) bool { return k.url == one.url }); i >= 0 {
			one = s.list[i]
		}
		one.controller = c
		list, names = append(list, one), append(names, c.Host)
	}
	changed := !slices.EqualFunc(s.list, list, func(a, b *server) bool { return a == b })
	s.list, s.site, s.found = list, d.Site, time.Now()
	s.mu.Unlock()
	s.changed(s.kdcs())
	if changed {
		s.log.InfoContext(ctx, "servers of the directory found", "directory", s.cfg.Name, "domain", d.Name, "site", d.Site, "servers", names)
	}
	return list
}

// addresses returns where a server is connected to, in the order to try.
func (s *servers) addresses(one *server) []string {
	if one.address != "" {
		return []string{one.address}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []string
	for _, a := range one.controller.Addresses {
		all = append(all, netip.AddrPortFrom(a, one.port).String())
	}
	return all
}

// kdcs returns where those who give tickets are: who the configuration names,
// else the servers themselves, as it is with Active Directory.
func (s *servers) kdcs() []string {
	if s.cfg.Discover == "" || len(s.cfg.KDCs) > 0 {
		return s.cfg.kdcs()
	}
	const port = 88
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []string
	for _, one := range s.list {
		if a, ok := one.controller.Address(); ok {
			all = append(all, netip.AddrPortFrom(a.Addr(), port).String())
		}
	}
	return all
}

// discovered is a server that the DNS has named.
func (c Config) discovered(dc Controller) *server {
	s := &server{name: dc.Host, network: "tcp"}
	if c.ServerName != "" {
		s.name = c.ServerName
	}
	scheme, port := "ldap", dc.Port
	switch c.TLS {
	case tlsImplicit: // there are no records of it: by convention it is this port
		scheme, port = "ldaps", 636
	case tlsStart:
		s.startTLS = true
	}
	if c.TLS != tlsNone {
		s.tls = c.tlsConfig(s.name)
	}
	host := dc.Host
	if scheme == "ldap" && port != 389 {
		host = net.JoinHostPort(dc.Host, strconv.Itoa(int(port)))
	}
	s.url, s.port = scheme+"://"+host, port
	return s
}

// order returns the servers to try: those that are not put aside, then the
// others, in case all are.
func (s *servers) order(ctx context.Context, p protection) ([]*server, error) {
	list, err := s.all(ctx, p)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	up := make([]*server, 0, len(list))
	var down []*server
	for _, one := range list {
		if one.use[p].state == ServerDown {
			down = append(down, one)
		} else {
			up = append(up, one)
		}
	}
	return append(up, down...), nil
}

// isPreferred reports whether one is the server to use now: the first that is not
// down.
func (s *servers) isPreferred(one *server, p protection) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	i := slices.IndexFunc(s.list, func(other *server) bool { return other.use[p].state != ServerDown })
	return i >= 0 && s.list[i] == one
}

// note keeps how a connection to a server went, and reports whether somebody has
// to probe it from now on.
func (s *servers) note(one *server, p protection, err error) (probe bool) {
	if errors.Is(err, context.Canceled) { // says nothing about the server
		return false
	}
	s.mu.Lock()
	c := &one.use[p]
	before, why := c.state, ""
	c.state = ServerUp
	if err != nil {
		c.state, c.err = ServerDown, err.Error()
		why = c.err
		probe = c.wait == 0
		if probe {
			c.wait = firstProbe
		}
	}
	now := time.Now()
	if c.state == ServerUp {
		c.seen = now
	}
	if c.state != before {
		c.since = now
	}
	s.mu.Unlock()
	switch {
	case err != nil && before != ServerDown:
		s.log.Warn("server of the directory put aside", "directory", s.cfg.Name, "server", one.url, "use", s.useName(p), "err", why)
	case err == nil && before == ServerDown:
		s.log.Info("server of the directory answers again", "directory", s.cfg.Name, "server", one.url, "use", s.useName(p))
	}
	return probe
}

// noteCertificate keeps until when the certificate is good that a server has shown.
func (s *servers) noteCertificate(one *server, chain []*x509.Certificate) {
	if len(chain) == 0 {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	one.expires = chain[0].NotAfter
}

// nextProbe returns how long to wait before the next probe, false when there
// shall be none: the server is up, or no server of the directory any more.
func (s *servers) nextProbe(one *server, p protection, failed bool) (time.Duration, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := &one.use[p]
	if c.state != ServerDown || !slices.Contains(s.list, one) {
		c.wait = 0
		return 0, false
	}
	if failed {
		c.wait = min(2*c.wait, maxProbe)
	}
	return c.wait, true
}

// The uses of a server in ServerStatus.
const (
	useDirectory = "directory"
	useLogin     = "login"
)

// useName is what connections with a protection are for.
func (s *servers) useName(p protection) string {
	if s.cfg.byKerberos() && p == byTLS {
		return useLogin
	}
	return useDirectory
}

// status returns how all servers are doing.
func (s *servers) status() []ServerStatus {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []ServerStatus
	for _, one := range s.list {
		for p, c := range one.use {
			p := protection(p)
			// Of two uses the second is said where somebody had it: perhaps
			// Kerberos judges passwords.
			if p == byKerberos && !s.cfg.byKerberos() || p == byTLS && s.cfg.byKerberos() && c.state == ServerUntried {
				continue
			}
			all = append(all, ServerStatus{
				URL: one.url, Name: one.name, Use: s.useName(p), State: c.state, Since: c.since, Seen: c.seen, LastError: c.err,
				Site: one.controller.Site, PDC: one.controller.PDC, ReadOnly: one.controller.isReadOnly(), Expires: one.expires,
			})
		}
	}
	return all
}

// Servers returns how the servers are doing, in the order of preference. With
// Config.Discover there are none before the first connection.
func (c *Client) Servers() []ServerStatus { return c.dialer.servers.status() }

// directoryServers returns the servers as the status of a directory has them, of
// which the one at the URL followed is followed.
func (c *Client) directoryServers(followed string) []directory.ServerStatus {
	var all []directory.ServerStatus
	for _, s := range c.Servers() {
		if s.Use != useDirectory {
			continue
		}
		one := directory.ServerStatus{Name: s.URL, Seen: s.Seen, Followed: s.URL == followed}
		if s.State == ServerDown {
			one.Problem = s.LastError
		}
		all = append(all, one)
	}
	return all
}

// AskServers asks every server whether it is there, all at the same time, and
// returns how they are doing, as Servers does. The error is that nobody knows any.
func (c *Client) AskServers(ctx context.Context) ([]ServerStatus, error) {
	list, err := c.dialer.servers.all(ctx, c.protection())
	if err != nil {
		return nil, err
	}
	uses := []protection{c.protection()}
	if c.cfg.byKerberos() && !c.judgesByKerberos() {
		uses = append(uses, byTLS)
	}
	var wg sync.WaitGroup
	for _, s := range list {
		for _, p := range uses {
			wg.Go(func() { c.dialer.note(s, p, c.dialer.knock(ctx, s, p)) })
		}
	}
	wg.Wait()
	return c.Servers(), nil
}

// servers returns the servers in the order of preference, those put aside
// included; nil if the DNS was asked for them and nobody knows any, which the
// next connection says with its reason. What is known of a domain controller is
// in their controller.
func (c *Client) servers(ctx context.Context) []*server {
	list, err := c.dialer.servers.all(ctx, c.protection())
	if err != nil {
		return nil
	}
	return slices.Clone(list)
}

// dialServiceTo connects to one server and binds as the service account.
func (c *Client) dialServiceTo(ctx context.Context, s *server) (*conn, error) {
	nc, err := c.dialer.connectTo(ctx, s, c.protection(), c.dialer.bindService)
	if err != nil && !isJudged(err, c.protection()) {
		return nil, c.dialer.unreachable(serverErrors{err})
	}
	return nc, err
}
