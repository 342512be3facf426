package mra

import (
	"bufio"
	"bytes"
	"fmt"
	"net/netip"
	"time"

	"github.com/pires/go-proxyproto"
)

// proxyHeaderTimeout is how long a trusted proxy may take for its header.
const proxyHeaderTimeout = 10 * time.Second

// readProxyHeader takes the header that a trusted proxy sends first, and makes
// the addresses in it those of the connection. A proxy that speaks for itself
// (LOCAL, a health check) leaves them as they are.
func (c *Conn) readProxyHeader() error {
	c.LimitRead(time.Now().Add(proxyHeaderTimeout))
	defer c.LimitRead(time.Time{})
	r := bufio.NewReader(c.sock)
	header, err := proxyproto.Read(r)
	if err != nil {
		return fmt.Errorf("PROXY header: %w", err)
	}
	rest, err := r.Peek(r.Buffered())
	if err != nil {
		return fmt.Errorf("PROXY header: %w", err)
	}
	c.sock.pending = bytes.Clone(rest)
	if src, dst, ok := header.TCPAddrs(); ok && !header.Command.IsLocal() {
		c.Client, c.Local = addrPort(src), addrPort(dst)
	}
	return nil
}

// contains reports whether a is in one of nets.
func contains(nets []netip.Prefix, a netip.Addr) bool {
	for _, n := range nets {
		if n.Contains(a) {
			return true
		}
	}
	return false
}
