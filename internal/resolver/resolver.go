package resolver

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/maypok86/otter/v2"
	"github.com/miekg/dns"
	"golang.org/x/net/idna"
	"golang.org/x/sync/singleflight"
)

// Resolver asks recursive resolvers. Make one with New.
type Resolver struct {
	config    Config
	servers   []netip.AddrPort
	preferred atomic.Int32 // index of the server that is asked first
	cache     *otter.Cache[question, *found]
	flights   singleflight.Group
}

// question is the key of the cache.
type question struct {
	name  string // lower case, with trailing dot
	qtype uint16
}

// New returns a Resolver. It does no I/O and starts nothing.
func New(c Config) (*Resolver, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	r := &Resolver{config: c.withDefaults()}
	for _, s := range c.Servers {
		ap, err := serverAddr(s)
		if err != nil {
			return nil, err
		}
		r.servers = append(r.servers, ap)
	}
	cache, err := otter.New(&otter.Options[question, *found]{
		MaximumWeight: uint64(r.config.CacheSize),
		Weigher: func(q question, f *found) uint32 {
			return uint32(f.octets + len(q.name) + 256) // what an entry costs besides its records
		},
		ExpiryCalculator: otter.ExpiryWritingFunc(func(e otter.Entry[question, *found]) time.Duration { return e.Value.ttl }),
	})
	if err != nil {
		return nil, err
	}
	r.cache = cache
	return r, nil
}

// MX returns the mail exchangers of a domain, lowest preference first; among
// equals the order is that of the answer. ErrNoData and ErrNotFound are two
// different things here: with the first the domain's own addresses count
// (RFC 5321 §5.1).
func (r *Resolver) MX(ctx context.Context, domain string) (Answer[MX], error) {
	f, err := r.lookup(ctx, domain, dns.TypeMX)
	if err != nil {
		return Answer[MX]{}, err
	}
	mx := slices.Clone(f.mx)
	slices.SortStableFunc(mx, func(a, b MX) int { return int(a.Preference) - int(b.Preference) })
	return answer(f, mx), nil
}

// SRV returns the servers of a service, whose name is of the form
// "_ldap._tcp.example.org" (RFC 2782), lowest priority first. Among equals the
// order is that of the answer: the choice by weight is the caller's.
func (r *Resolver) SRV(ctx context.Context, name string) (Answer[SRV], error) {
	f, err := r.lookup(ctx, name, dns.TypeSRV)
	if err != nil {
		return Answer[SRV]{}, err
	}
	srv := slices.Clone(f.srv)
	slices.SortStableFunc(srv, func(a, b SRV) int { return int(a.Priority) - int(b.Priority) })
	return answer(f, srv), nil
}

// Addresses returns the IPv6 and IPv4 addresses of a host, asked for at the
// same time. One family without an answer does not matter if the other has one,
// but when both have none, not knowing is worse than absence.
func (r *Resolver) Addresses(ctx context.Context, host string) (Answer[netip.Addr], error) {
	type result struct {
		f   *found
		err error
	}
	six := make(chan result, 1)
	go func() {
		f, err := r.lookup(ctx, host, dns.TypeAAAA)
		six <- result{f, err}
	}()
	four, err4 := r.lookup(ctx, host, dns.TypeA)
	v6 := <-six
	switch {
	case err4 == nil && v6.err == nil:
		a := answer(four, slices.Concat(v6.f.addrs, four.addrs))
		a.Authentic = four.authentic && v6.f.authentic
		return a, nil
	case v6.err == nil:
		return answer(v6.f, slices.Clone(v6.f.addrs)), nil
	case err4 == nil:
		return answer(four, slices.Clone(four.addrs)), nil
	case IsAbsent(err4) && !IsAbsent(v6.err):
		return Answer[netip.Addr]{}, v6.err
	default:
		return Answer[netip.Addr]{}, err4
	}
}

// TXT returns texts, each with its strings joined. They are octets of a
// stranger's choice.
func (r *Resolver) TXT(ctx context.Context, name string) (Answer[string], error) {
	f, err := r.lookup(ctx, name, dns.TypeTXT)
	if err != nil {
		return Answer[string]{}, err
	}
	return answer(f, slices.Clone(f.text)), nil
}

// TLSA returns the records of name, which is of the form "_25._tcp.host".
// They mean something only if the answer is Authentic (RFC 7672 §2.2).
func (r *Resolver) TLSA(ctx context.Context, name string) (Answer[TLSA], error) {
	f, err := r.lookup(ctx, name, dns.TypeTLSA)
	if err != nil {
		return Answer[TLSA]{}, err
	}
	return answer(f, slices.Clone(f.tlsa)), nil
}

// PTR returns the names of an address. They are a claim of who holds the
// address; see VerifiedName.
func (r *Resolver) PTR(ctx context.Context, ip netip.Addr) (Answer[string], error) {
	name, err := dns.ReverseAddr(ip.Unmap().WithZone("").String())
	if err != nil {
		return Answer[string]{}, &Error{Name: ip.String(), Type: "PTR", Err: ErrNotFound}
	}
	f, err := r.lookup(ctx, name, dns.TypePTR)
	if err != nil {
		return Answer[string]{}, err
	}
	return answer(f, slices.Clone(f.names)), nil
}

// maxPointers bounds how many names of an address are looked at, as RFC 7208
// §4.6.4 does.
const maxPointers = 10

// VerifiedName returns the first name of ip that has ip among its addresses, ""
// if none has. The error is not nil only if nobody could tell.
func (r *Resolver) VerifiedName(ctx context.Context, ip netip.Addr) (string, error) {
	names, err := r.PTR(ctx, ip)
	if err != nil {
		if IsAbsent(err) || errors.Is(err, ErrInvalid) {
			return "", nil
		}
		return "", err
	}
	var unknown error
	for _, name := range names.Records[:min(len(names.Records), maxPointers)] {
		addrs, err := r.Addresses(ctx, name)
		if errors.Is(err, ErrUnavailable) {
			unknown = err
		}
		if slices.Contains(addrs.Records, ip.Unmap().WithZone("")) {
			return name, nil
		}
	}
	return "", unknown
}

// CNAME returns the alias that name is, if it is one, without following it.
func (r *Resolver) CNAME(ctx context.Context, name string) (Answer[string], error) {
	f, err := r.lookup(ctx, name, dns.TypeCNAME)
	if err != nil {
		return Answer[string]{}, err
	}
	return answer(f, slices.Clone(f.names)), nil
}

func answer[T any](f *found, records []T) Answer[T] {
	return Answer[T]{Records: records, Name: strings.TrimSuffix(f.name, "."), Authentic: f.authentic}
}

// lookup answers from the cache or asks. The result holds no error.
func (r *Resolver) lookup(ctx context.Context, name string, qtype uint16) (*found, error) {
	fail := func(err error, authentic bool) (*found, error) {
		return nil, &Error{Name: strings.TrimSuffix(name, "."), Type: dns.TypeToString[qtype], Err: err, Authentic: authentic}
	}
	fqdn, ok := questionName(name)
	if !ok {
		return fail(ErrNotFound, false)
	}
	q := question{fqdn, qtype}
	f, ok := r.cache.GetIfPresent(q)
	if !ok {
		var err error
		if f, err = r.shared(ctx, q); err != nil {
			return fail(err, false)
		}
	}
	if f.err != nil {
		return fail(f.err, f.authentic)
	}
	return f, nil
}

// questionName returns name as it is asked for; false when it cannot exist.
func questionName(name string) (string, bool) {
	name = strings.TrimSuffix(name, ".")
	for i := 0; i < len(name); i++ {
		if name[i] >= 0x80 {
			a, err := idna.Lookup.ToASCII(name)
			if err != nil {
				return "", false
			}
			name = a
			break
		}
	}
	name = strings.ToLower(name)
	if h, ok := hostName(name); !ok || h == "" {
		return "", false
	}
	if _, ok := dns.IsDomainName(name + "."); !ok {
		return "", false
	}
	return name + ".", true
}

// shared asks for q once for all that want it now. It goes on without the
// caller that began it, since others may wait for it, but not for ever.
func (r *Resolver) shared(ctx context.Context, q question) (*found, error) {
	results := r.flights.DoChan(dns.TypeToString[q.qtype]+q.name, func() (any, error) {
		limit := 2 * r.config.Timeout * time.Duration(r.config.Attempts*len(r.servers))
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), limit)
		defer cancel()
		f, err := r.resolve(ctx, q)
		if err != nil {
			return nil, err
		}
		if f.ttl > 0 {
			r.cache.Set(q, f)
		}
		return f, nil
	})
	select {
	case <-ctx.Done():
		return nil, unavailable(context.Cause(ctx))
	case res := <-results:
		if res.Err != nil {
			return nil, res.Err
		}
		return res.Val.(*found), nil
	}
}

// resolve asks for q, and again for the aliases that the server did not follow.
func (r *Resolver) resolve(ctx context.Context, q question) (*found, error) {
	f := &found{name: q.name, ttl: r.config.MaxTTL, authentic: r.config.TrustAD}
	aliases := 0
	for {
		m, err := r.exchange(ctx, f.name, q.qtype)
		if err != nil {
			return nil, err
		}
		f.authentic = f.authentic && m.AuthenticatedData
		if !f.read(m, q.qtype, &aliases) {
			continue
		}
		if f.err != nil {
			f.shorten(r.config.MaxNegativeTTL)
		}
		return f, nil
	}
}
