package main

import (
	"cmp"
	"crypto/tls"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"dirpost/auth"
	"dirpost/internal/envelope"
	"dirpost/internal/web"
	"dirpost/mra/autoconfig"
)

// AutoconfigSection is what mail clients are told about the house.
type AutoconfigSection struct {
	Organisation string                 `toml:"organisation"`
	Hostname     string                 `toml:"hostname"`
	Methods      []string               `toml:"methods"`
	OAuth        AutoconfigOAuthSection `toml:"oauth"`
}

// AutoconfigOAuthSection is how a mail program gets a token by itself.
type AutoconfigOAuthSection struct {
	AuthorizationEndpoint string   `toml:"authorization_endpoint"`
	TokenEndpoint         string   `toml:"token_endpoint"`
	ClientID              string   `toml:"client_id"`
	Scope                 []string `toml:"scope"`
}

// validate reports what is wrong with the section, in the words of the configuration.
func (s AutoconfigSection) validate(issuers int) []error {
	var errs []error
	bad := func(key, format string, args ...any) {
		errs = append(errs, fmt.Errorf("autoconfig."+key+": "+format, args...))
	}
	if h := s.Hostname; h != "" {
		if d, err := envelope.ParseDomain(h); err != nil || strings.HasPrefix(d, "[") || !strings.Contains(d, ".") {
			bad("hostname", "%q is no host name with a domain", h)
		}
	}
	for i, m := range s.Methods {
		if !slices.Contains(autoconfig.AllMethods(), autoconfig.Method(m)) || slices.Contains(s.Methods[:i], m) {
			bad("methods", "%q: want some of password, ticket, token, certificate, each once", m)
		}
	}
	o := s.OAuth
	if o.ClientID == "" && o.AuthorizationEndpoint == "" && o.TokenEndpoint == "" && o.Scope == nil {
		return errs
	}
	if issuers == 0 {
		bad("oauth", "there is no [[auth.oauth]] whose tokens would be taken")
	}
	if o.ClientID == "" {
		bad("oauth.client_id", "say as what mail programs are registered with the issuer")
	}
	for key, value := range map[string]string{"authorization_endpoint": o.AuthorizationEndpoint, "token_endpoint": o.TokenEndpoint} {
		if u, err := url.Parse(value); err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil {
			bad("oauth."+key, "%q is no https URL", value)
		}
	}
	for _, scope := range o.Scope {
		if scope == "" || strings.ContainsAny(scope, " \t\"\\") {
			bad("oauth.scope", "%q is no scope", scope)
		}
	}
	return errs
}

// mountAutoconfig mounts what clients ask to set themselves up. The ports are those
// of the configuration, of this node's roles or not: nodes share the file.
func (n *node) mountAutoconfig(s *web.Server, httpsPort int) {
	if n.tls == nil {
		return
	}
	o := n.file.Autoconfig.OAuth
	c := autoconfig.Config{
		Organisation: cmp.Or(n.file.Autoconfig.Organisation, n.file.Domains.Local[0]),
		Hostname:     cmp.Or(n.file.Autoconfig.Hostname, n.file.Server.Name),
		HTTPSPort:    httpsPort,
		Servers:      n.file.clientServers(),
		OAuth:        autoconfig.OAuth{Authorization: o.AuthorizationEndpoint, Token: o.TokenEndpoint, ClientID: o.ClientID, Scope: o.Scope},
	}
	for _, m := range n.file.Autoconfig.Methods {
		c.Methods = append(c.Methods, autoconfig.Method(m))
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
