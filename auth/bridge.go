package auth

import (
	"context"
	"errors"
	"net/netip"
	"strings"
	"sync"
	"time"

	"dirpost/auth/apppassword"
	"dirpost/auth/certificate"
	"dirpost/auth/krb5"
	"dirpost/auth/oauth"
	"dirpost/auth/permit"
	"dirpost/auth/replay"
	"dirpost/auth/sasl"
	"dirpost/directory"
	"dirpost/internal/envelope"
	"dirpost/internal/event"
)

// Guesses decides whether a client may have one more password judged, and
// learns which were wrong. This node's memory implements it; a counter shared
// by all nodes can stand in its place.
type Guesses interface {
	// Allow reports whether a bind for person may be tried for client now.
	Allow(ctx context.Context, client netip.Addr, person directory.Key) bool
	// Failed records a wrong password, or a person that does not exist (key "").
	Failed(ctx context.Context, client netip.Addr, person directory.Key)
}

// Parts are what a Bridge judges proofs with, beside the directory snapshot. What
// is nil is off, and so are the mechanisms that need it.
type Parts struct {
	// Verifiers judge the passwords of the people of each directory, by its name in
	// the configuration.
	Verifiers map[string]Verifier
	// Tickets judges Kerberos tickets.
	Tickets *krb5.Acceptor
	// Replays remembers which tickets other nodes have taken; nil: each goes by its own
	// memory.
	Replays *replay.Store
	// AppPasswords are the passwords that we issue.
	AppPasswords *apppassword.Store
	// Permits are taken before a password goes to a directory, so that guesses lock
	// nobody out there. nil: only this node's memory stands before it.
	Permits *permit.Counter
	// Tokens judges the access tokens of issuers that are trusted.
	Tokens *oauth.Verifier
	// Certificates finds the people of client certificates.
	Certificates *certificate.Mapper
}

// Bridge turns credentials into identities, for every protocol alike.
type Bridge struct {
	cfg        Config
	live       *directory.Live
	parts      Parts
	mechanisms []mechanism
	events     event.Sink
	guesses    Guesses
	memory     *memory
	metrics    metrics
	now        func() time.Time

	mu      sync.Mutex // guards what follows
	watches map[directory.Key]map[*watch]struct{}
	// behalf is how many watches are of sessions that somebody else has.
	behalf int
}

// New returns a Bridge for the people of live.
func New(cfg Config, live *directory.Live, parts Parts, events event.Sink) *Bridge {
	cfg = cfg.withDefaults()
	b := &Bridge{
		cfg:        cfg,
		live:       live,
		parts:      parts,
		mechanisms: mechanisms(),
		events:     events,
		memory:     newMemory(cfg.RememberMax),
		metrics:    newMetrics(),
		now:        time.Now,
		watches:    map[directory.Key]map[*watch]struct{}{},
	}
	b.guesses = permit.NewClients(cfg.GuessBurst, cfg.GuessEvery)
	if parts.Permits != nil {
		b.guesses = parts.Permits
	}
	live.Watch(b.changed)
	if parts.AppPasswords != nil {
		parts.AppPasswords.Follow(b)
	}
	return b
}

// Mechanisms returns the SASL mechanisms that would work now on c, the better
// first; none in clear, unless c comes from this host and Config allows it.
func (b *Bridge) Mechanisms(c Conn) []string {
	if !b.secure(c) {
		return nil
	}
	var names []string
	for i := range b.mechanisms {
		if m := &b.mechanisms[i]; m.offered(b, c) {
			names = append(names, m.name)
		}
	}
	return names
}

// secure reports whether secrets may be sent on c.
func (b *Bridge) secure(c Conn) bool {
	return c.TLS || b.cfg.PlaintextLoopback && c.Client.Unmap().IsLoopback()
}

// Start begins an exchange by a mechanism in any case. It returns ErrPolicy
// where the mechanism would need TLS, ErrMechanism for one that is unknown or
// would not work on c.
func (b *Bridge) Start(ctx context.Context, c Conn, mech string) (Exchange, error) {
	m := b.mechanism(strings.ToUpper(mech))
	if m == nil {
		return nil, ErrMechanism
	}
	if !b.secure(c) {
		b.emit(ctx, c, &attempt{mech: m.name, reason: "policy"}, ErrPolicy)
		return nil, ErrPolicy
	}
	a := &attempt{mech: m.name}
	if !m.offered(b, c) {
		if m.name == sasl.External && c.State != nil && len(c.State.PeerCertificates) > 0 {
			b.strangeCertificate(ctx, c, a)
		}
		return nil, ErrMechanism
	}
	return &exchange{b: b, c: c, a: a, server: m.start(b, c, a)}, nil
}

// exchange runs one mechanism to its end, which is enter.
type exchange struct {
	b      *Bridge
	c      Conn
	a      *attempt
	server server
	over   bool
	id     *Identity
	// refused is how the exchange ends once the client has answered the challenge
	// that told it why.
	refused error
}

// Next implements Exchange.
func (x *exchange) Next(ctx context.Context, response []byte) (challenge []byte, done bool, err error) {
	if x.over {
		return nil, false, ErrMalformed
	}
	if x.refused != nil {
		x.over = true
		return nil, false, x.refused
	}
	x.a.start = x.b.now()
	if len(response) > sasl.MaxResponse {
		err = sasl.ErrMalformed
	} else {
		challenge, done, err = x.server.Next(ctx, response)
	}
	if err == nil && !done {
		return challenge, false, nil
	}
	x.over = true
	if errors.Is(err, sasl.ErrMalformed) {
		x.a.reason = "malformed"
		err = envelope.Because(ErrMalformed.Status, err)
	}
	why, tells := challenge, err != nil && challenge != nil
	if x.id, err = x.b.enter(ctx, x.c, x.a, err); err != nil {
		if tells {
			x.over, x.refused = false, err
			return why, false, nil
		}
		return nil, false, err
	}
	return challenge, true, nil
}

// Identity implements Exchange.
func (x *exchange) Identity() *Identity { return x.id }

// Login judges a name and a password outside of SASL: IMAP LOGIN, POP3
// USER/PASS, HTTP. Errors are those of this package, or temporary.
func (b *Bridge) Login(ctx context.Context, c Conn, user, pass string) (*Identity, error) {
	a := &attempt{mech: "LOGIN", authcid: user, pass: password(pass), start: b.now()}
	if c.Protocol == "pop3" {
		a.mech = "USER"
	}
	if !b.secure(c) {
		a.reason = "policy"
		b.emit(ctx, c, a, ErrPolicy)
		return nil, ErrPolicy
	}
	return b.enter(ctx, c, a, b.password(ctx, c, a))
}
