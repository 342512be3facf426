package smtpd

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	"dirpost/auth"
	"dirpost/internal/envelope"
	"dirpost/internal/testenv"
	"dirpost/mta/policy"
)

// accepted is a message that a recorder has committed.
type accepted struct {
	client  envelope.Client
	id      *auth.Identity
	env     envelope.Envelope
	content string
	junk    string
}

// recorder is a Door that keeps what comes in. It knows the domain corp.example:
// nobody@ does not exist there, busy@ cannot be looked up now.
type recorder struct {
	discard bool // do not keep content
	forget  bool // do not keep messages
	panics  bool // panic@corp.example is a bug of ours

	mu       sync.Mutex // guards the rest
	messages []accepted
	open     int // transactions neither committed nor aborted
	octets   int64
}

func (r *recorder) Start(c *envelope.Client, id *auth.Identity, env envelope.Envelope) (Transaction, error) {
	if a, ok := env.ReversePath.Address(); ok && id != nil && a.Domain != "corp.example" {
		return nil, envelope.Because(envelope.StatusNotYours, nil)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.open++
	return &recording{to: r, msg: accepted{client: *c, id: id, env: env}}, nil
}

func (r *recorder) count() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.messages)
}

func (r *recorder) all() []accepted {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.messages)
}

func (r *recorder) unfinished() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.open
}

// recording is a transaction of a recorder.
type recording struct {
	to    *recorder
	msg   accepted
	body  bytes.Buffer
	size  int64
	begun bool
	done  bool
}

func (t *recording) AddRecipient(_ context.Context, r envelope.Recipient) error {
	a := r.Address
	switch {
	case a.Domain != "corp.example" && t.msg.id == nil:
		return envelope.Because(envelope.StatusRelay, nil)
	case a.Key() == "nobody@corp.example":
		return envelope.ErrNotFound
	case a.Key() == "busy@corp.example":
		return envelope.Because(envelope.StatusDirectory, errors.New("ldap: server is down"))
	case a.Key() == "panic@corp.example" && t.to.panics:
		panic("a bug")
	}
	t.msg.env.Recipients = append(t.msg.env.Recipients, r)
	return nil
}

func (t *recording) Recipients() int { return len(t.msg.env.Recipients) }

func (t *recording) Begin(context.Context) { t.begun = true }

func (t *recording) Write(p []byte) (int, error) {
	if !t.begun || t.done {
		panic("content outside of a transaction")
	}
	t.size += int64(len(p))
	if !t.to.discard {
		t.body.Write(p)
	}
	return len(p), nil
}

func (t *recording) MarkJunk(reason string) { t.msg.junk = reason }

func (t *recording) QueueID() envelope.QueueID { return 1 }

func (t *recording) Commit(context.Context) error {
	if t.done {
		panic("commit of a finished transaction")
	}
	t.finish()
	if strings.Contains(t.body.String(), "Subject: full disk") {
		return envelope.Because(envelope.StatusDiskFull, errors.New("disk full"))
	}
	t.to.mu.Lock()
	defer t.to.mu.Unlock()
	t.to.octets += t.size
	if t.to.forget {
		return nil
	}
	t.msg.content = t.body.String()
	t.to.messages = append(t.to.messages, t.msg)
	return nil
}

func (t *recording) Abort() { t.finish() }

func (t *recording) finish() {
	if t.done {
		return
	}
	t.done = true
	t.to.mu.Lock()
	defer t.to.mu.Unlock()
	t.to.open--
}

// gate is an Authenticator with one person, alice, whose password is "secret".
// PLAIN and LOGIN need TLS unless clear is set. ECHO wants "a" repeated and ends
// with data of the server, as SCRAM does.
type gate struct {
	clear bool

	mu      sync.Mutex // guards the rest
	watched func(reason string)
	conn    auth.Conn // of the last Start
}

func (g *gate) Mechanisms(c auth.Conn) []string {
	if !c.TLS && !g.clear {
		return nil
	}
	return []string{"PLAIN", "LOGIN", "ECHO"}
}

func (g *gate) Start(_ context.Context, c auth.Conn, mech string) (auth.Exchange, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.conn = c
	return &exchange{mech: mech}, nil
}

func (g *gate) Watch(_ *auth.Identity, f func(string)) func() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.watched = f
	return func() {}
}

func (g *gate) revoke() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.watched("disabled")
}

type exchange struct {
	mech  string
	steps []string
}

func (e *exchange) Next(_ context.Context, response []byte) ([]byte, bool, error) {
	if response != nil {
		e.steps = append(e.steps, string(response))
	}
	switch {
	case e.mech == "ECHO" && len(e.steps) == 0:
		return []byte("a"), false, nil
	case e.mech == "ECHO":
		if e.steps[0] != "a" {
			return nil, false, envelope.Because(envelope.StatusCredentials, nil)
		}
		return []byte("verified"), true, nil
	case e.mech == "PLAIN" && len(e.steps) == 0:
		return []byte{}, false, nil
	case e.mech == "LOGIN" && len(e.steps) < 2:
		return []byte([]string{"Username:", "Password:"}[len(e.steps)]), false, nil
	}
	who := strings.Join(e.steps, "\x00")
	switch strings.TrimPrefix(who, "\x00") {
	case "alice\x00secret":
		return nil, true, nil
	case "alice\x00away":
		return nil, false, envelope.Because(envelope.StatusAuthAway, errors.New("ldap: server is down"))
	}
	return nil, false, envelope.Because(envelope.StatusCredentials, nil)
}

func (e *exchange) Identity() *auth.Identity {
	return &auth.Identity{Person: "main:1", Address: envelope.Address{Local: "alice", Domain: "corp.example"}, Authcid: "alice", Mechanism: e.mech}
}

// server is a Server with what stands around it.
type server struct {
	*Server
	door *recorder
	gate *gate
	cert testenv.Cert
}

// newServer returns a server for tests: no tarpit, no early-talker check, since a
// pipe has none. set may change anything before it is made.
func newServer(t testing.TB, role Role, set func(*Config, *Deps)) *server {
	t.Helper()
	s := &server{door: &recorder{panics: true}, gate: &gate{}, cert: testenv.Certificate(t, "mx.corp.example", "localhost", "127.0.0.1")}
	cfg := DefaultConfig(role, "mx.corp.example")
	cfg.ErrorDelay, cfg.PostmasterDomain = 0, "corp.example"
	deps := Deps{
		Door: s.door, Auth: s.gate, Log: slog.New(slog.DiscardHandler),
		TLS: &tls.Config{Certificates: []tls.Certificate{s.cert.TLS}, MinVersion: tls.VersionTLS12},
	}
	if set != nil {
		set(&cfg, &deps)
	}
	srv, err := New(cfg, deps)
	if err != nil {
		t.Fatal(err)
	}
	s.Server = srv
	return s
}

func (s *server) clientTLS() *tls.Config {
	return &tls.Config{RootCAs: s.cert.Pool, ServerName: "mx.corp.example"}
}

// pipe connects a client to s. The test ends only when the server is done with
// the connection.
func (s *server) pipe(t testing.TB) net.Conn {
	t.Helper()
	client, srv := net.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.ServeConn(context.WithoutCancel(t.Context()), srv)
	}()
	t.Cleanup(func() {
		client.Close()
		<-done
	})
	return client
}

// listen serves s on a loopback port until the test is over, and returns the
// address.
func (s *server) listen(t testing.TB) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx, ln) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	return ln.Addr().String()
}

// check does a "do" line of a dialogue: mostly it looks at what has arrived.
func (s *server) check(text string) error {
	word, arg, _ := strings.Cut(text, " ")
	switch word {
	case "accepted":
		if got := fmt.Sprint(s.door.count()); got != arg {
			return fmt.Errorf("%s messages were accepted, not %s", got, arg)
		}
		return nil
	case "envelope", "content", "protocol", "junk":
		all := s.door.all()
		if len(all) == 0 {
			return errors.New("no message was accepted")
		}
		m := all[len(all)-1]
		got := m.client.Protocol
		switch word {
		case "junk":
			got = m.junk
		case "envelope":
			got = describe(m.env)
		case "content":
			got = fmt.Sprintf("%q", m.content)
		}
		if got != arg {
			return fmt.Errorf("%s is\n%s, not\n%s", word, got, arg)
		}
		return nil
	case "revoke":
		s.gate.revoke()
		return nil
	case "shutdown":
		s.interrupt(errShutdown)
		return nil
	}
	return errors.New("unknown")
}

// describe writes an envelope as one line.
func describe(env envelope.Envelope) string {
	var b strings.Builder
	fmt.Fprintf(&b, "<%s>", env.ReversePath)
	for _, w := range []struct {
		set  bool
		text string
	}{
		{env.Body == envelope.Body8BitMIME, "8bit"}, {env.SMTPUTF8, "utf8"}, {env.Return == envelope.ReturnFull, "full"},
		{env.Return == envelope.ReturnHeaders, "headers"}, {env.EnvID != "", "id=" + env.EnvID}, {env.Size != 0, fmt.Sprint("size=", env.Size)},
	} {
		if w.set {
			b.WriteString(" " + w.text)
		}
	}
	for _, r := range env.Recipients {
		fmt.Fprintf(&b, " <%s>", r.Address)
		if r.Notify != 0 {
			fmt.Fprintf(&b, " notify=%d", r.Notify)
		}
		if r.Original != "" {
			fmt.Fprintf(&b, " was=%s;%s", r.OriginalType, r.Original)
		}
	}
	return b.String()
}

// given applies a "given" line of a dialogue.
func given(text string, role *Role, sets *[]func(*Config, *Deps)) error {
	words := strings.Fields(text)
	set := func(f func(*Config, *Deps)) error { *sets = append(*sets, f); return nil }
	n := 0
	if len(words) > 1 {
		if _, err := fmt.Sscan(words[1], &n); err != nil {
			return err
		}
	}
	switch words[0] {
	case "msa":
		*role = MSA
		return nil
	case "clear-auth":
		return set(func(_ *Config, d *Deps) { d.Auth.(*gate).clear = true })
	case "no-tls":
		return set(func(_ *Config, d *Deps) { d.TLS = nil })
	case "impatient":
		return set(func(c *Config, _ *Deps) { c.Impatient = true })
	case "size":
		return set(func(c *Config, _ *Deps) { c.MaxSize = int64(n) })
	case "line":
		return set(func(c *Config, _ *Deps) { c.MaxContentLine = n })
	case "recipients":
		return set(func(c *Config, _ *Deps) { c.MaxRecipients = n })
	case "messages":
		return set(func(c *Config, _ *Deps) { c.MaxMessages = n })
	case "errors":
		return set(func(c *Config, _ *Deps) { c.HardErrors = n })
	case "idle":
		return set(func(c *Config, _ *Deps) { c.MaxIdle = n })
	case "policy":
		return set(func(_ *Config, d *Deps) {
			cfg := policy.DefaultConfig()
			cfg.MaxHops, cfg.Exempt, cfg.OwnNames = 3, nil, []string{"mx.corp.example"}
			cfg.SenderSyntax = policy.ModeReject
			d.Policy = policy.New(append(cfg.Checks(), policyNamed{})...)
		})
	}
	return errors.New("unknown")
}

// policyNamed is a check that refuses by name at each stage.
type policyNamed struct{}

func (policyNamed) Name() string { return "named" }

func (policyNamed) Stages() []policy.Stage {
	return []policy.Stage{policy.Helo, policy.Mail, policy.Rcpt, policy.Data, policy.Content}
}

func (policyNamed) Check(_ context.Context, s policy.Stage, f *policy.Facts) policy.Verdict {
	refuse := policy.Verdict{Action: policy.Reject, Status: envelope.StatusRefused, Reason: "as asked"}
	a, _ := f.ReversePath.Address()
	switch {
	case s == policy.Helo && f.Client.Helo == "refused.example",
		s == policy.Mail && a.Local == "refused",
		s == policy.Rcpt && f.Recipient.Local == "refused",
		s == policy.Data && a.Local == "no-data",
		s == policy.Content && a.Local == "no-content":
		return refuse
	case s == policy.Rcpt && f.Recipient.Local == "junk":
		return policy.Verdict{Action: policy.Junk, Reason: "as asked"}
	}
	return policy.Verdict{}
}

// pipeListener is a net.Listener of pipes, for virtual time.
type pipeListener struct {
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
}

func newPipeListener() *pipeListener {
	return &pipeListener{conns: make(chan net.Conn), done: make(chan struct{})}
}

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

func (l *pipeListener) Close() error {
	l.once.Do(func() { close(l.done) })
	return nil
}

func (l *pipeListener) Addr() net.Addr { return &net.UnixAddr{Name: "pipe"} }

func (l *pipeListener) dial(t testing.TB) *talk {
	client, srv := net.Pipe()
	l.conns <- srv
	t.Cleanup(func() { client.Close() })
	return &talk{t, client, newReader(client)}
}

func newReader(nc net.Conn) *bufio.Reader { return bufio.NewReaderSize(nc, 64<<10) }

func readFile(t testing.TB, name string) string {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
