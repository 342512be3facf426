package autoconfig

import (
	"cmp"
	"crypto/tls"
	"encoding/xml"
	"errors"
	"net/http"
	"net/netip"
	"slices"
	"strings"

	"dirpost/directory"
	"dirpost/internal/envelope"
)

// Server is one server that a client may use.
type Server struct {
	Protocol string // "imap", "pop3" or "submission"
	Port     int
	Implicit bool // TLS from the first octet (RFC 8314 §3), else STARTTLS
}

// Config is what is told about the house.
type Config struct {
	Organisation string   // as people know it, for the account's name
	Hostname     string   // of every server
	HTTPSPort    int      // where Autodiscover is; 0 is 443
	Servers      []Server // in order of preference
	Methods      []Method // in order of preference; nil: AllMethods
	OAuth        OAuth    // how an app gets a token; the zero value: nothing is told
}

// Method is a way to log in, by what proves who somebody is.
type Method string

// The ways to log in.
const (
	Password    Method = "password"    // of the domain or of the app, within TLS
	Ticket      Method = "ticket"      // of Kerberos
	Token       Method = "token"       // of an issuer (OAuth)
	Certificate Method = "certificate" // of the client
)

// AllMethods are all ways to log in, the one first that works for everybody: a client
// takes the first one that it knows, and does not come back for another.
func AllMethods() []Method { return []Method{Password, Ticket, Token, Certificate} }

// OAuth is what a mail program needs to get a token by itself. It is a public client
// (RFC 6749 §2.1): everybody is told this.
type OAuth struct {
	Authorization string // the authorization endpoint, an https URL
	Token         string // the token endpoint, an https URL
	ClientID      string
	Scope         []string
}

// IsZero reports whether nothing is to be told.
func (o OAuth) IsZero() bool { return o.ClientID == "" }

// Deps are what a Service looks at.
type Deps struct {
	Live *directory.Live
	// Mechanisms are the SASL mechanisms that a client at an address may use for a
	// protocol of auth.Conn, over TLS.
	Mechanisms func(client netip.Addr, protocol string) []string
	// Certificate signs profiles: that of the server, which devices trust already.
	// It has its Leaf.
	Certificate func() *tls.Certificate
}

// Service answers the questions of mail clients.
type Service struct {
	config Config
	deps   Deps
}

// New returns a Service.
func New(c Config, d Deps) *Service {
	if c.Methods == nil {
		c.Methods = AllMethods()
	}
	return &Service{c, d}
}

// Mux is where pages are mounted: one of package web.
type Mux func(pattern string, h http.Handler)

// Mount mounts everything on HTTPS, and what clients look for there on HTTP.
func (s *Service) Mount(secure, plain Mux) {
	for _, mux := range []Mux{secure, plain} {
		mux("GET /mail/config-v1.1.xml", http.HandlerFunc(s.thunderbird))
		mux("GET /.well-known/autoconfig/mail/config-v1.1.xml", http.HandlerFunc(s.thunderbird))
	}
	// Clients differ in how they write the path.
	for _, path := range []string{"/autodiscover/autodiscover.xml", "/Autodiscover/Autodiscover.xml", "/AutoDiscover/AutoDiscover.xml", "/Autodiscover/autodiscover.xml"} {
		secure("POST "+path, http.HandlerFunc(s.outlook))
		secure("GET "+path, http.HandlerFunc(s.outlook))
		plain("GET "+path, http.HandlerFunc(s.outlookRedirect))
	}
	for _, path := range []string{"/autodiscover/autodiscover.json", "/Autodiscover/Autodiscover.json"} {
		secure("GET "+path, http.HandlerFunc(s.outlookJSON))
		secure("GET "+path+"/v1.0/{address}", http.HandlerFunc(s.outlookJSON))
	}
	secure("GET /apple.mobileconfig", http.HandlerFunc(s.apple))
	if !s.config.OAuth.IsZero() {
		secure("GET /thunderbird.xpi", http.HandlerFunc(s.thunderbirdAddOn))
	}
}

// ErrAddress reports a question about something that is no address of a domain of
// ours.
var ErrAddress = errors.New("no address of this server")

// account is what a client is to be told about an address.
type account struct {
	address envelope.Address
	login   string
	methods map[string][]string // SASL mechanisms by protocol
}

// account finds out about an address that a client at remote asks for.
func (s *Service) account(address, remote string) (account, error) {
	a, err := envelope.ParseAddress(address)
	if err != nil || !s.deps.Live.Snapshot().IsLocalDomain(a.Domain) {
		return account{}, ErrAddress
	}
	acc := account{address: a, login: s.login(a), methods: make(map[string][]string)}
	client, _ := netip.ParseAddrPort(remote) // without one nothing is offered inside only
	for protocol, as := range map[string]string{"imap": "imap", "pop3": "pop3", "submission": "smtp"} {
		acc.methods[protocol] = s.deps.Mechanisms(client.Addr().Unmap(), as)
	}
	return acc, nil
}

// login is the name to log in with for an address: the address itself where the
// directory takes it for whose it is, else the primary address, else another of the
// person's names. A name that nobody may use, since others have it too, is none.
func (s *Service) login(a envelope.Address) string {
	snapshot := s.deps.Live.Snapshot()
	e := snapshot.Resolve(a).Entry
	if e == nil || e.Kind != directory.KindPerson {
		return a.String()
	}
	names := []string{a.String()}
	if !e.Primary.IsZero() {
		names = append(names, e.Primary.String())
	}
	others := slices.Clone(e.Logins)
	slices.SortStableFunc(others, func(a, b string) int { return cmp.Compare(familiar(a), familiar(b)) })
	for _, name := range append(names, others...) {
		if who := snapshot.ByLogin(name); who != nil && who.Key == e.Key {
			return name
		}
	}
	return a.String()
}

// familiar orders the forms of login names, those first that people know: like an
// address (userPrincipalName), one word (uid, sAMAccountName), DOMAIN\user.
func familiar(name string) int {
	switch {
	case strings.Contains(name, `\`):
		return 2
	case strings.Contains(name, "@"):
		return 0
	}
	return 1
}

// may reports whether one of the mechanisms is offered for a protocol.
func (a *account) may(protocol string, mechanisms ...string) bool {
	return slices.ContainsFunc(mechanisms, func(m string) bool { return slices.Contains(a.methods[protocol], m) })
}

// writeXML answers with v.
func writeXML(w http.ResponseWriter, v any) {
	text, err := xml.MarshalIndent(v, "", "  ")
	if err != nil { // of types of this package
		http.Error(w, "cannot write the answer", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/xml; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	_, _ = w.Write(append([]byte(xml.Header), text...)) // the client has left
}
