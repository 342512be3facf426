package ldap

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"math"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"dirpost/internal/resolver"
)

// Resolver is what finding servers asks of the DNS; *resolver.Resolver is one.
type Resolver interface {
	SRV(ctx context.Context, name string) (resolver.Answer[resolver.SRV], error)
	Addresses(ctx context.Context, host string) (resolver.Answer[netip.Addr], error)
}

// Domain is what the DNS and the servers say of a domain.
type Domain struct {
	Name    string // DNS name, lower case
	IsAD    bool   // the servers are domain controllers of Active Directory
	Forest  string // DNS name of the forest's root; AD only, "" if nobody answered
	NetBIOS string // DOMAIN of DOMAIN\user; the same
	Site    string // that this host is in; "" if its address belongs to none
	// Controllers are the servers, those to prefer first. At most 64 are looked
	// at; a domain may have more.
	Controllers []Controller
}

// Controller is one server of a domain.
type Controller struct {
	Host             string // full name, lower case; certificate and Kerberos have it
	Port             uint16 // of LDAP
	Priority, Weight uint16 // RFC 2782
	Near             bool   // in the site of this host
	PDC              bool   // the PDC emulator
	// Addresses are those of Host; empty if the DNS knows none, and then it
	// cannot be reached.
	Addresses []netip.Addr
	// Answered says that it has answered a netlogon ping. What follows is known
	// only then.
	Answered      bool
	Site          string
	Writable      bool // no read-only domain controller
	GlobalCatalog bool
}

// Address is where c speaks LDAP first.
func (c Controller) Address() (netip.AddrPort, bool) {
	if len(c.Addresses) == 0 {
		return netip.AddrPort{}, false
	}
	return netip.AddrPortFrom(c.Addresses[0], c.Port), true
}

const (
	// maxControllers bounds how many servers of a domain are looked at.
	maxControllers = 64
	// pingFor is how long all together are waited for. Who has not answered by
	// then, perhaps since UDP is filtered, is used all the same.
	pingFor = 1500 * time.Millisecond
)

// Discover finds the servers of a domain as a member of it does: by its SRV
// records, then by asking the domain controllers which site this host is in
// (MS-ADTS §6.3.6). Where the domain is no Active Directory, the records
// _ldap._tcp alone count. Those in our site come first, read-only ones last, the
// others by priority and weight (RFC 2782), whose dice are thrown anew by each
// call. It changes nothing and shows nobody a password; answers of the DNS and
// to the pings are believed as far as their order goes, and no further: who a
// server is, TLS or Kerberos must show.
//
// It takes the time of a few DNS questions and one ping; the error is for the
// administrator.
func Discover(ctx context.Context, r Resolver, domain string) (*Domain, error) {
	return discover(ctx, r, domain, "", maphash.MakeSeed())
}

// discover finds the servers of a domain. site is the one that we were in, for
// when nobody answers; seed makes the dice.
func discover(ctx context.Context, r Resolver, domain, site string, seed maphash.Seed) (*Domain, error) {
	d := &Domain{Name: strings.ToLower(strings.TrimSuffix(domain, ".")), Site: site, IsAD: true}
	dc, plain := "_ldap._tcp.dc._msdcs."+d.Name, "_ldap._tcp."+d.Name
	found, err := r.SRV(ctx, dc)
	if resolver.IsAbsent(err) {
		d.IsAD = false
		found, err = r.SRV(ctx, plain)
	}
	switch {
	case resolver.IsAbsent(err):
		return nil, fmt.Errorf("find the servers of %s: the DNS has neither %s nor %s: do the resolvers of this host know the domain? Else name the servers in urls", d.Name, dc, plain)
	case err != nil:
		return nil, fmt.Errorf("find the servers of %s: %w", d.Name, err)
	}
	for _, s := range found.Records {
		d.add(s)
	}
	if len(d.Controllers) == 0 {
		return nil, fmt.Errorf("find the servers of %s: its SRV records say that it offers none", d.Name)
	}
	if d.IsAD {
		d.askDNS(ctx, r)
	}
	d.resolve(ctx, r)
	if !slices.ContainsFunc(d.Controllers, func(c Controller) bool { return len(c.Addresses) > 0 }) {
		return nil, fmt.Errorf("find the servers of %s: the DNS names %s and knows no address of any", d.Name, d.hosts())
	}
	if d.IsAD {
		d.ask(ctx)
		d.markNear(ctx, r)
	}
	d.sort(seed)
	return d, nil
}

// add appends the server of an SRV record, "." says that there is none.
func (d *Domain) add(s resolver.SRV) *Controller {
	if s.Host == "" || s.Port == 0 {
		return nil
	}
	for i := range d.Controllers {
		if c := &d.Controllers[i]; c.Host == s.Host && c.Port == s.Port {
			return c
		}
	}
	if len(d.Controllers) >= maxControllers {
		return nil
	}
	d.Controllers = append(d.Controllers, Controller{Host: s.Host, Port: s.Port, Priority: s.Priority, Weight: s.Weight})
	return &d.Controllers[len(d.Controllers)-1]
}

// askDNS marks the PDC emulator. That nobody is in its record is no error: the
// ping may still say.
func (d *Domain) askDNS(ctx context.Context, r Resolver) {
	pdc, err := r.SRV(ctx, "_ldap._tcp.pdc._msdcs."+d.Name)
	if err != nil {
		return
	}
	for _, s := range pdc.Records {
		if c := d.add(s); c != nil {
			c.PDC = true
		}
	}
}

// resolve looks up the addresses.
func (d *Domain) resolve(ctx context.Context, r Resolver) {
	var wg sync.WaitGroup
	for i := range d.Controllers {
		wg.Go(func() {
			if a, err := r.Addresses(ctx, d.Controllers[i].Host); err == nil {
				d.Controllers[i].Addresses = a.Records
			}
		})
	}
	wg.Wait()
}

// ask pings all at the same time.
func (d *Domain) ask(ctx context.Context) {
	ctx, cancel := context.WithTimeoutCause(ctx, pingFor, errors.New("too slow"))
	defer cancel()
	answers := make([]netlogon, len(d.Controllers))
	var wg sync.WaitGroup
	for i := range d.Controllers {
		c := &d.Controllers[i]
		addr, ok := c.Address()
		if !ok {
			continue
		}
		wg.Go(func() {
			a, err := ping(ctx, addr, d.Name)
			if err != nil {
				return
			}
			answers[i] = a
			c.Answered, c.Site, c.PDC = true, a.site, c.PDC || a.flags&flagPDC != 0
			c.Writable, c.GlobalCatalog = a.flags&flagWritable != 0, a.flags&flagGC != 0
		})
	}
	wg.Wait()
	for _, a := range answers {
		if a.domain == "" {
			continue
		}
		d.Forest, d.NetBIOS = strings.ToLower(a.forest), a.netbios
		if a.clientSite != "" {
			d.Site = a.clientSite
			return
		}
	}
}

// markNear marks those of our site: those whose records say so, which may cover a
// site without a domain controller of its own, and those that say so.
func (d *Domain) markNear(ctx context.Context, r Resolver) {
	if d.Site == "" {
		return
	}
	near, err := r.SRV(ctx, "_ldap._tcp."+d.Site+"._sites.dc._msdcs."+d.Name)
	for i := range d.Controllers {
		c := &d.Controllers[i]
		c.Near = strings.EqualFold(c.Site, d.Site) ||
			err == nil && slices.ContainsFunc(near.Records, func(s resolver.SRV) bool { return s.Host == c.Host })
	}
}

// sort orders the servers by preference. The dice of RFC 2782 are the hash of the
// name, so that who is first stays it while the seed stays.
func (d *Domain) sort(seed maphash.Seed) {
	dice := func(c Controller) float64 {
		u := (float64(maphash.String(seed, c.Host)>>11) + 1) / (1 << 53) // in (0, 1]
		return -math.Log(u) / (float64(c.Weight) + 1.0/64)
	}
	slices.SortStableFunc(d.Controllers, func(a, b Controller) int {
		return cmp.Or(
			first(!a.isReadOnly(), !b.isReadOnly()),
			first(a.Near, b.Near),
			cmp.Compare(a.Priority, b.Priority),
			cmp.Compare(dice(a), dice(b)),
			cmp.Compare(a.Host, b.Host))
	})
}

// first compares so that what has a property comes before what has not.
func first(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return -1
	}
	return 1
}

// isReadOnly reports whether c has said that it takes no changes.
func (c Controller) isReadOnly() bool { return c.Answered && !c.Writable }

func (d *Domain) hosts() string {
	var names []string
	for _, c := range d.Controllers {
		names = append(names, c.Host)
	}
	return strings.Join(names, ", ")
}
