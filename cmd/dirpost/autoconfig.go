package main

import (
	"cmp"
	"crypto/tls"
	"net"
	"net/netip"
	"slices"
	"strconv"

	"dirpost/auth"
	"dirpost/internal/web"
	"dirpost/mra/autoconfig"
)

// AutoconfigSection is what mail clients are told about the house.
type AutoconfigSection struct {
	Organisation string `toml:"organisation"`
	Hostname     string `toml:"hostname"`
}

// mountAutoconfig mounts what clients ask to set themselves up. The ports are those
// of the configuration, of this node's roles or not: nodes share the file.
func (n *node) mountAutoconfig(s *web.Server, httpsPort int) {
	if n.tls == nil {
		return
	}
	c := autoconfig.Config{
		Organisation: cmp.Or(n.file.Autoconfig.Organisation, n.file.Domains.Local[0]),
		Hostname:     cmp.Or(n.file.Autoconfig.Hostname, n.file.Server.Name),
		HTTPSPort:    httpsPort,
		Servers:      n.file.clientServers(),
	}
	autoconfig.New(c, autoconfig.Deps{
		Live:        n.live,
		Mechanisms:  n.mechanismsFor,
		Certificate: func() *tls.Certificate { return n.tls.First() },
	}).Mount(s.Handle, s.HandlePlain)
}

// mechanismsFor are the mechanisms for a client over TLS. A node on which nobody
// logs in does not know; passwords are what everybody has.
func (n *node) mechanismsFor(client netip.Addr, protocol string) []string {
	if n.auth == nil {
		return []string{"PLAIN"}
	}
	return n.auth.Mechanisms(auth.Conn{Protocol: protocol, Client: client, TLS: true})
}

// clientServers are the listeners for mail clients: IMAP before POP3, TLS from the
// first octet before STARTTLS. What has no TLS, or is for this host alone, is for
// none of them, unless all is on this host.
func (f *File) clientServers() (servers []autoconfig.Server) {
	order := []string{"imap", "pop3", "submission"}
	local := !slices.ContainsFunc(f.Listener, func(l ListenerSection) bool { return !isLoopback(l.Address) })
	for _, l := range f.Listener {
		if !slices.Contains(order, l.Protocol) || l.TLS == "off" || isLoopback(l.Address) && !local {
			continue
		}
		if _, port, err := net.SplitHostPort(l.Address); err == nil {
			number, _ := strconv.Atoi(port) // Validate has seen it
			servers = append(servers, autoconfig.Server{Protocol: l.Protocol, Port: number, Implicit: l.TLS == "implicit"})
		}
	}
	slices.SortStableFunc(servers, func(a, b autoconfig.Server) int {
		if a.Implicit != b.Implicit && a.Protocol == b.Protocol {
			if a.Implicit {
				return -1
			}
			return 1
		}
		return cmp.Compare(slices.Index(order, a.Protocol), slices.Index(order, b.Protocol))
	})
	return servers
}

// isLoopback reports whether a listener is for this host alone.
func isLoopback(address string) bool {
	host, _, _ := net.SplitHostPort(address)
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.IsLoopback()
}
