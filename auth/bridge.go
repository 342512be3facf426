package auth

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"strings"
	"sync"
	"time"

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

// Bridge turns credentials into identities, for every protocol alike.
type Bridge struct {
	cfg       Config
	live      *directory.Live
	verifiers map[string]Verifier
	events    event.Sink
	guesses   Guesses
	memory    *memory
	now       func() time.Time

	mu      sync.Mutex // guards watches
	watches map[directory.Key]map[*watch]struct{}
}

// New returns a Bridge. verifiers judge the passwords of the people of each
// directory, by its name in the configuration.
func New(cfg Config, live *directory.Live, verifiers map[string]Verifier, events event.Sink) *Bridge {
	cfg = cfg.withDefaults()
	b := &Bridge{
		cfg:       cfg,
		live:      live,
		verifiers: verifiers,
		events:    events,
		memory:    newMemory(cfg.RememberMax),
		now:       time.Now,
		watches:   map[directory.Key]map[*watch]struct{}{},
	}
	b.guesses = newClientGuesses(cfg.GuessBurst, cfg.GuessEvery)
	live.Watch(b.changed)
	return b
}

// Mechanisms returns the SASL mechanisms that would work now on c, the better
// first; none in clear, unless c comes from this host and Config allows it.
func (b *Bridge) Mechanisms(c Conn) []string {
	if !b.secure(c) {
		return nil
	}
	return sasl.Mechanisms()
}

func (b *Bridge) secure(c Conn) bool {
	return c.TLS || b.cfg.PlaintextLoopback && c.Client.Unmap().IsLoopback()
}

// Start begins an exchange by a mechanism in any case. It returns ErrPolicy
// where the mechanism would need TLS, ErrMechanism for an unknown one.
func (b *Bridge) Start(ctx context.Context, c Conn, mech string) (Exchange, error) {
	x := &exchange{b: b, c: c, mech: strings.ToUpper(mech)}
	if x.server = sasl.NewServer(x.mech, x.authenticate); x.server == nil {
		return nil, ErrMechanism
	}
	if !b.secure(c) {
		b.emit(ctx, c, &attempt{mech: x.mech, reason: "policy"}, ErrPolicy)
		return nil, ErrPolicy
	}
	return x, nil
}

// exchange runs one mechanism of package sasl.
type exchange struct {
	b      *Bridge
	c      Conn
	mech   string
	server *sasl.Server
	id     *Identity
	// ctx is that of the Next which is running: the interface of the mechanisms
	// has none.
	ctx context.Context
}

// Next implements Exchange.
func (x *exchange) Next(ctx context.Context, response []byte) (challenge []byte, done bool, err error) {
	x.ctx = ctx
	defer func() { x.ctx = nil }()
	challenge, done, err = x.server.Next(response)
	if errors.Is(err, sasl.ErrMalformed) {
		return nil, false, envelope.Because(ErrMalformed.Status, err)
	}
	return challenge, done && err == nil, err
}

// Identity implements Exchange.
func (x *exchange) Identity() *Identity { return x.id }

func (x *exchange) authenticate(authzid, authcid, pass string) (err error) {
	x.id, err = x.b.login(x.ctx, x.c, &attempt{mech: x.mech, authzid: authzid, authcid: authcid, pass: password(pass)})
	return err
}

// Login judges a name and a password outside of SASL: IMAP LOGIN, POP3
// USER/PASS, HTTP. Errors are those of this package, or temporary.
func (b *Bridge) Login(ctx context.Context, c Conn, user, pass string) (*Identity, error) {
	a := &attempt{mech: "LOGIN", authcid: user, pass: password(pass)}
	if c.Protocol == "pop3" {
		a.mech = "USER"
	}
	if !b.secure(c) {
		a.reason = "policy"
		b.emit(ctx, c, a, ErrPolicy)
		return nil, ErrPolicy
	}
	return b.login(ctx, c, a)
}

// attempt is one login and what was found out about it, for the audit.
type attempt struct {
	mech, authzid, authcid string
	pass                   password

	start  time.Time
	entry  *directory.Entry
	reason string // class, for the audit only
	how    string // "bind", "memory", or "" when the directory was not asked
}

// login decides and, when it refuses, keeps the answer until FailureTime has
// passed since the credentials came, or the next multiple of it where a
// directory was slower than that. A success leaves at once.
func (b *Bridge) login(ctx context.Context, c Conn, a *attempt) (*Identity, error) {
	a.start = b.now()
	id, err := b.decide(ctx, c, a)
	b.emit(ctx, c, a, err)
	if err == nil {
		return id, nil
	}
	answer := time.NewTimer(b.cfg.FailureTime - b.now().Sub(a.start)%b.cfg.FailureTime)
	defer answer.Stop()
	select {
	case <-answer.C:
	case <-ctx.Done():
	}
	return nil, err
}

// decide is the whole of a login but its time and its audit.
func (b *Bridge) decide(ctx context.Context, c Conn, a *attempt) (*Identity, error) {
	if a.authcid == "" || a.pass == "" {
		a.reason = "empty"
		return nil, ErrCredentials
	}
	s := b.live.Snapshot()
	e := s.ByLogin(a.authcid)
	if e == nil && s.Stale() {
		a.reason = "directory"
		return nil, envelope.Because(envelope.StatusAuthAway, directory.ErrStale)
	}
	if e == nil || e.Kind != directory.KindPerson || !s.Keeps(e) {
		a.reason = "unknown"
		if e != nil {
			a.reason = "no mailbox"
		}
		b.guesses.Failed(ctx, c.Client, "")
		return nil, ErrCredentials
	}
	a.entry = e
	if err := b.judge(ctx, c, a, e); err != nil {
		return nil, err
	}
	if err := b.admit(c, a, e, s); err != nil {
		return nil, err
	}
	return &Identity{Person: e.Key, Address: e.Primary, Name: e.DisplayName, Authcid: a.authcid, Mechanism: a.mech}, nil
}

// judge asks whether the password is that of e: of the memory, else of the
// directory.
func (b *Bridge) judge(ctx context.Context, c Conn, a *attempt, e *directory.Entry) error {
	now := b.now()
	// Whether a lockout is over only the directory knows.
	locked := e.LoginState(now) == directory.StateLocked
	if b.cfg.Remember > 0 && !locked && b.memory.has(e, a.pass, now) {
		a.how = "memory"
		return nil
	}
	if !b.guesses.Allow(ctx, c.Client, e.Key) {
		a.reason = "throttled"
		return ErrCredentials
	}
	v := b.verifiers[e.Directory]
	if v == nil {
		a.reason = "directory"
		return envelope.Because(envelope.StatusAuthAway, errors.New("no directory "+e.Directory+" to judge passwords"))
	}
	a.how = "bind"
	ctx, cancel := context.WithTimeout(ctx, b.cfg.BindTimeout)
	defer cancel()
	err := v.Verify(ctx, e, string(a.pass))
	var refusal *directory.Refusal
	switch {
	case err == nil:
		if b.cfg.Remember > 0 && !locked {
			b.memory.add(e, a.pass, now.Add(b.cfg.Remember))
		}
		return nil
	case errors.As(err, &refusal):
		a.reason = refusal.Reason.String()
		if !refusal.Right {
			b.guesses.Failed(ctx, c.Client, e.Key)
			return envelope.Because(ErrCredentials.Status, refusal)
		}
		return envelope.Because(answerTo(refusal.Reason).Status, refusal)
	default:
		a.reason = "directory"
		return envelope.Because(envelope.StatusAuthAway, err)
	}
}

// answerTo is what somebody is told who knows the password.
func answerTo(r directory.Reason) *envelope.Error {
	switch r {
	case directory.ReasonPasswordExpired, directory.ReasonMustChange:
		return ErrExpired
	case directory.ReasonDisabled, directory.ReasonExpired:
		return ErrDisabled
	case directory.ReasonHours, directory.ReasonWorkstation:
		return ErrAuthorization
	}
	return ErrCredentials
}

// admit asks what is left when the password was right: the state of the
// account where the directory does not enforce it at the bind, the protocol,
// and on whose behalf.
func (b *Bridge) admit(c Conn, a *attempt, e *directory.Entry, s *directory.Snapshot) error {
	switch state := e.LoginState(b.now()); state {
	case directory.StateDisabled, directory.StateGrace:
		a.reason = "disabled"
		return ErrDisabled
	case directory.StateExpired:
		a.reason = "expired"
		return ErrDisabled
	case directory.StateMustChange:
		a.reason = "must-change"
		return ErrExpired
	}
	limits := s.Limits(e)
	if limits.NoLogin {
		a.reason = "policy"
		return ErrDisabled
	}
	if !limits.MayUseService(service(c.Protocol)) {
		a.reason = "service"
		return ErrAuthorization
	}
	if a.authzid != "" {
		if as := s.ByLogin(a.authzid); as == nil || as.Key != e.Key {
			a.reason = "authzid"
			return ErrAuthorization
		}
	}
	return nil
}

// service is the name of a protocol among the services of an entry.
func service(protocol string) string {
	switch protocol {
	case "smtp":
		return "submission"
	case "managesieve":
		return "sieve"
	}
	return protocol
}

// emit writes the one audit line of a login. A temporary failure is ours, and
// somebody should look.
func (b *Bridge) emit(ctx context.Context, c Conn, a *attempt, err error) {
	e := event.Event{Level: slog.LevelInfo, Room: "auth", Msg: "login", Trace: c.Session, Attrs: []slog.Attr{
		slog.String("session", c.Session),
		slog.String("client", c.Client.String()),
		slog.String("protocol", c.Protocol),
		slog.Bool("tls", c.TLS),
		slog.String("mech", a.mech),
		slog.String("authcid", shorten(a.authcid)),
	}}
	if a.entry != nil {
		e.Attrs = append(e.Attrs, slog.String("user", a.entry.Primary.String()), slog.String("person", string(a.entry.Key)))
	}
	if a.how != "" {
		e.Attrs = append(e.Attrs, slog.String("how", a.how))
	}
	if !a.start.IsZero() {
		e.Attrs = append(e.Attrs, slog.Int64("ms", b.now().Sub(a.start).Milliseconds()))
	}
	if err != nil {
		st := envelope.StatusOf(err)
		e.Msg = "login refused"
		if st.IsTemporary() {
			e.Level = slog.LevelWarn
		}
		e.Attrs = append(e.Attrs, slog.Int("code", st.Code), slog.String("reason", a.reason), slog.Any("err", err))
	}
	b.events.Emit(ctx, e)
}

// shorten bounds what a stranger can write into the log.
func shorten(s string) string {
	const most = 128
	if len(s) > most {
		return strings.ToValidUTF8(s[:most], "") + "…"
	}
	return s
}
