package testenv

import (
	"net"
	"strings"
	"sync"
	"testing"

	"github.com/miekg/dns"
)

// NoAnswer as the rcode of Fail makes the server say nothing at all.
const NoAnswer = -1

// DNSServer is a DNS server that is authoritative for everything: a name it was
// not told of does not exist. It answers over UDP and TCP.
type DNSServer struct {
	Addr string // host:port

	mu      sync.Mutex // guards what follows
	records map[string][]dns.RR
	rcodes  map[string]int
	secure  bool
	queries []string
}

// DNS starts a server that ends with the test. records are lines of a zone file
// (RFC 1035 §5.1) with absolute names, "example.org. IN MX 10 mx.example.org.".
func DNS(t testing.TB, records ...string) *DNSServer {
	t.Helper()
	s := &DNSServer{rcodes: map[string]int{}}
	s.Set(t, records...)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.Addr = l.Addr().String()
	p, err := net.ListenPacket("udp", s.Addr)
	for try := 0; err != nil && try < 20; try++ { // somebody has the UDP port
		_ = l.Close()
		if l, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
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

// Secure sets the authenticated bit (RFC 4035 §3.2.3) on all answers from now.
func (s *DNSServer) Secure(on bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.secure = on
}

// Queries returns what was asked so far, "name type" each.
func (s *DNSServer) Queries() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.queries...)
}

// ServeDNS answers one question.
func (s *DNSServer) ServeDNS(w dns.ResponseWriter, r *dns.Msg) {
	m := s.answer(r)
	if m == nil {
		return
	}
	if _, udp := w.LocalAddr().(*net.UDPAddr); udp {
		size := dns.MinMsgSize
		if o := r.IsEdns0(); o != nil {
			size = int(o.UDPSize())
		}
		m.Truncate(size)
	}
	_ = w.WriteMsg(m) // the client may be gone
}

// answer makes the reply, nil for none.
func (s *DNSServer) answer(r *dns.Msg) *dns.Msg {
	s.mu.Lock()
	defer s.mu.Unlock()
	m := new(dns.Msg).SetReply(r)
	m.Authoritative, m.RecursionAvailable, m.AuthenticatedData = true, true, s.secure
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
		alias := ""
		for _, rr := range s.records[name] {
			if c, ok := rr.(*dns.CNAME); ok && q.Qtype != dns.TypeCNAME {
				m.Answer = append(m.Answer, rr)
				alias = dns.CanonicalName(c.Target)
			} else if rr.Header().Rrtype == q.Qtype || q.Qtype == dns.TypeANY {
				m.Answer = append(m.Answer, rr)
			}
		}
		if alias == "" {
			break
		}
		name = alias
	}
	if !s.existsLocked(name) {
		m.Rcode = dns.RcodeNameError
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
