package resolver

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"dirpost/internal/envelope"
	"dirpost/internal/testenv"

	"github.com/miekg/dns"
)

func newResolver(t *testing.T, c Config) *Resolver {
	t.Helper()
	r, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestAnswers(t *testing.T) {
	t.Parallel()
	srv := testenv.DNS(t)
	srv.Set(t,
		"corp.example. 300 IN MX 20 MX2.corp.example.",
		"corp.example. 300 IN MX 10 mx1.corp.example.",
		`corp.example. 300 IN TXT "v=spf1 " "-all"`,
		`corp.example. 300 IN TXT "a\"b\\c\007"`,
		"mx1.corp.example. 300 IN A 192.0.2.1",
		"mx1.corp.example. 300 IN AAAA 2001:db8::1",
		"mx2.corp.example. 300 IN A 192.0.2.2",
		"null.example. 300 IN MX 0 .",
		"alias.example. 300 IN CNAME two.alias.example.",
		"two.alias.example. 300 IN CNAME corp.example.",
		"dead.example. 300 IN CNAME gone.example.",
		"_25._tcp.mx1.corp.example. 300 IN TLSA 3 1 1 ABCDEF",
		"1.2.0.192.in-addr.arpa. 300 IN PTR mx1.corp.example.",
		"2.2.0.192.in-addr.arpa. 300 IN PTR mx1.corp.example.",
		`odd.example. 300 IN MX 10 a\000b.example.`,
		`half.example. 300 IN MX 10 a\032b.example.`,
		"half.example. 300 IN MX 20 good.example.",
		"xn--mnchen-3ya.example. 300 IN A 192.0.2.9",
		"_ldap._tcp.corp.example. 300 IN SRV 20 5 389 DC3.corp.example.",
		"_ldap._tcp.corp.example. 300 IN SRV 10 0 3890 dc1.corp.example.",
		`_ldap._tcp.corp.example. 300 IN SRV 0 0 389 d\032c.corp.example.`,
		"_ldap._tcp.null.example. 300 IN SRV 0 0 0 .",
	)
	srv.Secure("corp.example", "_25._tcp.mx1.corp.example", "alias.example")
	r := newResolver(t, Config{Servers: []string{srv.Addr}, TrustAD: true})
	ctx := t.Context()

	show := func(v any, err error) string {
		var e *Error
		if errors.As(err, &e) {
			return fmt.Sprintf("%v (authentic %v)", e.Err, e.Authentic)
		}
		return fmt.Sprintf("%+v %v", v, err)
	}
	mx := func(name string) string { return show(r.MX(ctx, name)) }
	txt := func(name string) string { return show(r.TXT(ctx, name)) }
	addrs := func(name string) string { return show(r.Addresses(ctx, name)) }
	srvs := func(name string) string { return show(r.SRV(ctx, name)) }
	tests := []struct{ name, got, want string }{
		{"SRV sorted, RFC 2782", srvs("_ldap._tcp.corp.example"), "{Records:[{Host:dc1.corp.example Port:3890 Priority:10 Weight:0} {Host:dc3.corp.example Port:389 Priority:20 Weight:5}] Name:_ldap._tcp.corp.example Authentic:false} <nil>"},
		{"SRV: not offered", srvs("_ldap._tcp.null.example"), "{Records:[{Host: Port:0 Priority:0 Weight:0}] Name:_ldap._tcp.null.example Authentic:false} <nil>"},
		{"no SRV", srvs("_ldap._tcp.alias.example"), "no such name (authentic false)"},
		{"MX sorted, lower case", mx("Corp.Example."), "{Records:[{Host:mx1.corp.example Preference:10} {Host:mx2.corp.example Preference:20}] Name:corp.example Authentic:true} <nil>"},
		{"null MX, RFC 7505 §3", mx("null.example"), "{Records:[{Host: Preference:0}] Name:null.example Authentic:false} <nil>"},
		{"two aliases, one not authentic", mx("alias.example"), "{Records:[{Host:mx1.corp.example Preference:10} {Host:mx2.corp.example Preference:20}] Name:corp.example Authentic:false} <nil>"},
		{"alias to nothing", mx("dead.example"), "no such name (authentic false)"},
		{"no name", mx("nobody.example"), "no such name (authentic false)"},
		{"no record", mx("mx1.corp.example"), "no such record (authentic false)"},
		{"a name above others exists", mx("example"), "no such record (authentic false)"},
		{"no host name at all", mx("odd.example"), "unusable answer (authentic false)"},
		{"one host name of two", mx("half.example"), "{Records:[{Host:good.example Preference:20}] Name:half.example Authentic:false} <nil>"},
		{"NUL in the question", mx("a\x00b.example"), "no such name (authentic false)"},
		{"empty question", mx(""), "no such name (authentic false)"},
		{"label too long", mx(strings.Repeat("a", 64) + ".example"), "no such name (authentic false)"},
		{"strings joined and unescaped", txt("corp.example"), "{Records:[v=spf1 -all a\"b\\c\a] Name:corp.example Authentic:true} <nil>"},
		{"both families", addrs("mx1.corp.example"), "{Records:[2001:db8::1 192.0.2.1] Name:mx1.corp.example Authentic:false} <nil>"},
		{"one family", addrs("mx2.corp.example"), "{Records:[192.0.2.2] Name:mx2.corp.example Authentic:false} <nil>"},
		{"U-label", addrs("münchen.example"), "{Records:[192.0.2.9] Name:xn--mnchen-3ya.example Authentic:false} <nil>"},
		{"TLSA", show(r.TLSA(ctx, "_25._tcp.mx1.corp.example")), "{Records:[{Usage:3 Selector:1 MatchingType:1 Data:abcdef}] Name:_25._tcp.mx1.corp.example Authentic:true} <nil>"},
		{"CNAME", show(r.CNAME(ctx, "alias.example")), "{Records:[two.alias.example] Name:alias.example Authentic:true} <nil>"},
		{"PTR", show(r.PTR(ctx, netip.MustParseAddr("::ffff:192.0.2.1"))), "{Records:[mx1.corp.example] Name:1.2.0.192.in-addr.arpa Authentic:false} <nil>"},
		{"verified name", show(r.VerifiedName(ctx, netip.MustParseAddr("192.0.2.1"))), "mx1.corp.example <nil>"},
		{"name that does not lead back", show(r.VerifiedName(ctx, netip.MustParseAddr("192.0.2.2"))), " <nil>"},
		{"no name of an address", show(r.VerifiedName(ctx, netip.MustParseAddr("2001:db8::7"))), " <nil>"},
	}
	for _, tt := range tests {
		if tt.got != tt.want {
			t.Errorf("%s:\n got %s\nwant %s", tt.name, tt.got, tt.want)
		}
	}
}

// Without trust in the way to the server, its AD bit says nothing.
func TestUntrusted(t *testing.T) {
	t.Parallel()
	srv := testenv.DNS(t)
	srv.Set(t, "corp.example. 300 IN MX 10 mx.corp.example.")
	srv.Secure("corp.example")
	a, err := newResolver(t, Config{Servers: []string{srv.Addr}}).MX(t.Context(), "corp.example")
	if err != nil || a.Authentic {
		t.Errorf("got %+v, %v", a, err)
	}
}

func TestCache(t *testing.T) {
	t.Parallel()
	srv := testenv.DNS(t)
	srv.Set(t, "corp.example. 300 IN MX 10 mx.corp.example.", "zero.example. 0 IN MX 10 mx.corp.example.")
	r := newResolver(t, Config{Servers: []string{srv.Addr}})
	for _, tt := range []struct {
		name string
		want int
	}{
		{"corp.example", 1},
		{"nobody.example", 1}, // RFC 2308 §5: absence is remembered too
		{"zero.example", 3},
	} {
		for range 3 {
			_, _ = r.MX(t.Context(), tt.name)
		}
		if got := asked(srv, tt.name); got != tt.want {
			t.Errorf("%s: %d queries, want %d", tt.name, got, tt.want)
		}
	}
}

// The cache stays within its bound, whoever chooses the names.
func TestCacheBound(t *testing.T) {
	t.Parallel()
	srv := testenv.DNS(t)
	r := newResolver(t, Config{Servers: []string{srv.Addr}, CacheSize: 8 << 10})
	for i := range 200 {
		_, _ = r.MX(t.Context(), fmt.Sprintf("n%d.example", i))
	}
	r.cache.CleanUp()
	if w := r.cache.WeightedSize(); w > 8<<10 {
		t.Errorf("cache holds %d octets", w)
	}
}

func TestCoalesced(t *testing.T) {
	t.Parallel()
	srv := testenv.DNS(t)
	asked, release := make(chan struct{}), make(chan struct{})
	var once sync.Once
	srv.Answer("slow.example", func(q *dns.Msg, _ bool) [][]byte {
		once.Do(func() { close(asked) })
		<-release
		m := new(dns.Msg)
		m.SetReply(q)
		m.Answer = append(m.Answer, mustRR(t, "slow.example. 0 IN MX 10 mx.example."))
		return [][]byte{mustPack(t, m)}
	})
	r := newResolver(t, Config{Servers: []string{srv.Addr}})

	impatient, cancel := context.WithCancel(t.Context())
	gone := make(chan error)
	go func() {
		_, err := r.MX(impatient, "slow.example")
		gone <- err
	}()
	<-asked // the query is on its way
	cancel()
	if err := <-gone; !errors.Is(err, ErrUnavailable) || !errors.Is(err, context.Canceled) {
		t.Errorf("caller that gave up: %v", err)
	}
	var wg sync.WaitGroup
	for range 5 {
		wg.Go(func() {
			if _, err := r.MX(t.Context(), "slow.example"); err != nil {
				t.Error(err)
			}
		})
	}
	close(release)
	wg.Wait()
}

func TestFailures(t *testing.T) {
	t.Parallel()
	srv := testenv.DNS(t)
	srv.Set(t, "corp.example. 300 IN MX 10 mx.corp.example.", "four.example. 300 IN A 192.0.2.4")
	for _, rcode := range []int{dns.RcodeServerFailure, dns.RcodeRefused, testenv.NoAnswer} {
		r := newResolver(t, Config{Servers: []string{srv.Addr}, Timeout: time.Second, Attempts: 1})
		srv.Fail("corp.example", rcode)
		_, err := r.MX(t.Context(), "corp.example")
		if !errors.Is(err, ErrUnavailable) || IsAbsent(err) || envelope.StatusOf(err).Enhanced != "4.4.3" {
			t.Errorf("rcode %d: %v", rcode, err)
		}
		srv.Fail("corp.example", dns.RcodeSuccess)
		if _, err := r.MX(t.Context(), "corp.example"); err != nil {
			t.Errorf("after rcode %d: %v: a failure is not remembered", rcode, err)
		}
	}
}

// A server that does not answer costs one timeout, then it is asked last.
func TestNextServer(t *testing.T) {
	t.Parallel()
	dead, well := testenv.DNS(t), testenv.DNS(t)
	var lines []string
	for i := range 3 {
		dead.Fail(fmt.Sprintf("d%d.example", i), testenv.NoAnswer)
		lines = append(lines, fmt.Sprintf("d%d.example. 300 IN MX 10 mx.example.", i))
	}
	well.Set(t, lines...)
	r := newResolver(t, Config{Servers: []string{dead.Addr, well.Addr}, Timeout: time.Second})
	n := 0
	for i := range 3 {
		name := fmt.Sprintf("d%d.example", i)
		if _, err := r.MX(t.Context(), name); err != nil {
			t.Error(err)
		}
		n += asked(dead, name)
	}
	if n != 1 {
		t.Errorf("the dead server was asked %d times", n)
	}
}

// An answer too long for UDP comes by TCP, and stays within bounds.
func TestLongAnswer(t *testing.T) {
	t.Parallel()
	srv := testenv.DNS(t)
	var lines []string
	for i := range 400 {
		lines = append(lines, fmt.Sprintf("big.example. 300 IN MX %d mx%d.big.example.", i, i))
	}
	srv.Set(t, lines...)
	a, err := newResolver(t, Config{Servers: []string{srv.Addr}}).MX(t.Context(), "big.example")
	if err != nil || len(a.Records) != maxRecords {
		t.Errorf("%d records, %v", len(a.Records), err)
	}
	if n := asked(srv, "big.example"); n != 2 {
		t.Errorf("%d queries, want one by UDP and one by TCP", n)
	}
}

func TestAliasesLeftToUs(t *testing.T) {
	t.Parallel()
	srv := testenv.DNS(t)
	srv.LeaveAliases()
	srv.Set(t, "a.example. 300 IN CNAME b.example.", "b.example. 300 IN CNAME c.example.", "c.example. 300 IN MX 10 mx.example.",
		"loop.example. 300 IN CNAME pool.example.", "pool.example. 300 IN CNAME loop.example.")
	r := newResolver(t, Config{Servers: []string{srv.Addr}})
	a, err := r.MX(t.Context(), "a.example")
	if err != nil || a.Name != "c.example" || len(a.Records) != 1 {
		t.Errorf("got %+v, %v", a, err)
	}
	if _, err := r.MX(t.Context(), "loop.example"); !errors.Is(err, ErrInvalid) {
		t.Errorf("alias loop: %v", err)
	}
}

// What does not match the query is as if it had not come.
func TestHostileAnswers(t *testing.T) {
	t.Parallel()
	good := func(q *dns.Msg) *dns.Msg {
		m := new(dns.Msg)
		m.SetReply(q)
		m.Answer = append(m.Answer, mustRR(t, q.Question[0].Name+" 300 IN MX 10 good.example."))
		return m
	}
	evil := func(q *dns.Msg, change func(*dns.Msg)) []byte {
		m := good(q)
		m.Answer = []dns.RR{mustRR(t, q.Question[0].Name+" 300 IN MX 10 evil.example.")}
		change(m)
		return mustPack(t, m)
	}
	tests := map[string]func(q *dns.Msg) []byte{
		"wrong id":    func(q *dns.Msg) []byte { return evil(q, func(m *dns.Msg) { m.Id++ }) },
		"no response": func(q *dns.Msg) []byte { return evil(q, func(m *dns.Msg) { m.Response = false }) },
		"other name":  func(q *dns.Msg) []byte { return evil(q, func(m *dns.Msg) { m.Question[0].Name = "x." }) },
		"other type":  func(q *dns.Msg) []byte { return evil(q, func(m *dns.Msg) { m.Question[0].Qtype = dns.TypeA }) },
		"other class": func(q *dns.Msg) []byte { return evil(q, func(m *dns.Msg) { m.Question[0].Qclass = dns.ClassCHAOS }) },
		"two questions": func(q *dns.Msg) []byte {
			return evil(q, func(m *dns.Msg) { m.Question = append(m.Question, m.Question[0]) })
		},
		"no question": func(q *dns.Msg) []byte { return evil(q, func(m *dns.Msg) { m.Question = nil }) },
		"broken":      func(q *dns.Msg) []byte { b := evil(q, func(*dns.Msg) {}); return b[:len(b)-3] },
		"short":       func(*dns.Msg) []byte { return []byte{1, 2, 3} },
		"empty":       func(*dns.Msg) []byte { return nil },
		"somebody's record": func(q *dns.Msg) []byte {
			m := good(q)
			m.Answer = append(m.Answer, mustRR(t, "x. 300 IN MX 1 evil.example."))
			return mustPack(t, m)
		},
	}
	for name, bad := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			srv := testenv.DNS(t)
			srv.Answer("corp.example", func(q *dns.Msg, tcp bool) [][]byte { return [][]byte{bad(q), mustPack(t, good(q))} })
			a, err := newResolver(t, Config{Servers: []string{srv.Addr}}).MX(t.Context(), "corp.example")
			if err != nil || !reflect.DeepEqual(a.Records, []MX{{"good.example", 10}}) {
				t.Errorf("got %+v, %v", a, err)
			}
		})
	}
}

// RFC 6891 §7: a server that does not know EDNS is asked without it.
func TestWithoutEDNS(t *testing.T) {
	t.Parallel()
	srv := testenv.DNS(t)
	srv.Answer("old.example", func(q *dns.Msg, _ bool) [][]byte {
		m := new(dns.Msg)
		if q.IsEdns0() != nil {
			m.SetRcode(q, dns.RcodeFormatError)
			m.Question = nil
			return [][]byte{mustPack(t, m)}
		}
		m.SetReply(q)
		m.Answer = append(m.Answer, mustRR(t, "old.example. 300 IN MX 10 mx.old.example."))
		return [][]byte{mustPack(t, m)}
	})
	if _, err := newResolver(t, Config{Servers: []string{srv.Addr}}).MX(t.Context(), "old.example"); err != nil {
		t.Error(err)
	}
}

func TestReadResolvConf(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, text string
		want       Config
	}{
		{"empty", "", Config{Servers: []string{"127.0.0.1"}}},
		{"usual", "# comment\nsearch corp.example\nnameserver 192.0.2.53\nnameserver 2001:db8::53 ; second\noptions edns0 trust-ad timeout:3 attempts:4\n",
			Config{Servers: []string{"192.0.2.53", "2001:db8::53"}, TrustAD: true, Timeout: 3 * time.Second, Attempts: 4}},
		{"bounded", "nameserver nonsense\noptions timeout:9999 attempts:99 timeout:x\n", Config{Servers: []string{"127.0.0.1"}, Timeout: 30 * time.Second, Attempts: 5}},
	}
	for _, tt := range tests {
		got, err := ReadResolvConf(strings.NewReader(tt.text))
		if err != nil || !reflect.DeepEqual(got, tt.want) {
			t.Errorf("%s: got %+v, %v; want %+v", tt.name, got, err, tt.want)
		}
		if err := got.Validate(); err != nil {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
	for _, bad := range []Config{{}, {Servers: []string{"ns.example"}}, {Servers: []string{"192.0.2.1"}, Timeout: -1}} {
		if bad.Validate() == nil {
			t.Errorf("%+v is taken as valid", bad)
		}
	}
}

// FuzzAnswer feeds packets of a hostile server: nothing but host names comes
// out, within the bounds.
func FuzzAnswer(f *testing.F) {
	q := query("corp.example.", dns.TypeMX, true)
	q.Id = 1
	m := new(dns.Msg)
	m.SetReply(q)
	m.Answer = append(m.Answer, mustRR(f, "corp.example. 300 IN CNAME x.example."), mustRR(f, `x.example. 300 IN MX 10 a\000b.example.`), mustRR(f, "x.example. 300 IN MX 10 c.example."))
	m.Ns = append(m.Ns, mustRR(f, ". 60 IN SOA ns.example. h.example. 1 2 3 4 5"))
	f.Add(mustPack(f, m), uint16(dns.TypeMX))
	f.Fuzz(func(t *testing.T, p []byte, qtype uint16) {
		q := query("corp.example.", qtype, true)
		q.Id = 1
		m := reply(q, p)
		if m == nil {
			return
		}
		a := &found{name: "corp.example.", ttl: time.Hour}
		aliases := 0
		a.read(m, qtype, &aliases)
		if a.records() > maxRecords || a.ttl < 0 || a.ttl > time.Hour || aliases > maxAliases+1 {
			t.Errorf("out of bounds: %d records, ttl %v, %d aliases", a.records(), a.ttl, aliases)
		}
		names := a.names
		for _, mx := range a.mx {
			names = append(names, mx.Host)
		}
		for _, n := range names {
			if got, ok := hostName(n); !ok || got != n {
				t.Errorf("%q is no host name", n)
			}
		}
	})
}

func BenchmarkCached(b *testing.B) {
	srv := testenv.DNS(b,
		"corp.example. 300 IN MX 10 mx.corp.example.")
	r, err := New(Config{Servers: []string{srv.Addr}})
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := r.MX(b.Context(), "corp.example"); err != nil {
			b.Fatal(err)
		}
	}
}

// asked returns how often a server was asked about name.
func asked(srv *testenv.DNSServer, name string) int {
	n := 0
	for _, q := range srv.Queries() {
		if strings.HasPrefix(q, name+" ") {
			n++
		}
	}
	return n
}

func mustRR(t testing.TB, s string) dns.RR {
	rr, err := dns.NewRR(s)
	if err != nil {
		t.Fatal(err)
	}
	return rr
}

func mustPack(t testing.TB, m *dns.Msg) []byte {
	p, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	return p
}
