package resolver

import (
	"net/netip"
	"strings"
	"time"

	"github.com/miekg/dns"
)

// Bounds of one answer.
const (
	maxRecords = 256
	maxOctets  = 64 << 10
	maxAliases = 10
)

// MX is one mail exchanger. An empty Host is the null MX: the domain takes no
// mail (RFC 7505 §3).
type MX struct {
	Host       string // lower case, no trailing dot
	Preference uint16
}

// SRV is one server of a service. An empty Host says that the service is not
// offered (RFC 2782).
type SRV struct {
	Host             string // lower case, no trailing dot
	Port             uint16
	Priority, Weight uint16
}

// TLSA is one record of RFC 6698 §2.
type TLSA struct {
	Usage, Selector, MatchingType uint8
	Data                          string // hexadecimal, lower case
}

// Answer is what a question came to.
type Answer[T any] struct {
	Records   []T
	Name      string // where the aliases led, without trailing dot
	Authentic bool   // by the AD bit of trusted servers, for every alias on the way
}

// found is an answer of any type as the cache holds it. It is immutable.
type found struct {
	mx        []MX
	srv       []SRV
	addrs     []netip.Addr
	text      []string
	tlsa      []TLSA
	names     []string
	name      string // with trailing dot
	authentic bool
	err       error // ErrNotFound, ErrNoData, ErrInvalid
	ttl       time.Duration
	octets    int
}

func (f *found) records() int {
	return len(f.mx) + len(f.srv) + len(f.addrs) + len(f.text) + len(f.tlsa) + len(f.names)
}

// read takes the records for (f.name, qtype) out of m into f, going along
// aliases. It reports whether f is settled; if not, f.name is the alias that
// has to be asked about next.
func (f *found) read(m *dns.Msg, qtype uint16, aliases *int) (settled bool) {
	records := byName(m.Answer)
	for {
		if f.take(records[f.name], qtype) {
			if f.records() == 0 {
				f.err = ErrInvalid // nothing but names that are none
			}
			return true
		}
		target, ttl := alias(records[f.name])
		if qtype == dns.TypeCNAME || target == "" {
			break
		}
		if *aliases++; *aliases > maxAliases {
			f.err = ErrInvalid
			return true
		}
		f.shorten(ttl)
		f.name = target
		if len(records[target]) == 0 && m.Rcode == dns.RcodeSuccess && !hasSOA(m) {
			return false // the server did not follow the alias for us
		}
	}
	f.err = ErrNoData
	if m.Rcode == dns.RcodeNameError {
		f.err = ErrNotFound
	}
	f.shorten(negativeTTL(m))
	return true
}

func byName(rrs []dns.RR) map[string][]dns.RR {
	records := make(map[string][]dns.RR)
	for _, rr := range rrs {
		if h := rr.Header(); h.Class == dns.ClassINET {
			name := dns.CanonicalName(h.Name)
			records[name] = append(records[name], rr)
		}
	}
	return records
}

func alias(rrs []dns.RR) (target string, ttl time.Duration) {
	for _, rr := range rrs {
		if c, ok := rr.(*dns.CNAME); ok {
			return dns.CanonicalName(c.Target), seconds(c.Hdr.Ttl)
		}
	}
	return "", 0
}

// take copies the records of type qtype and reports whether there were any.
func (f *found) take(rrs []dns.RR, qtype uint16) bool {
	there := false
	for _, rr := range rrs {
		if rr.Header().Rrtype != qtype {
			continue
		}
		there = true
		f.shorten(seconds(rr.Header().Ttl))
		if f.records() >= maxRecords || f.octets >= maxOctets {
			continue
		}
		f.add(rr)
	}
	return there
}

// add copies one record, unless it holds a name that is none.
func (f *found) add(rr dns.RR) {
	switch rr := rr.(type) {
	case *dns.MX:
		host, ok := hostName(rr.Mx)
		if ok {
			f.mx = append(f.mx, MX{host, rr.Preference})
			f.octets += len(host)
		}
	case *dns.SRV:
		host, ok := hostName(rr.Target)
		if ok {
			f.srv = append(f.srv, SRV{host, rr.Port, rr.Priority, rr.Weight})
			f.octets += len(host)
		}
	case *dns.A:
		if ip, ok := netip.AddrFromSlice(rr.A); ok {
			f.addrs = append(f.addrs, ip.Unmap())
		}
	case *dns.AAAA:
		if ip, ok := netip.AddrFromSlice(rr.AAAA); ok {
			f.addrs = append(f.addrs, ip)
		}
	case *dns.TXT:
		// RFC 7208 §3.3: several strings of one record are one text.
		s := unescape(strings.Join(rr.Txt, ""))
		f.text = append(f.text, s)
		f.octets += len(s)
	case *dns.TLSA:
		f.tlsa = append(f.tlsa, TLSA{rr.Usage, rr.Selector, rr.MatchingType, strings.ToLower(rr.Certificate)})
		f.octets += len(rr.Certificate)
	case *dns.PTR:
		f.addName(rr.Ptr)
	case *dns.CNAME:
		f.addName(rr.Target)
	}
	f.octets += 16
}

func (f *found) addName(s string) {
	if host, ok := hostName(s); ok && host != "" {
		f.names = append(f.names, host)
		f.octets += len(host)
	}
}

// shorten lowers the time that the answer may be kept.
func (f *found) shorten(ttl time.Duration) {
	if ttl < f.ttl {
		f.ttl = ttl
	}
}

func seconds(ttl uint32) time.Duration {
	if ttl > 1<<31-1 {
		return 0 // RFC 2181 §8
	}
	return time.Duration(ttl) * time.Second
}

func hasSOA(m *dns.Msg) bool {
	for _, rr := range m.Ns {
		if _, ok := rr.(*dns.SOA); ok {
			return true
		}
	}
	return false
}

// negativeTTL is how long absence may be believed (RFC 2308 §5); without an SOA
// record not at all.
func negativeTTL(m *dns.Msg) time.Duration {
	for _, rr := range m.Ns {
		if soa, ok := rr.(*dns.SOA); ok {
			return seconds(min(soa.Hdr.Ttl, soa.Minttl))
		}
	}
	return 0
}

// hostName returns a name of the DNS as a host name: lower case, no trailing
// dot, nothing but letters, digits, hyphen, underscore and dots. The root is "".
func hostName(s string) (string, bool) {
	s = strings.ToLower(strings.TrimSuffix(s, "."))
	if len(s) > 253 {
		return "", false
	}
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case 'a' <= c && c <= 'z', '0' <= c && c <= '9', c == '-', c == '_':
		case c == '.' && i > 0 && s[i-1] != '.':
		default:
			return "", false
		}
	}
	return s, true
}

// unescape undoes the presentation format that the library gives TXT strings
// in: \" and \\ and \DDD.
func unescape(s string) string {
	if strings.IndexByte(s, '\\') < 0 {
		return s
	}
	b := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		if s[i] != '\\' || i+1 == len(s) {
			b = append(b, s[i])
			continue
		}
		if i+3 < len(s) && isDigit(s[i+1]) && isDigit(s[i+2]) && isDigit(s[i+3]) {
			b = append(b, (s[i+1]-'0')*100+(s[i+2]-'0')*10+(s[i+3]-'0'))
			i += 3
			continue
		}
		b = append(b, s[i+1])
		i++
	}
	return string(b)
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }
