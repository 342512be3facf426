package smtpd

import (
	"bufio"
	"bytes"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/pires/go-proxyproto"
)

// proxyHeaderTimeout is how long a trusted proxy may take for its header.
const proxyHeaderTimeout = 10 * time.Second

// trustedProxy reports whether the connection must begin with a PROXY header.
func (c *conn) trustedProxy() bool {
	for _, n := range c.srv.cfg.Proxies {
		if n.Contains(c.facts.Addr) {
			return true
		}
	}
	return false
}

// readProxyHeader takes the header of a trusted proxy, and makes the client what
// the proxy says. A proxy that speaks for itself (LOCAL, a health check) leaves
// the client as it is.
func (c *conn) readProxyHeader() error {
	c.raw.SetReadDeadline(time.Now().Add(proxyHeaderTimeout))
	if err := c.interrupted(); err != nil {
		return err
	}
	r := bufio.NewReader(c.raw)
	header, err := proxyproto.Read(r)
	if err != nil {
		if why := c.interrupted(); why != nil {
			return why
		}
		return fmt.Errorf("PROXY header: %w", err)
	}
	rest, err := r.Peek(r.Buffered())
	if err != nil {
		return fmt.Errorf("PROXY header: %w", err)
	}
	c.nc = &behindProxy{c.raw, bytes.Clone(rest)}
	if src, _, ok := header.TCPAddrs(); ok && !header.Command.IsLocal() {
		c.setAddr(src.AddrPort().Addr())
	}
	return nil
}

// setAddr makes a the address of the client.
func (c *conn) setAddr(a netip.Addr) {
	c.facts.Addr = a.Unmap().WithZone("")
	c.client.Addr = c.facts.Addr.String()
	c.log = c.srv.deps.Log.With("session", c.client.Session, "client", c.client.Addr)
}

// behindProxy is a connection of which octets behind the PROXY header have been
// read already.
type behindProxy struct {
	net.Conn
	pending []byte
}

// Read implements net.Conn.
func (p *behindProxy) Read(b []byte) (int, error) {
	if len(p.pending) == 0 {
		return p.Conn.Read(b)
	}
	n := copy(b, p.pending)
	p.pending = p.pending[n:]
	return n, nil
}
