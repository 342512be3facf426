package testenv

import (
	"crypto/tls"
	"crypto/x509"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	ber "github.com/go-asn1-ber/asn1-ber"
)

// LDAPBehaviour is what an LDAPProxy makes of the server behind it. The zero value
// changes nothing.
type LDAPBehaviour struct {
	// MaxPageSize is how many entries a search gives that asks for no pages, and
	// how many a page has: more are answered with sizeLimitExceeded.
	MaxPageSize int
	// MaxValRange is how many values of an attribute are given at once, under a
	// name such as member;range=0-1499.
	MaxValRange int
	// MaxNotifications is how many notifications one connection may watch; the
	// next is answered with adminLimitExceeded.
	MaxNotifications int
	// GlobalCatalog leaves out what is not in it without Exchange's schema:
	// proxyAddresses, and the members of groups that are not universal.
	GlobalCatalog bool
	// References are added to each search of a subtree (RFC 4511 §4.5.3).
	References []string
	// Referral answers each search below a base other than the root DSE with
	// result code 10 and this URL.
	Referral string
	// BindResult, if not 0, is the result code of every bind that the server
	// would have judged. The server is not asked.
	BindResult int
	// Delay is waited before each message to the client.
	Delay time.Duration
	// Value, if set, replaces the values of entries.
	Value func(dn, attribute string, value []byte) []byte
	// Heard, if set, is called with each message of a client, by several connections
	// at once.
	Heard func(message []byte)
	// BreakAt, if not 0, is the how many-th entry of a connection is sent half.
	// Then the connection is closed, or with Silent left as it is.
	BreakAt int
	Silent  bool
}

// WindowsBehaviour is what Windows does and Samba does not, with Windows' defaults
// (MS-ADTS §3.1.1.3.4.6).
func WindowsBehaviour() LDAPBehaviour {
	return LDAPBehaviour{MaxPageSize: 1000, MaxValRange: 1500, MaxNotifications: 5}
}

// LDAPProxy stands before an LDAP server and understands what passes, which comes
// by TLS and goes on by TLS.
type LDAPProxy struct {
	URL  string // ldaps://, for which CA has signed a certificate for Host
	CA   string // PEM
	Host string

	target string
	tls    *tls.Config // to the server

	mu        sync.Mutex // guards what follows
	behaviour LDAPBehaviour
	binds     int
	conns     map[net.Conn]struct{}
}

// ProxyLDAP starts a proxy before the server at an ldaps:// URL, whose certificate
// is for host and signed by the authority in ca (PEM). It ends with the test.
func ProxyLDAP(t testing.TB, url, host, ca string, b LDAPBehaviour) *LDAPProxy {
	t.Helper()
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM([]byte(ca)) {
		t.Fatal("no certificate of the authority")
	}
	target := strings.TrimPrefix(url, "ldaps://")
	if _, _, err := net.SplitHostPort(target); err != nil {
		target = net.JoinHostPort(target, "636")
	}
	own, err := authority()
	if err != nil {
		t.Fatal(err)
	}
	cert := Certificate(t, host)
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{cert.TLS}})
	if err != nil {
		t.Fatal(err)
	}
	p := &LDAPProxy{
		URL: "ldaps://" + l.Addr().String(), CA: string(own.PEM()), Host: host, target: target,
		tls: &tls.Config{RootCAs: roots, ServerName: host}, behaviour: b, conns: map[net.Conn]struct{}{},
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { p.serve(c) })
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		p.HangUp()
		wg.Wait()
	})
	return p
}

// Set changes what the proxy does, from the next message on.
func (p *LDAPProxy) Set(b LDAPBehaviour) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.behaviour = b
}

func (p *LDAPProxy) now() LDAPBehaviour {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.behaviour
}

// Binds returns how many binds with a password clients have sent.
func (p *LDAPProxy) Binds() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.binds
}

// HangUp closes all connections.
func (p *LDAPProxy) HangUp() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.conns {
		_ = c.Close()
	}
}

func (p *LDAPProxy) serve(client net.Conn) {
	server, err := tls.Dial("tcp", p.target, p.tls)
	if err != nil {
		_ = client.Close()
		return // as if the port were closed
	}
	p.mu.Lock()
	p.conns[client], p.conns[server] = struct{}{}, struct{}{}
	p.mu.Unlock()
	s := &proxySession{proxy: p, client: client, server: server, searches: map[int64]*proxySearch{}}
	var wg sync.WaitGroup
	wg.Go(func() { s.requests(); _ = server.Close() })
	wg.Go(func() {
		if s.answers() {
			_ = client.Close()
		}
	})
	wg.Wait()
	_ = client.Close()
	p.mu.Lock()
	delete(p.conns, client)
	delete(p.conns, server)
	p.mu.Unlock()
}

// proxySession is one connection through the proxy.
type proxySession struct {
	proxy          *LDAPProxy
	client, server net.Conn
	write          sync.Mutex // held while something is sent to the client

	mu       sync.Mutex // guards what follows
	searches map[int64]*proxySearch
	watches  int
	entries  int // sent to the client
}

// proxySearch is a search that is under way.
type proxySearch struct {
	paged, dirsync, subtree bool
	hideType                bool // the client has not asked for groupType
	entries                 int
}

// The operations and controls that the proxy knows (RFC 4511 §4.1, MS-ADTS
// §3.1.1.3.4.1).
const (
	opBindRequest  = 0
	opBindResponse = 1
	opSearch       = 3
	opEntry        = 4
	opDone         = 5
	opReference    = 19

	controlPaging       = "1.2.840.113556.1.4.319"
	controlDirSync      = "1.2.840.113556.1.4.841"
	controlNotification = "1.2.840.113556.1.4.528"
)

// requests passes on what the client says, until one side is gone.
func (s *proxySession) requests() {
	for {
		m, err := ber.ReadPacket(s.client)
		if err != nil || len(m.Children) < 2 {
			return
		}
		id, _ := m.Children[0].Value.(int64)
		op := m.Children[1]
		b := s.proxy.now()
		if b.Heard != nil {
			b.Heard(m.Bytes())
		}
		switch {
		case op.ClassType != ber.ClassApplication:
		case op.Tag == opBindRequest:
			s.proxy.mu.Lock()
			s.proxy.binds++
			s.proxy.mu.Unlock()
			if b.BindResult != 0 {
				s.send(result(id, opBindResponse, b.BindResult, "as the test wants it"), b)
				continue
			}
		case op.Tag == opSearch && len(op.Children) >= 8:
			if m = s.search(id, m, b); m == nil {
				continue
			}
		}
		if _, err := s.server.Write(m.Bytes()); err != nil {
			return
		}
	}
}

// search takes note of a search and returns it as it goes to the server, nil if
// the proxy has answered it.
func (s *proxySession) search(id int64, m *ber.Packet, b LDAPBehaviour) *ber.Packet {
	op := m.Children[1]
	base := text(op.Children[0])
	if b.Referral != "" && base != "" {
		done := result(id, opDone, 10, "it is elsewhere")
		urls := ber.Encode(ber.ClassContext, ber.TypeConstructed, 3, nil, "referral")
		urls.AppendChild(octets(b.Referral))
		s.send(rebuild(done, 1, append(done.Children[1].Children, urls)...), b)
		return nil
	}
	scope, _ := op.Children[1].Value.(int64)
	q := &proxySearch{subtree: scope == 2}
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, oid := range controls(m) {
		switch oid {
		case controlPaging:
			q.paged = true
			if b.MaxPageSize > 0 {
				m = limitPages(m, i, b.MaxPageSize)
			}
		case controlDirSync:
			q.dirsync = true
		case controlNotification:
			if s.watches++; b.MaxNotifications > 0 && s.watches > b.MaxNotifications {
				s.send(result(id, opDone, 11, "MaxNotificationPerConn reached"), b)
				return nil
			}
		}
	}
	s.searches[id] = q
	if b.GlobalCatalog && len(op.Children[7].Children) > 0 && !asks(op.Children[7], "groupType") {
		q.hideType = true
		attributes := append(op.Children[7].Children[:len(op.Children[7].Children):len(op.Children[7].Children)], octets("groupType"))
		list := ber.Encode(ber.ClassUniversal, ber.TypeConstructed, ber.TagSequence, nil, "attributes")
		for _, a := range attributes {
			list.AppendChild(a)
		}
		m = rebuild(m, 1, append(op.Children[:7:7], list)...)
	}
	return m
}

// answers passes on what the server says. It reports whether the connection shall
// be closed.
func (s *proxySession) answers() (end bool) {
	for {
		m, err := ber.ReadPacket(s.server)
		if err != nil || len(m.Children) < 2 {
			return true
		}
		id, _ := m.Children[0].Value.(int64)
		op, b := m.Children[1], s.proxy.now()
		s.mu.Lock()
		q := s.searches[id]
		s.mu.Unlock()
		if q == nil || op.ClassType != ber.ClassApplication {
			s.send(m, b)
			continue
		}
		switch op.Tag {
		case opEntry:
			q.entries++
			if !q.paged && !q.dirsync && b.MaxPageSize > 0 && q.entries > b.MaxPageSize {
				continue
			}
			m = limitEntry(m, q, b)
			s.entries++
			if b.BreakAt > 0 && s.entries == b.BreakAt {
				raw := m.Bytes()
				_, _ = s.client.Write(raw[:len(raw)/2])
				return !b.Silent
			}
		case opDone:
			if q.subtree {
				for _, url := range b.References {
					s.send(message(id, reference(url)), b)
				}
			}
			if !q.paged && !q.dirsync && b.MaxPageSize > 0 && q.entries > b.MaxPageSize {
				m = result(id, opDone, 4, "")
			}
			s.mu.Lock()
			delete(s.searches, id)
			s.mu.Unlock()
		}
		s.send(m, b)
	}
}

func (s *proxySession) send(m *ber.Packet, b LDAPBehaviour) {
	s.write.Lock()
	defer s.write.Unlock()
	time.Sleep(b.Delay)
	_, _ = s.client.Write(m.Bytes()) // who is gone needs no answer
}
