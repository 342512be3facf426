package krb5

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"dirpost/directory"
	"dirpost/internal/gssapi"
)

// Config is what an administrator decides about logins by Kerberos.
type Config struct {
	// Outside takes tickets at the outside door too, from people who reach the KDC
	// by a VPN or a proxy of it.
	Outside bool
	// RequireBinding refuses tickets that are not bound to the TLS connection which
	// they come by. Browsers bind theirs; most mail programs do not.
	RequireBinding bool
	// Realms say what the names of a realm are, where the ticket does not certify
	// whose it is.
	Realms []Realm
}

// Realm says who the principals of a realm are in the directory.
type Realm struct {
	Name string // as Kerberos has it, in any case: CORP.EXAMPLE
	// Login makes a login name of a principal: "name" is alice of alice@CORP.EXAMPLE,
	// "upn" is alice@corp.example, "@example.com" is alice@example.com.
	Login string
	// Directory is the one that the entry must be in, by its name in the
	// configuration; "" is any.
	Directory string
}

// The ways to make a login name, see Realm.
const (
	LoginName = "name"
	LoginUPN  = "upn"
)

// Validate reports what is wrong with c, in the words of the configuration.
func (c Config) Validate() error {
	var errs []error
	seen := make(map[string]bool)
	for _, r := range c.Realms {
		name := strings.ToUpper(r.Name)
		switch {
		case name == "" || strings.ContainsAny(name, "@/\\ \t\x00"):
			errs = append(errs, fmt.Errorf("realm: %q is no name of a realm", r.Name))
		case seen[name]:
			errs = append(errs, fmt.Errorf("realm %s: there are two rules for it", r.Name))
		case r.Login != LoginName && r.Login != LoginUPN && (len(r.Login) < 2 || r.Login[0] != '@' || strings.ContainsAny(r.Login[1:], "@/\\ \t\x00")):
			errs = append(errs, fmt.Errorf(`realm %s: login: want "name", "upn" or "@DOMAIN", not %q`, r.Name, r.Login))
		}
		seen[name] = true
	}
	return errors.Join(errs...)
}

// services are the names of our services in Kerberos, by protocol.
var services = map[string]string{"imap": "imap", "pop3": "pop", "smtp": "smtp", "managesieve": "sieve", "http": "HTTP"}

// Acceptor judges tickets with the keys of this system.
type Acceptor struct {
	cfg Config
	gss gssapi.Acceptor

	mu      sync.Mutex // guards keytabs, held while keys are set
	keytabs map[string][]byte
}

// New returns an Acceptor without keys.
func New(cfg Config) *Acceptor {
	return &Acceptor{cfg: cfg, keytabs: make(map[string][]byte)}
}

// Outside reports whether tickets are taken from everywhere.
func (a *Acceptor) Outside() bool { return a.cfg.Outside }

// SetKeytab takes the keys of one source: the file of the configuration (""), or the
// account of a directory, by its name. An empty keytab takes them away. Keys of
// before are dropped: a keytab that changes has the old ones in it for as long as
// tickets live.
func (a *Acceptor) SetKeytab(source string, keytab []byte) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	next := maps.Clone(a.keytabs)
	if next[source] = keytab; len(keytab) == 0 {
		delete(next, source)
	}
	if err := a.gss.SetKeys(slices.Collect(maps.Values(next))...); err != nil {
		return fmt.Errorf("keytab: %w", err)
	}
	a.keytabs = next
	return nil
}

// Offers reports whether a ticket could be taken for a protocol, as auth.Conn names
// it: there is a key, and what it may have to be bound to is known.
func (a *Acceptor) Offers(protocol string, c Channel) bool {
	service, ok := services[protocol]
	return ok && a.gss.Has(service) && (!a.cfg.RequireBinding || c.State != nil && c.Certificate != nil)
}

// A Channel is the TLS connection that a client comes by, as auth.Conn has it. Without
// Certificate, what a ticket is bound to is not looked at.
type Channel struct {
	State       *tls.ConnectionState
	Certificate *x509.Certificate // that the client was shown
	// Negotiation is what Negotiate knows of the connection from one request to the
	// next; nil: one request must do.
	Negotiation *gssapi.Negotiation
}

// door is what a client may ask for on a connection.
func (a *Acceptor) door(protocol string, c Channel) gssapi.Door {
	return gssapi.Door{
		Service: services[protocol], RequireBinding: a.cfg.RequireBinding,
		Bindings: gssapi.ChannelBindings(c.State, c.Certificate),
	}
}

// Negotiate judges what an HTTP client over TLS has put into Authorization (RFC 4559
// §4.2), such as "Negotiate YII…". reply is the value of WWW-Authenticate for the
// response. peer is nil, and err too, as long as the client has to go on: the response
// is then 401 with reply. Errors are ErrMalformed or a *[gssapi.TokenError]; the response
// is then 401, with "Negotiate" alone.
func (a *Acceptor) Negotiate(authorization string, c Channel) (peer *gssapi.Peer, reply string, err error) {
	scheme, text, _ := strings.Cut(authorization, " ")
	if !strings.EqualFold(scheme, "Negotiate") || len(text) > base64.StdEncoding.EncodedLen(gssapi.MaxToken) {
		return nil, "", ErrMalformed
	}
	token, err := base64.StdEncoding.DecodeString(strings.TrimSpace(text))
	if err != nil {
		return nil, "", ErrMalformed // the cause would quote the token
	}
	n := c.Negotiation
	if n == nil {
		n = new(gssapi.Negotiation)
	}
	x, answer, err := a.gss.Negotiate(n, token, a.door("http", c))
	if err != nil {
		return nil, "", err
	}
	reply = "Negotiate"
	if len(answer) > 0 {
		reply += " " + base64.StdEncoding.EncodeToString(answer)
	}
	if x == nil {
		return nil, reply, nil
	}
	return &x.Peer, reply, nil
}

// ErrUnknown reports a ticket that is good, of somebody who is nobody in the
// directory.
var ErrUnknown = errors.New("nobody in the directory is the owner of the ticket")

// Entry returns whose a ticket is: who has the SID that the domain has certified,
// else who has the login name that the rule for the realm makes. The error is an
// ErrUnknown that says what was looked for.
func (a *Acceptor) Entry(s *directory.Snapshot, p *gssapi.Peer) (*directory.Entry, error) {
	if e := s.BySID(p.SID); e != nil {
		return e, nil
	}
	i := slices.IndexFunc(a.cfg.Realms, func(r Realm) bool { return strings.EqualFold(r.Name, p.Realm) })
	if i < 0 {
		if p.SID != "" {
			return nil, fmt.Errorf("%w: no entry has the SID %s of %s", ErrUnknown, p.SID, p)
		}
		return nil, fmt.Errorf("%w: the ticket of %s does not say its SID, and no [[auth.kerberos.realm]] says what the names of %s are", ErrUnknown, p, p.Realm)
	}
	return a.cfg.Realms[i].entry(s, p)
}

// entry finds a person by the name of a principal.
func (r Realm) entry(s *directory.Snapshot, p *gssapi.Peer) (*directory.Entry, error) {
	unknown := func(why string) (*directory.Entry, error) {
		return nil, fmt.Errorf("%w: %s %s", ErrUnknown, p, why)
	}
	switch {
	case p.Unchecked:
		return unknown("comes by realms that its KDC has not checked, which could have made up the name")
	// Names of several parts are those of hosts and second accounts. What looks like
	// a login name with a domain could become another person's.
	case p.Principal == "" || strings.ContainsAny(p.Principal, `/@\`):
		return unknown("is not the name of a person")
	// In Kerberos Alice is another one than alice.
	case directory.FoldLogin(p.Principal) != p.Principal:
		return unknown("is not written as login names are, in lower case")
	}
	login := p.Principal
	switch r.Login {
	case LoginName:
	case LoginUPN:
		login += "@" + strings.ToLower(p.Realm)
	default:
		login += r.Login
	}
	e := s.ByLogin(login)
	switch {
	case e == nil || r.Directory != "" && e.Directory != r.Directory:
		return unknown("would be " + login + ", which nobody is")
	case p.SID != "" && e.SID != "" && e.SID != p.SID:
		return unknown("would be " + login + ", who has another SID")
	}
	return e, nil
}
