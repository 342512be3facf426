package testenv

import (
	"net"
	"strings"
	"sync"
	"testing"

	"github.com/miekg/dns"
)

// absence says how long it may be believed that something is not there
// (RFC 2308 §5).
var absence = &dns.SOA{
	Hdr: dns.RR_Header{Name: ".", Rrtype: dns.TypeSOA, Class: dns.ClassINET, Ttl: 60},
	Ns:  "ns.example.", Mbox: "hostmaster.example.", Serial: 1, Refresh: 3600, Retry: 600, Expire: 86400, Minttl: 60,
}

// NoAnswer as the rcode of Fail makes the server say nothing at all.
const NoAnswer = -1

// DNSServer is a DNS server that is authoritative for everything: a name it was
// not told of does not exist. It answers over UDP and TCP.
type DNSServer struct {
	Addr string // host:port

	mu       sync.Mutex // guards what follows
	records  map[string][]dns.RR
	rcodes   map[string]int
	secure   map[string]bool
	answers  map[string]func(query *dns.Msg, tcp bool) [][]byte
	noFollow bool
	queries  []string
}

// DNS starts a server that ends with the test. records are lines of a zone file
// (RFC 1035 §5.1) with absolute names, "example.org. IN MX 10 mx.example.org.".
func DNS(t testing.TB, records ...string) *DNSServer {
	t.Helper()
	return DNSAt(t, "127.0.0.1:0", records...)
}

// DNSAt is DNS at an address: with port 53, in a network of our own, for programs that
// ask the system's servers.
func DNSAt(t testing.TB, address string, records ...string) *DNSServer {
	t.Helper()
	s := &DNSServer{rcodes: map[string]int{}, secure: map[string]bool{}, answers: map[string]func(*dns.Msg, bool) [][]byte{}}
	s.Set(t, records...)
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	s.Addr = l.Addr().String()
	p, err := net.ListenPacket("udp", s.Addr)
	for try := 0; err != nil && try < 20; try++ { // somebody has the UDP port
		_ = l.Close()
		if l, err = net.Listen("tcp", address); err != nil {
			t.Fatal(err)
		}
		s.Addr = l.Addr().String()
		p, err = net.ListenPacket("udp", s.Addr)
	}
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for _, srv := range []*dns.Server{{Listener: l, Handler: s}, {PacketConn: p, Handler: s}} {
		started := make(chan struct{})
		srv.NotifyStartedFunc = func() { close(started) }
		wg.Go(func() { _ = srv.ActivateAndServe() })
		<-started
		t.Cleanup(func() { _ = srv.Shutdown() })
	}
	t.Cleanup(func() {
		_ = l.Close()
		_ = p.Close()
		wg.Wait()
	})
	return s
}

// Set replaces all records.
func (s *DNSServer) Set(t testing.TB, records ...string) {
	t.Helper()
	all := make(map[string][]dns.RR)
	for _, line := range records {
		rr, err := dns.NewRR(line)
		if err != nil || rr == nil {
			t.Fatalf("DNS record %q: %v", line, err)
		}
		name := dns.CanonicalName(rr.Header().Name)
		all[name] = append(all[name], rr)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.records = all
}

// Fail makes all questions about name fail with rcode (dns.RcodeServerFailure,
// …, NoAnswer); dns.RcodeSuccess ends that.
func (s *DNSServer) Fail(name string, rcode int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.rcodes[dns.CanonicalName(name)] = rcode
}

// Secure sets the authenticated bit (RFC 4035 §3.2.3) on answers about names
// from now on; an alias has it only if what it leads to has it too.
func (s *DNSServer) Secure(names ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, name := range names {
		s.secure[dns.CanonicalName(name)] = true
	}
}

// Answer has f answer every question about name, with as many packets as it
// likes, good or bad.
func (s *DNSServer) Answer(name string, f func(query *dns.Msg, tcp bool) [][]byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.answers[dns.CanonicalName(name)] = f
}

// LeaveAliases makes the server return an alias without what it leads to.
func (s *DNSServer) LeaveAliases() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.noFollow = true
}

// Queries returns what was asked so far, "name type" each.
func (s *DNSServer) Queries() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.queries...)
}

// ServeDNS answers one question.
func (s *DNSServer) ServeDNS(w dns.ResponseWriter, r *dns.Msg) {
	_, udp := w.LocalAddr().(*net.UDPAddr)
	if f := s.scripted(r); f != nil {
		for _, p := range f(r, !udp) {
			_, _ = w.Write(p) // the client may be gone
		}
		return
	}
	m := s.answer(r)
	if m == nil {
		return
	}
	if udp {
		size := dns.MinMsgSize
		if o := r.IsEdns0(); o != nil {
			size = int(o.UDPSize())
		}
		m.Truncate(size)
	}
	_ = w.WriteMsg(m) // the client may be gone
}

// scripted returns the function that answers r, nil if none does.
func (s *DNSServer) scripted(r *dns.Msg) func(*dns.Msg, bool) [][]byte {
	if len(r.Question) != 1 {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	name := dns.CanonicalName(r.Question[0].Name)
	f := s.answers[name]
	if f != nil {
		s.queries = append(s.queries, strings.TrimSuffix(name, ".")+" "+dns.TypeToString[r.Question[0].Qtype])
	}
	return f
}

// answer makes the reply, nil for none.
func (s *DNSServer) answer(r *dns.Msg) *dns.Msg {
	s.mu.Lock()
	defer s.mu.Unlock()
	m := new(dns.Msg).SetReply(r)
	m.Authoritative, m.RecursionAvailable, m.AuthenticatedData = true, true, true
	if len(r.Question) != 1 {
		m.Rcode = dns.RcodeFormatError
		return m
	}
	q := r.Question[0]
	name := dns.CanonicalName(q.Name)
	s.queries = append(s.queries, strings.TrimSuffix(name, ".")+" "+dns.TypeToString[q.Qtype])
	// A chain of aliases is followed as a resolver does (RFC 1034 §3.6.2).
	for hops := 0; hops < 8; hops++ {
		if rcode := s.rcodes[name]; rcode == NoAnswer {
			return nil
		} else if rcode != dns.RcodeSuccess {
			m.Rcode, m.Answer = rcode, nil
			return m
		}
		m.AuthenticatedData = m.AuthenticatedData && s.secure[name]
		alias := ""
		for _, rr := range s.records[name] {
			if c, ok := rr.(*dns.CNAME); ok && q.Qtype != dns.TypeCNAME {
				m.Answer = append(m.Answer, rr)
				alias = dns.CanonicalName(c.Target)
			} else if rr.Header().Rrtype == q.Qtype || q.Qtype == dns.TypeANY {
				m.Answer = append(m.Answer, rr)
			}
		}
		if alias != "" && s.noFollow {
			return m
		}
		if alias == "" {
			break
		}
		name = alias
	}
	if !s.existsLocked(name) {
		m.Rcode = dns.RcodeNameError
	}
	if n := len(m.Answer); n == 0 || m.Answer[n-1].Header().Rrtype != r.Question[0].Qtype {
		m.Ns = []dns.RR{absence}
	}
	return m
}

// existsLocked reports whether there are records at or below name (RFC 8020).
func (s *DNSServer) existsLocked(name string) bool {
	for n := range s.records {
		if dns.IsSubDomain(name, n) {
			return true
		}
	}
	return false
}
