package route

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"dirpost/internal/envelope"
	"dirpost/internal/resolver"
)

// Config says how mail leaves.
type Config struct {
	// Hostname is our own name: found in a list of exchangers it ends the
	// list (RFC 5321 §5.1).
	Hostname string
	// Addresses are our own addresses, which do the same.
	Addresses []netip.Addr
	// Smarthost takes all mail that leaves, "host[:port]"; "": each domain's
	// own exchangers do. Port 465 speaks TLS from the start.
	Smarthost string
	// Port of mail exchangers; 0: 25.
	Port uint16
	// MaxAddresses bounds how many addresses of a destination are tried; 0: 6.
	MaxAddresses int
	// Without IPv4 or without IPv6, such addresses are left out.
	NoIPv4, NoIPv6 bool
}

// Validate reports what is wrong with c.
func (c Config) Validate() error {
	if c.Hostname == "" {
		return errors.New("route: our host name is empty")
	}
	if c.NoIPv4 && c.NoIPv6 {
		return errors.New("route: neither IPv4 nor IPv6")
	}
	if c.Smarthost != "" {
		if _, _, err := splitHop(c.Smarthost, 25); err != nil {
			return fmt.Errorf("smarthost: %w", err)
		}
	}
	return nil
}

// DNS is what routing asks the DNS; *resolver.Resolver answers it.
type DNS interface {
	MX(ctx context.Context, domain string) (resolver.Answer[resolver.MX], error)
	Addresses(ctx context.Context, host string) (resolver.Answer[netip.Addr], error)
}

// Kind says how a Route was found.
type Kind uint8

// The kinds of route.
const (
	ByMX        Kind = iota + 1 // exchangers of the domain, or its own address
	ByGivenHop                  // the recipient came with a next hop
	BySmarthost                 // everything goes there
	Inside                      // into a mailbox of ours
)

// Route is where mail goes. It is immutable.
type Route struct {
	Kind Kind
	// Name is the same for what may share a connection: the domain, or
	// the host with its port.
	Name string
	// Mailbox is the directory key of the mailbox that takes it; of Inside.
	Mailbox string
	// Hops are tried in this order.
	Hops []Hop
	// Authentic says that the DNS proved the list of exchangers.
	Authentic bool
}

// Hop is one address of one host.
type Hop struct {
	Host      string // as TLS and log name it, lower case
	Addr      netip.AddrPort
	Authentic bool // the DNS proved the address
}

// String is the name of a hop in log and report, as Postfix writes it.
func (h Hop) String() string {
	return h.Host + "[" + h.Addr.Addr().String() + "]:" + strconv.Itoa(int(h.Addr.Port()))
}

// Router finds routes. Make one with New.
type Router struct {
	config Config
	dns    DNS
	inside func(ctx context.Context) (mailbox string, err error)
}

// New returns a Router. inside, if not nil, is the rule that nothing leaves: it
// returns the directory key of the mailbox that takes what would.
func New(c Config, dns DNS, inside func(ctx context.Context) (mailbox string, err error)) (*Router, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	if c.Port == 0 {
		c.Port = 25
	}
	if c.MaxAddresses == 0 {
		c.MaxAddresses = 6
	}
	return &Router{config: c, dns: dns, inside: inside}, nil
}

// What a route that there is not says to the sender.
var (
	statusNullMX    = envelope.Status{Code: 556, Enhanced: "5.1.10", Text: "Domain does not accept mail"}
	statusNoDomain  = envelope.Status{Code: 550, Enhanced: "5.1.2", Text: "Domain not found"}
	statusNoHost    = envelope.Status{Code: 550, Enhanced: "5.4.4", Text: "Domain has no host that takes its mail"}
	statusLoop      = envelope.Status{Code: 550, Enhanced: "5.4.6", Text: "Mail for this domain loops back to us"}
	statusLookup    = envelope.Status{Code: 451, Enhanced: "4.4.3", Text: "DNS lookup failed"}
	statusNoNextHop = envelope.Status{Code: 451, Enhanced: "4.3.5", Text: "Configured next hop not found"}
)

// Route returns the way to domain, or to nextHop if that is not empty. Errors
// are envelope.Errors: permanent ones say for sure that there is no way.
func (r *Router) Route(ctx context.Context, domain, nextHop string) (*Route, error) {
	switch {
	case r.inside != nil:
		mailbox, err := r.inside(ctx)
		if err != nil {
			return nil, fmt.Errorf("mailbox for mail that may not leave: %w", err)
		}
		return &Route{Kind: Inside, Name: "inside", Mailbox: mailbox}, nil
	case nextHop != "":
		return r.toHost(ctx, ByGivenHop, nextHop, r.config.Port)
	case r.config.Smarthost != "":
		return r.toHost(ctx, BySmarthost, r.config.Smarthost, 25)
	case strings.HasPrefix(domain, "["):
		return r.toLiteral(domain)
	default:
		return r.toDomain(ctx, domain)
	}
}

// toHost goes to a host that somebody configured. If it does not exist that is
// our trouble, never the recipient's.
func (r *Router) toHost(ctx context.Context, kind Kind, hop string, port uint16) (*Route, error) {
	host, port, err := splitHop(hop, port)
	if err != nil {
		return nil, envelope.Because(statusNoNextHop, err)
	}
	rt := &Route{Kind: kind, Name: host + ":" + strconv.Itoa(int(port))}
	if ip, err := netip.ParseAddr(host); err == nil {
		rt.Hops = r.hops(host, port, resolver.Answer[netip.Addr]{Records: []netip.Addr{ip.Unmap()}})
	} else {
		addrs, err := r.dns.Addresses(ctx, host)
		if err != nil {
			return nil, envelope.Because(statusNoNextHop, err)
		}
		rt.Hops = r.hops(host, port, addrs)
	}
	if len(rt.Hops) == 0 {
		return nil, envelope.Because(statusNoNextHop, fmt.Errorf("%s has no address that can be used", host))
	}
	rt.Hops = rt.Hops[:min(len(rt.Hops), r.config.MaxAddresses)]
	return rt, nil
}

// splitHop reads "host", "host:port", "[2001:db8::1]:port" or an address.
func splitHop(s string, defaultPort uint16) (host string, port uint16, err error) {
	if ip, err := netip.ParseAddr(strings.TrimSuffix(strings.TrimPrefix(s, "["), "]")); err == nil {
		return ip.String(), defaultPort, nil
	}
	if ap, err := netip.ParseAddrPort(s); err == nil {
		return ap.Addr().String(), ap.Port(), nil
	}
	host, portText, ok := strings.Cut(s, ":")
	port = defaultPort
	if ok {
		n, err := strconv.ParseUint(portText, 10, 16)
		if err != nil || n == 0 {
			return "", 0, fmt.Errorf("next hop %q: bad port", s)
		}
		port = uint16(n)
	}
	host, err = envelope.ParseDomain(host)
	if err != nil {
		return "", 0, fmt.Errorf("next hop %q: %w", s, err)
	}
	return host, port, nil
}

// toLiteral goes to the address that a recipient's domain is (RFC 5321 §4.1.3).
func (r *Router) toLiteral(domain string) (*Route, error) {
	text := strings.TrimSuffix(strings.TrimPrefix(strings.TrimPrefix(domain, "["), "IPv6:"), "]")
	ip, err := netip.ParseAddr(text)
	if err != nil {
		return nil, envelope.Because(statusNoDomain, err)
	}
	if r.isOurs(ip) {
		return nil, envelope.Because(statusLoop, nil)
	}
	hops := r.hops(domain, r.config.Port, resolver.Answer[netip.Addr]{Records: []netip.Addr{ip.Unmap()}})
	if len(hops) == 0 {
		return nil, envelope.Because(statusNoHost, fmt.Errorf("%s cannot be used", domain))
	}
	return &Route{Kind: ByMX, Name: domain, Hops: hops}, nil
}

// toDomain goes to the mail exchangers of domain (RFC 5321 §5.1).
func (r *Router) toDomain(ctx context.Context, domain string) (*Route, error) {
	mx, err := r.dns.MX(ctx, domain)
	implicit := false
	switch {
	case errors.Is(err, resolver.ErrNoData):
		// RFC 5321 §5.1: a domain without MX is its own exchanger. Only the
		// sure absence of MX leads there, never a failed question.
		mx = resolver.Answer[resolver.MX]{Records: []resolver.MX{{Host: domain}}, Name: domain}
		implicit = true
	case errors.Is(err, resolver.ErrNotFound):
		return nil, envelope.Because(statusNoDomain, err)
	case errors.Is(err, resolver.ErrInvalid):
		return nil, envelope.Because(statusNoHost, err)
	case err != nil:
		return nil, envelope.Because(statusLookup, err)
	}
	if len(mx.Records) == 1 && mx.Records[0].Host == "" {
		return nil, envelope.Because(statusNullMX, nil) // RFC 7505 §3
	}
	rt := &Route{Kind: ByMX, Name: domain, Authentic: mx.Authentic}
	list := mixEquals(mx.Records)
	var failure error // the worst that was seen: not knowing before absence
	for i, m := range list {
		if m.Host == "" || len(rt.Hops) >= r.config.MaxAddresses {
			continue
		}
		addrs, err := r.dns.Addresses(ctx, m.Host)
		if err != nil {
			if failure == nil || !isSure(err) {
				failure = err
			}
			if !strings.EqualFold(m.Host, r.config.Hostname) {
				continue
			}
		}
		if strings.EqualFold(m.Host, r.config.Hostname) || slices.ContainsFunc(addrs.Records, r.isOurs) {
			// We are in the list: whoever stands at our preference or
			// after it would only bring it back to us.
			rt.Hops = slices.DeleteFunc(rt.Hops, func(h Hop) bool { return !before(list[:i], h.Host, m.Preference) })
			if len(rt.Hops) == 0 && (failure == nil || isSure(failure)) {
				return nil, envelope.Because(statusLoop, nil)
			}
			break
		}
		rt.Hops = append(rt.Hops, r.hops(m.Host, r.config.Port, addrs)...)
	}
	if len(rt.Hops) > 0 {
		rt.Hops = rt.Hops[:min(len(rt.Hops), r.config.MaxAddresses)]
		return rt, nil
	}
	if failure != nil && !isSure(failure) {
		return nil, envelope.Because(statusLookup, failure)
	}
	if implicit && failure != nil {
		return nil, envelope.Because(statusNoHost, failure)
	}
	return nil, envelope.Because(statusNoHost, fmt.Errorf("no exchanger of %s has an address that can be used: %w", domain, errors.Join(failure)))
}

// isSure reports whether err says for sure that there is no address.
func isSure(err error) bool { return resolver.IsAbsent(err) || errors.Is(err, resolver.ErrInvalid) }

// before reports whether host stands in list with a preference better than p.
func before(list []resolver.MX, host string, p uint16) bool {
	return slices.ContainsFunc(list, func(m resolver.MX) bool { return m.Host == host && m.Preference < p })
}

// mixEquals shuffles exchangers of equal preference, which spreads the load
// (RFC 5321 §5.1). mx is in order of preference.
func mixEquals(mx []resolver.MX) []resolver.MX {
	mx = slices.Clone(mx)
	for i := 0; i < len(mx); {
		j := i + 1
		for j < len(mx) && mx[j].Preference == mx[i].Preference {
			j++
		}
		group := mx[i:j]
		rand.Shuffle(len(group), func(a, b int) { group[a], group[b] = group[b], group[a] })
		i = j
	}
	return mx
}

// hops lists the addresses of a host that can be connected to.
func (r *Router) hops(host string, port uint16, addrs resolver.Answer[netip.Addr]) (hops []Hop) {
	for _, ip := range addrs.Records {
		ip = ip.Unmap()
		if ip.IsUnspecified() || ip.IsMulticast() || ip.Is4() && r.config.NoIPv4 || ip.Is6() && r.config.NoIPv6 || ip == netip.AddrFrom4([4]byte{255, 255, 255, 255}) {
			continue
		}
		hops = append(hops, Hop{Host: host, Addr: netip.AddrPortFrom(ip, port), Authentic: addrs.Authentic})
	}
	return hops
}

func (r *Router) isOurs(ip netip.Addr) bool { return slices.Contains(r.config.Addresses, ip.Unmap()) }
