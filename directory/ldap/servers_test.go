package ldap

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-ldap/ldap/v3"
	"github.com/prometheus/client_golang/prometheus"

	"dirpost/directory"
	"dirpost/internal/testenv"
)

// states is how the servers of c are doing, "up down".
func states(c *Client) string {
	var all []string
	for _, s := range c.Servers() {
		all = append(all, s.State.String())
	}
	return strings.Join(all, " ")
}

// await waits until the servers are in these states.
func await(t testing.TB, c *Client, want string) {
	t.Helper()
	for end := time.Now().Add(time.Minute); states(c) != want; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("servers are %s, want %s: %+v", states(c), want, c.Servers())
		}
	}
}

// logBuffer is a log that can be read while it is written.
type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) count(s string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.b.String(), s)
}

func (l *logBuffer) log() *slog.Logger { return slog.New(slog.NewTextHandler(l, nil)) }

// TestFailover: the first server that answers is used; one that fails is put aside
// and used again when it is back, whoever waits for what meanwhile.
func TestFailover(t *testing.T) {
	t.Parallel()
	first, second := testenv.Slapd(t), testenv.Slapd(t)
	cfg := config(t, first)
	cfg.URLs = []string{first.TLSURL, second.TLSURL}
	log := &logBuffer{}
	cfg.Log = log.log()
	c := client(t, cfg)
	metrics := prometheus.NewPedanticRegistry()
	metrics.MustRegister(c.Collectors()...)
	alice := &directory.Entry{Key: "corp:1", DN: "uid=alice,ou=people," + first.Base}
	login := func() {
		t.Helper()
		must(t, c.Verify(t.Context(), alice, first.UserPassword))
		must(t, c.Check(t.Context()))
	}
	server := func() string {
		t.Helper()
		nc, err := c.bind.get(t.Context())
		must(t, err)
		defer c.bind.put(nc, nil)
		return nc.server.url
	}
	login()
	if states(c) != "up untried" {
		t.Errorf("%s", states(c))
	}
	first.Stop()
	login()
	if s := c.Servers(); states(c) != "down up" || s[0].LastError == "" || s[0].Since.IsZero() || s[0].URL != first.TLSURL || s[0].Use != "directory" {
		t.Errorf("%+v", s)
	}
	families, err := metrics.Gather()
	must(t, err)
	if m := families[0].GetMetric(); len(m) != 2 || families[0].GetName() != "dirpost_directory_server_up" || m[0].GetGauge().GetValue()+m[1].GetGauge().GetValue() != 1 {
		t.Errorf("%v", families)
	}
	if server() != second.TLSURL {
		t.Error("logins go to the first server still")
	}
	p := &poller{base: base{client: c}}
	p.at(second.TLSURL)
	if st := p.Status(); len(st.Servers) != 2 || st.Servers[0].Problem == "" || st.Servers[0].Followed || !st.Servers[1].Followed || st.Servers[1].Seen.IsZero() {
		t.Errorf("status %+v", st)
	}
	first.Start(t)
	await(t, c, "up up")
	login()
	if server() != first.TLSURL {
		t.Error("logins go to the second server still")
	}
	if log.count("put aside") != 1 || log.count("answers again") != 1 {
		t.Errorf("log:\n%s", log.b.String())
	}
	second.Stop()
	all, err := c.AskServers(t.Context())
	must(t, err)
	if len(all) != 2 || states(c) != "up down" {
		t.Errorf("%+v", all)
	}
}

// TestRefusedOnce: a password that one server refuses is not shown to the next,
// which would count it too.
func TestRefusedOnce(t *testing.T) {
	t.Parallel()
	first, second := testenv.Slapd(t), testenv.Slapd(t)
	cfg := config(t, first)
	cfg.URLs = []string{first.TLSURL, second.TLSURL}
	c := client(t, cfg)
	var r *directory.Refusal
	if err := c.Verify(t.Context(), &directory.Entry{Key: "corp:1", DN: "uid=alice,ou=people," + first.Base}, "wrong"); !errors.As(err, &r) {
		t.Error(err)
	}
	if states(c) != "up untried" {
		t.Error(states(c))
	}
	cfg.BindPassword = "wrong"
	c = client(t, cfg)
	var setup *SetupError
	if err := c.Check(t.Context()); !errors.As(err, &setup) {
		t.Error(err)
	}
	if states(c) != "up untried" {
		t.Error(states(c))
	}
}

// TestServerHangs: a server that takes connections and never answers to a bind is
// put aside, and the next is used.
func TestServerHangs(t *testing.T) {
	t.Parallel()
	s := testenv.Slapd(t)
	cfg := config(t, s)
	cfg.URLs, cfg.TLS, cfg.ConnectTimeout = []string{"ldap://" + silent(t), s.URL}, tlsNone, 300*time.Millisecond
	c := client(t, cfg)
	must(t, c.Check(t.Context()))
	if states(c) != "down up" {
		t.Error(states(c))
	}
	must(t, c.Verify(t.Context(), &directory.Entry{Key: "corp:1", DN: "uid=alice,ou=people," + s.Base}, s.UserPassword))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := client(t, cfg).Check(ctx); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// scripted is a server that sends answer to whoever connects, and gives what it was
// sent until the client was gone.
func scripted(t testing.TB, answer []byte) (address string, said func() []byte) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	t.Cleanup(func() { _ = l.Close() })
	got := make(chan []byte, 1)
	go func() {
		c, err := l.Accept()
		if err != nil {
			return
		}
		_ = l.Close()
		defer c.Close()
		_, _ = c.Write(answer)
		b, _ := io.ReadAll(c)
		got <- b
	}()
	return l.Addr().String(), func() []byte { return <-got }
}

// extended is an extended response with a result and a diagnostic.
func extended(code byte, text string) []byte {
	return tlv(tagSequence, tlv(tagInteger, []byte{1}), tlv(tagExtendedResponse, tlv(tagEnumerated, []byte{code}), tlv(tagOctets), tlv(tagOctets, []byte(text))))
}

// TestStartTLS: a server that declines, or says what is no answer, gets nothing
// but the question.
func TestStartTLS(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		answer []byte
		want   string
	}{
		{"refused", extended(ldap.LDAPResultUnavailable, "no certificate"), `the server refuses StartTLS (Unavailable, "no certificate")`},
		{"unknown", extended(ldap.LDAPResultProtocolError, ""), "refuses StartTLS (Protocol Error"},
		{"referred", extended(ldap.LDAPResultReferral, ""), "refuses StartTLS (Referral"},
		{"injected", append(extended(0, ""), tlv(tagSequence, tlv(tagInteger, []byte{1}), tlv(0x61, tlv(tagEnumerated, []byte{0}), tlv(tagOctets), tlv(tagOctets)))...), "TLS with 127.0.0.1"},
		{"no LDAP", []byte("220 mail.example ESMTP\r\n"), "StartTLS: answer is no LDAP message"},
		{"no response", tlv(tagSequence, tlv(tagInteger, []byte{1}), tlv(tagSearch)), "StartTLS: answer is no extended response"},
		{"endless", []byte{tagSequence, 0x84, 0x7f, 0xff, 0xff, 0xff}, "StartTLS: answer is no LDAP message"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			address, said := scripted(t, tt.answer)
			c := client(t, Config{Name: "corp", URLs: []string{"ldap://" + address}, Base: "dc=x", BindDN: "cn=mail", BindPassword: "secret word", ConnectTimeout: time.Minute})
			if err := c.Check(t.Context()); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%v, want %q", err, tt.want)
			}
			c.Close()
			if b := said(); bytes.Contains(b, []byte("secret")) || !bytes.Contains(b, []byte(oidStartTLS)) {
				t.Errorf("the server was told %q", b)
			}
		})
	}
}

// TestDiscoverServers: a domain is found by its records, and found anew.
func TestDiscoverServers(t *testing.T) {
	t.Parallel()
	first, second := testenv.Slapd(t), testenv.Slapd(t)
	record := func(s *testenv.SlapdServer, host, priority string) []string {
		ip, port, err := net.SplitHostPort(strings.TrimPrefix(s.URL, "ldap://"))
		must(t, err)
		return []string{"_ldap._tcp.corp.example. 0 IN SRV " + priority + " 0 " + port + " " + host + ".corp.example.", host + ".corp.example. 0 IN A " + ip}
	}
	dns := testenv.DNS(t, append(record(first, "ldap1", "10"), record(second, "ldap2", "20")...)...)
	cfg := config(t, first)
	cfg.URLs, cfg.Discover, cfg.Resolver, cfg.ServerName = nil, "corp.example", resolverFor(t, dns), "localhost"
	c := client(t, cfg)
	if len(c.Servers()) != 0 {
		t.Error("servers are known before the DNS was asked")
	}
	alice := &directory.Entry{Key: "corp:1", DN: "uid=alice,ou=people," + first.Base}
	must(t, c.Verify(t.Context(), alice, first.UserPassword))
	must(t, c.Check(t.Context()))
	if s := c.servers(t.Context()); states(c) != "up untried" || len(s) != 2 || !strings.HasPrefix(s[0].url, "ldap://ldap1.corp.example:") {
		t.Errorf("%+v", c.Servers())
	}
	nc, err := c.dialServiceTo(t.Context(), c.servers(t.Context())[1])
	must(t, err)
	nc.end()

	// The domain moves: what was used is dropped.
	dns.Set(t, record(second, "ldap2", "20")...)
	c.dialer.servers.mu.Lock()
	c.dialer.servers.found = time.Now().Add(-time.Hour)
	c.dialer.servers.mu.Unlock()
	c.servers(t.Context())
	nc, err = c.bind.get(t.Context())
	must(t, err)
	if !strings.HasPrefix(nc.server.url, "ldap://ldap2.") || states(c) != "up" {
		t.Errorf("%s, %+v", nc.server.url, c.Servers())
	}
	c.bind.put(nc, nil)

	// The DNS is away: what is known is used on.
	dns.Set(t)
	c.dialer.servers.mu.Lock()
	c.dialer.servers.found = time.Now().Add(-time.Hour)
	c.dialer.servers.mu.Unlock()
	must(t, c.Verify(t.Context(), alice, first.UserPassword))

	cfg.Discover = "gone.example"
	if err := client(t, cfg).Check(t.Context()); err == nil || !strings.Contains(err.Error(), "neither _ldap._tcp.dc._msdcs.gone.example") {
		t.Error(err)
	}
}

// TestADServers: by Kerberos too, with the domain controllers that were found as
// those who give tickets.
func TestADServers(t *testing.T) {
	t.Parallel()
	s, configs := adConfigs(t)
	dns := testenv.DNS(t, "_ldap._tcp.dc._msdcs.corp.example. 60 IN SRV 0 100 389 "+s.Host+".", s.Host+". 60 IN A "+s.Address)
	for name, tls := range map[string]string{"sealed": tlsStart, "starttls": tlsStart, "ldaps": tlsImplicit} {
		cfg := configs[name]
		cfg.URLs, cfg.ServerName, cfg.Discover, cfg.Resolver, cfg.TLS = nil, "", "corp.example", resolverFor(t, dns), tls
		c := client(t, cfg)
		must(t, c.Check(t.Context()))
		must(t, c.Verify(t.Context(), person(s, "Alice Archer"), s.UserPassword))
		if one := c.Servers()[0]; !one.PDC || one.ReadOnly || one.Site == "" || one.State != ServerUp {
			t.Errorf("%s: %+v", name, c.Servers())
		}
	}
}

// TestReferrals: what lies elsewhere is left there, and nobody who is named in a
// referral hears of us.
func TestReferrals(t *testing.T) {
	t.Parallel()
	s := testenv.Slapd(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer l.Close()
	called := make(chan struct{}, 1)
	go func() {
		if c, err := l.Accept(); err == nil {
			_ = c.Close()
			called <- struct{}{}
		}
	}()
	req := ldap.NewAddRequest("ou=elsewhere,"+s.Base, nil)
	req.Attribute("objectClass", []string{"referral", "extensibleObject"})
	req.Attribute("ou", []string{"elsewhere"})
	req.Attribute("ref", []string{"ldap://" + l.Addr().String() + "/ou=elsewhere," + s.Base})
	must(t, admin(t, s).Add(req))
	for _, follow := range []string{FollowPoll, FollowSyncrepl} {
		cfg := config(t, s)
		log := &logBuffer{}
		cfg.Follow, cfg.Log = follow, log.log()
		c := client(t, cfg)
		for range 2 {
			if len(entries(t, c)) < 5 {
				t.Errorf("%s: people are missing", follow)
			}
		}
		if n := log.count("refers to other servers"); n != 1 {
			t.Errorf("%s: %d lines:\n%s", follow, n, log.b.String())
		}
		cfg.Base = "ou=people,ou=elsewhere," + s.Base
		var setup *SetupError
		if err := client(t, cfg).Check(t.Context()); !errors.As(err, &setup) || !strings.Contains(err.Error(), "refers to other servers, which are not followed") {
			t.Errorf("%s: %v", follow, err)
		}
	}
	select {
	case <-called:
		t.Error("a referral was followed")
	default:
	}
}

// TestADFailover: with two domain controllers of one domain, found by the DNS, the
// preferred one may die at any moment: people are judged by the other, and by the
// first again when it is back. A wrong password is counted once.
func TestADFailover(t *testing.T) {
	t.Parallel()
	p := testenv.ADPair(t)
	s := p.First
	dns := testenv.DNS(t, p.Records...)
	simple := Config{
		Name: "corp", Preset: PresetAD, Discover: "corp.example", Resolver: resolverFor(t, dns), TLS: tlsImplicit, Base: s.Base, CA: s.CA,
		BindDN: s.ServiceDN, BindPassword: s.ServicePass, ConnectTimeout: 10 * time.Second, Timeout: time.Minute,
	}
	sealed := simple
	sealed.TLS, sealed.BindDN, sealed.BindPassword, sealed.Passwords = tlsStart, "", "", PasswordsLDAP
	sealed.Bind, sealed.Principal, sealed.Realm, sealed.Keytab = BindGSSAPI, s.Service, s.Realm, s.Keytab
	clients := map[string]*Client{"ldaps": client(t, simple), "sealed": client(t, sealed)}
	check := func(when string) {
		t.Helper()
		for name, c := range clients {
			if err := c.Check(t.Context()); err != nil {
				t.Errorf("%s: %s: read: %v", when, name, err)
			}
			if err := c.Verify(t.Context(), person(s, "Alice Archer"), s.UserPassword); err != nil {
				t.Errorf("%s: %s: log in: %v", when, name, err)
			}
		}
	}
	check("both are there")
	first := clients["ldaps"].Servers()
	if len(first) != 2 || first[0].Name != "dc1.corp.example" || !first[0].PDC || first[1].PDC || first[0].Site == "" || first[0].State != ServerUp || first[1].State != ServerUntried {
		t.Errorf("%+v", first)
	}
	var r *directory.Refusal
	if err := clients["ldaps"].Verify(t.Context(), person(s, "Bob Baker"), "wrong"); !errors.As(err, &r) {
		t.Error(err)
	}
	if got := states(clients["ldaps"]); got != "up untried" {
		t.Errorf("after a wrong password: %s", got)
	}
	p.Stop(0)
	check("the first is gone")
	if got := states(clients["ldaps"]); got != "down up" {
		t.Errorf("the first is gone: %s", got)
	}
	p.Start(t, 0)
	await(t, clients["ldaps"], "up up")
	await(t, clients["sealed"], "up up up up")
	p.Stop(1)
	check("the second is gone")
}
