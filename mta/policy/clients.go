package policy

import (
	"context"
	"net/netip"
	"sync"
	"time"

	"dirpost/internal/envelope"
)

// maxClients bounds the table of clients.
const maxClients = 1 << 16

var (
	statusConcurrency = envelope.Status{Code: 421, Enhanced: "4.7.0", Text: "Too many connections from your address"}
	statusConnectRate = envelope.Status{Code: 421, Enhanced: "4.7.0", Text: "Too many new connections from your address"}
	statusMailRate    = envelope.Status{Code: 450, Enhanced: "4.7.1", Text: "Too many messages from your address, please try again later"}
	statusRcptRate    = envelope.Status{Code: 450, Enhanced: "4.7.1", Text: "Too many recipients from your address, please try again later"}
)

// clients counts what each client address does: connections that are open, and
// events in fixed windows of time.
type clients struct {
	cfg Config

	mu    sync.Mutex // guards table and what it holds
	table map[netip.Prefix]*client
	swept time.Time
}

// client is one client address. The counts hold for the window that began at
// since.
type client struct {
	open                           int
	since                          time.Time
	connects, messages, recipients int
}

func newClients(cfg Config) *clients {
	if cfg.Window == 0 {
		cfg.Window = time.Minute
	}
	return &clients{cfg: cfg, table: make(map[netip.Prefix]*client)}
}

func (*clients) Name() string { return "client" }

func (*clients) Stages() []Stage { return []Stage{Connect, Mail, Rcpt} }

// Check counts the event and compares it with its limit.
func (c *clients) Check(_ context.Context, s Stage, f *Facts) Verdict {
	if c.exempt(f.Addr) {
		return Verdict{}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	e := c.clientLocked(key(f.Addr), time.Now())
	if e == nil {
		return Verdict{}
	}
	switch s {
	case Connect:
		e.connects++
		if over(e.connects, c.cfg.MaxConnects) {
			return Verdict{Action: Defer, Status: statusConnectRate, Reason: "rate of connections"}
		}
		if over(e.open+1, c.cfg.MaxConnections) {
			return Verdict{Action: Defer, Status: statusConcurrency, Reason: "open connections"}
		}
		e.open++
	case Mail:
		e.messages++
		if over(e.messages, c.cfg.MaxMessages) {
			return Verdict{Action: Defer, Status: statusMailRate, Reason: "rate of messages"}
		}
	case Rcpt:
		e.recipients++
		if over(e.recipients, c.cfg.MaxRecipients) {
			return Verdict{Action: Defer, Status: statusRcptRate, Reason: "rate of recipients"}
		}
	}
	return Verdict{}
}

// Leave takes a connection off the count.
func (c *clients) Leave(f *Facts) {
	if c.exempt(f.Addr) {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if e := c.table[key(f.Addr)]; e != nil && e.open > 0 {
		e.open--
	}
}

// clientLocked returns the entry of k, its counts begun anew when their window is
// over, or nil when the table is full.
func (c *clients) clientLocked(k netip.Prefix, now time.Time) *client {
	if now.Sub(c.swept) >= c.cfg.Window {
		c.sweepLocked(now)
	}
	e := c.table[k]
	if e == nil {
		if len(c.table) >= maxClients {
			return nil
		}
		e = &client{since: now}
		c.table[k] = e
	}
	if now.Sub(e.since) >= c.cfg.Window {
		*e = client{open: e.open, since: now}
	}
	return e
}

// sweepLocked forgets clients that have nothing open and nothing recent.
func (c *clients) sweepLocked(now time.Time) {
	c.swept = now
	for k, e := range c.table {
		if e.open == 0 && now.Sub(e.since) >= c.cfg.Window {
			delete(c.table, k)
		}
	}
}

func (c *clients) exempt(a netip.Addr) bool { return exempt(c.cfg.Exempt, a) }

// exempt reports whether a lies in one of nets. What has no address is a local
// socket.
func exempt(nets []netip.Prefix, a netip.Addr) bool {
	if !a.IsValid() {
		return true
	}
	for _, n := range nets {
		if n.Contains(a) {
			return true
		}
	}
	return false
}

// key is what is counted as one client: an IPv4 address, an IPv6 /64.
func key(a netip.Addr) netip.Prefix {
	bits := 32
	if a = a.Unmap(); a.Is6() {
		bits = 64
	}
	p, err := a.WithZone("").Prefix(bits)
	if err != nil {
		panic("address of neither family") // a.IsValid was checked
	}
	return p
}

func over(n, limit int) bool { return limit > 0 && n > limit }
