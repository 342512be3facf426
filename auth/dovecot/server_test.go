package dovecot

import (
	"bufio"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"dirpost/auth"
	"dirpost/directory"
	"dirpost/internal/envelope"
	"dirpost/internal/event"
)

// verifier is a directory in which every password is "right".
type verifier struct{ wait chan struct{} }

func (v verifier) Verify(ctx context.Context, e *directory.Entry, password string) error {
	switch e.Logins[0] {
	case "away":
		return errors.New("connection refused")
	case "slow":
		select {
		case <-v.wait:
		case <-ctx.Done():
			return ctx.Err()
		}
	case "bug":
		panic("bug")
	}
	if password != "right" {
		return &directory.Refusal{Reason: directory.ReasonPassword}
	}
	if e.Logins[0] == "mia" {
		return &directory.Refusal{Reason: directory.ReasonMustChange, Right: true}
	}
	return nil
}

// audit keeps the lines of logins.
type audit struct {
	mu    sync.Mutex // guards lines
	lines []string
}

func (a *audit) Emit(_ context.Context, e event.Event) {
	line := e.Msg
	for _, attr := range e.Attrs {
		line += " " + attr.String()
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.lines = append(a.lines, line)
}

func (a *audit) all() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return strings.Join(a.lines, "\n")
}

func newServer(t *testing.T, c Config) (*Server, *audit, verifier) {
	t.Helper()
	var people []*directory.Entry
	for _, uid := range []string{"alice", "dave", "mia", "away", "slow", "bug", "reader"} {
		e := &directory.Entry{
			Key: directory.Key("corp:" + uid), Directory: "corp", DN: "uid=" + uid + ",dc=x", Kind: directory.KindPerson,
			Primary: envelope.Address{Local: uid, Domain: "corp.example"}, Logins: []string{uid},
		}
		switch uid {
		case "dave":
			e.Login = directory.StateDisabled
		case "reader":
			e.Services = []string{"imap"}
		}
		people = append(people, e)
	}
	live := directory.NewLive(directory.NewSnapshot([]string{"corp.example"}, people))
	log, v := &audit{}, verifier{make(chan struct{})}
	b := auth.New(auth.Config{FailureTime: 50 * time.Millisecond}, live, auth.Parts{Verifiers: map[string]auth.Verifier{"corp": v}}, log)
	s, err := New(c, Deps{Bridge: b, Log: slog.New(slog.DiscardHandler), Mechanisms: func() []string {
		return b.Mechanisms(auth.Conn{Protocol: "smtp", TLS: true})
	}})
	if err != nil {
		t.Fatal(err)
	}
	return s, log, v
}

// peer is the other program.
type peer struct {
	t  *testing.T
	nc net.Conn
	r  *bufio.Reader
}

// connect begins a conversation, with the handshake of a client of version 1.minor.
func connect(t *testing.T, s *Server, minor int) *peer {
	t.Helper()
	client, server := net.Pipe()
	ctx, cancel := context.WithCancel(context.Background())
	over := make(chan struct{})
	go func() { defer close(over); s.ServeConn(ctx, server) }()
	t.Cleanup(func() { client.Close(); cancel(); <-over })
	p := &peer{t, client, bufio.NewReader(client)}
	p.expect("VERSION\t1\t2")
	p.expect("MECH\tPLAIN\tplaintext")
	p.expect("MECH\tLOGIN\tplaintext")
	for _, verb := range []string{"SPID\t", "CUID\t", "COOKIE\t"} {
		if line := p.line(); !strings.HasPrefix(line, verb) {
			t.Fatalf("%q, want %s", line, verb)
		}
	}
	p.expect("DONE")
	p.say("VERSION\t1\t%d\nCPID\t4711", minor)
	return p
}

func (p *peer) say(format string, args ...any) {
	p.t.Helper()
	if _, err := fmt.Fprintf(p.nc, format+"\n", args...); err != nil {
		p.t.Fatal(err)
	}
}

func (p *peer) line() string {
	p.t.Helper()
	line, err := p.r.ReadString('\n')
	if err != nil {
		p.t.Fatalf("read %q: %v", line, err)
	}
	return strings.TrimSuffix(line, "\n")
}

func (p *peer) expect(want string) {
	p.t.Helper()
	if got := p.line(); got != want {
		p.t.Errorf("got  %q\nwant %q", got, want)
	}
}

// closed says that the connection must end without another word.
func (p *peer) closed() {
	p.t.Helper()
	if rest, err := io.ReadAll(p.r); len(rest) > 0 || err != nil && !errors.Is(err, syscall.ECONNRESET) {
		p.t.Errorf("before the end: %q, %v", rest, err)
	}
}

func plain(user, password string) string {
	return base64.StdEncoding.EncodeToString([]byte("\x00" + user + "\x00" + password))
}

const params = "service=smtp\tnologin\tlip=192.0.2.1\trip=192.0.2.7\tsecured"

func TestLogins(t *testing.T) {
	t.Parallel()
	s, log, _ := newServer(t, Config{})
	p := connect(t, s, 2)
	neutral := "FAIL\t%d\treason=Authentication credentials invalid"
	for i, tt := range []struct{ user, password, params, want string }{
		{"alice", "right", params, "OK\t%d\tuser=alice@corp.example"},
		{"ALICE", "right", params, "OK\t%d\tuser=alice@corp.example"},
		{"alice", "wrong", params, neutral},
		{"nobody", "right", params, neutral},
		{"dave", "wrong", params, neutral},
		{"dave", "right", params, "FAIL\t%d\tuser_disabled\tcode=user_disabled\treason=Account disabled, ask your administrator"},
		{"mia", "right", params, "FAIL\t%d\tpass_expired\tcode=pass_expired\treason=Password expired, change it first"},
		{"reader", "right", params, "FAIL\t%d\tauthz\tcode=authz_fail\treason=Not authorized"},
		{"away", "right", params, "FAIL\t%d\ttemp\tcode=temp_fail\treason=Temporary authentication failure"},
		{"bug", "right", params, "FAIL\t%d\ttemp\tcode=temp_fail\treason=Temporary local problem, please try again later"},
		{"alice", "right", "service=smtp\trip=192.0.2.7", "FAIL\t%d\tcode=auth_mech_ssl_required\treason=Encryption required for authentication"},
		{"alice", "right", "service=xmpp\tsecured", "FAIL\t%d\tauthz\tcode=authz_fail\treason=Not authorized"},
	} {
		p.say("AUTH\t%d\tPLAIN\t%s\tresp=%s", i+1, tt.params, plain(tt.user, tt.password))
		p.expect(fmt.Sprintf(tt.want, i+1))
	}
	p.say("AUTH\t100\tCRAM-MD5\t%s", params)
	p.expect("FAIL\t100\tcode=auth_mech_invalid\treason=Unrecognized authentication type")
	p.say("AUTH\t101\tPLAIN\t%s\tresp=%s", params, base64.StdEncoding.EncodeToString([]byte("alice")))
	p.expect("FAIL\t101\treason=Cannot read the response")

	// Exchanges in several steps, and two at once.
	p.say("AUTH\t200\tLOGIN\t%s", params)
	p.expect("CONT\t200\tVXNlcm5hbWU6")
	p.say("AUTH\t201\tplain\t%s", params)
	p.expect("CONT\t201\t")
	p.say("CONT\t200\tYWxpY2U=")
	p.expect("CONT\t200\tUGFzc3dvcmQ6")
	p.say("CONT\t201\t%s", plain("alice", "right"))
	p.expect("OK\t201\tuser=alice@corp.example")
	p.say("CONT\t200\tcmlnaHQ=")
	p.expect("OK\t200\tuser=alice@corp.example")
	p.say("CONT\t200\tcmlnaHQ=")
	p.expect("FAIL\t200\treason=Authentication timed out")

	all := log.all()
	for _, want := range []string{"login session=", "client=192.0.2.7", "protocol=smtp tls=true", "mech=LOGIN authcid=alice"} {
		if !strings.Contains(all, want) {
			t.Errorf("no %q in the audit:\n%s", want, all)
		}
	}
	if strings.Contains(all, "right") || strings.Contains(all, "wrong") {
		t.Errorf("a password in the audit:\n%s", all)
	}
}

// To Postfix and Exim a temporary failure is the end of the connection: FAIL would
// be a wrong password to them.
func TestTemporaryForOlderClients(t *testing.T) {
	t.Parallel()
	s, _, _ := newServer(t, Config{})
	p := connect(t, s, 0)
	p.say("AUTH\t1\tPLAIN\t%s\tresp=%s", params, plain("away", "right"))
	p.closed()
	p = connect(t, s, 1)
	p.say("AUTH\t1\tPLAIN\t%s\tresp=%s", params, plain("alice", "wrong"))
	p.expect("FAIL\t1\treason=Authentication credentials invalid")
}

func TestConfig(t *testing.T) {
	t.Parallel()
	s, _, _ := newServer(t, Config{Services: []string{"xmpp"}, AssumeSecured: true, LoginName: true})
	p := connect(t, s, 2)
	p.say("AUTH\t1\tPLAIN\tservice=xmpp\tresp=%s", plain("Alice", "right"))
	p.expect("OK\t1\tuser=Alice")
	p.say("AUTH\t2\tPLAIN\tservice=smtp\tresp=%s", plain("alice", "right"))
	p.expect("FAIL\t2\tauthz\tcode=authz_fail\treason=Not authorized")

	s, _, _ = newServer(t, Config{Mechanisms: []string{"PLAIN"}})
	if got := s.offered(); len(got) != 1 || got[0] != "PLAIN" {
		t.Errorf("offered %v", got)
	}
	for _, bad := range []Config{{MaxConnections: -1}, {Services: []string{""}}, {Mechanisms: []string{""}}} {
		if _, err := New(bad, Deps{}); err == nil {
			t.Errorf("%+v is valid", bad)
		}
	}
}

// proofOfServer is a mechanism with data of the server at the end, as SCRAM has.
type proofOfServer struct{ auth.Exchange }

func (proofOfServer) Next(context.Context, []byte) ([]byte, bool, error) {
	return []byte("v=proof"), true, nil
}

func (proofOfServer) Identity() *auth.Identity { return &auth.Identity{Authcid: "alice"} }

type proofBridge struct{}

func (proofBridge) Start(context.Context, auth.Conn, string) (auth.Exchange, error) {
	return proofOfServer{}, nil
}

// Data of the server come with OK to a client that takes them there, and before it,
// to be acknowledged, to others (RFC 4422 §3.7).
func TestFinalData(t *testing.T) {
	t.Parallel()
	s, _, _ := newServer(t, Config{})
	s.deps.Bridge = proofBridge{}
	p := connect(t, s, 1)
	p.say("AUTH\t1\tSCRAM-SHA-256\t%s\tresp=YQ==", params)
	p.expect("CONT\t1\tdj1wcm9vZg==")
	p.say("CONT\t1\t")
	p.expect("OK\t1\tuser=alice")
	p.say("AUTH\t2\tSCRAM-SHA-256\t%s\tfinal-resp-ok\tresp=YQ==", params)
	p.expect("OK\t2\tuser=alice\tresp=dj1wcm9vZg==")
}

// A slow judgement keeps nobody waiting, and can be cancelled.
func TestConcurrent(t *testing.T) {
	t.Parallel()
	s, _, v := newServer(t, Config{})
	p := connect(t, s, 2)
	p.say("AUTH\t1\tPLAIN\t%s\tresp=%s", params, plain("slow", "right"))
	p.say("AUTH\t2\tPLAIN\t%s\tresp=%s", params, plain("slow", "right"))
	p.say("AUTH\t3\tPLAIN\t%s\tresp=%s", params, plain("alice", "right"))
	p.expect("OK\t3\tuser=alice@corp.example")
	p.say("CANCEL\t1")
	p.say("CANCEL\t99")
	p.say("AUTH\t1\tPLAIN\t%s\tresp=%s", params, plain("alice", "right")) // its id is free again
	p.expect("OK\t1\tuser=alice@corp.example")
	close(v.wait)
	p.expect("OK\t2\tuser=slow@corp.example")
}

// Exchanges that clients have left in the middle make room for others, and a
// program that asks for too much at once is told to wait.
func TestHalfFinished(t *testing.T) {
	t.Parallel()
	s, _, v := newServer(t, Config{MaxRequests: 10})
	p := connect(t, s, 2)
	for i := range 1000 {
		p.say("AUTH\t%d\tLOGIN\t%s", i, params)
		p.expect(fmt.Sprintf("CONT\t%d\tVXNlcm5hbWU6", i))
	}
	p.say("CONT\t0\tYWxpY2U=")
	p.expect("FAIL\t0\treason=Authentication timed out")
	p.say("CONT\t999\tYWxpY2U=")
	p.expect("CONT\t999\tUGFzc3dvcmQ6")
	p.say("CANCEL\t999")
	for i := range 11 {
		p.say("AUTH\t%d\tPLAIN\t%s\tresp=%s", 2000+i, params, plain("slow", "right"))
	}
	p.expect("FAIL\t2010\ttemp\tcode=temp_fail\treason=System busy, please try again later")
	close(v.wait)
	for range 10 {
		if line := p.line(); !strings.HasPrefix(line, "OK\t200") {
			t.Errorf("got %q", line)
		}
	}
}

func TestSilentClients(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, _, _ := newServer(t, Config{})
		p := connect(t, s, 2)
		p.say("AUTH\t1\tLOGIN\t%s", params)
		p.expect("CONT\t1\tVXNlcm5hbWU6")
		time.Sleep(exchangeTime + time.Second)
		p.say("CONT\t1\tYWxpY2U=")
		p.expect("FAIL\t1\treason=Authentication timed out")
		time.Sleep(24 * time.Hour) // an idle connection stays
		p.say("AUTH\t2\tPLAIN\t%s\tresp=%s", params, plain("alice", "right"))
		p.expect("OK\t2\tuser=alice@corp.example")

		// One that does not read.
		start := time.Now()
		p.say("AUTH\t3\tPLAIN\t%s\tresp=%s", params, plain("alice", "right"))
		if _, err := io.ReadAll(timeLater{p.nc, writeTime + time.Second}); err != nil {
			t.Error(err)
		}
		if d := time.Since(start); d > 2*writeTime {
			t.Errorf("given up after %v", d)
		}

		// One that does not begin.
		client, server := net.Pipe()
		defer client.Close()
		go s.ServeConn(t.Context(), server)
		start = time.Now()
		if _, err := io.ReadAll(client); err != nil {
			t.Error(err)
		}
		if d := time.Since(start); d != handshakeTime {
			t.Errorf("without a handshake it ended after %v", d)
		}
	})
}

// timeLater reads after some time.
type timeLater struct {
	io.Reader
	d time.Duration
}

func (r timeLater) Read(p []byte) (int, error) {
	time.Sleep(r.d)
	return r.Reader.Read(p)
}

func TestHostile(t *testing.T) {
	t.Parallel()
	s, _, _ := newServer(t, Config{MaxConnections: 2})
	for name, lines := range map[string]string{
		"no command":         "HELLO",
		"handshake again":    "VERSION\t1\t1",
		"an id twice":        "AUTH\t1\tPLAIN\t" + params + "\nCONT\t1\tYQ==\nAUTH\t2\tLOGIN\t" + params + "\nAUTH\t2\tLOGIN\t" + params,
		"bad base64":         "AUTH\t1\tPLAIN\tresp=?",
		"a line without end": strings.Repeat("A", maxLine+2),
	} {
		t.Run(name, func(t *testing.T) {
			p := connect(t, s, 2)
			go func() { _, _ = io.WriteString(p.nc, lines+"\n") }() // the server may hang up before
			for {
				if _, err := p.r.ReadString('\n'); err != nil {
					if err != io.EOF {
						t.Error(err)
					}
					return
				}
			}
		})
	}
	t.Run("other version", func(t *testing.T) {
		client, server := net.Pipe()
		go s.ServeConn(t.Context(), server)
		go func() { _, _ = io.WriteString(client, "VERSION\t2\t0\nCPID\t1\n") }()
		if b, err := io.ReadAll(client); err != nil || !strings.Contains(string(b), "DONE") {
			t.Errorf("%q, %v", b, err)
		}
	})
	t.Run("too many connections", func(t *testing.T) {
		connect(t, s, 2)
		connect(t, s, 2)
		client, server := net.Pipe()
		go s.ServeConn(t.Context(), server)
		if b, err := io.ReadAll(client); err != nil || len(b) > 0 {
			t.Errorf("%q, %v", b, err)
		}
	})
}

// Serve ends with its context, whatever clients do.
func TestServe(t *testing.T) {
	t.Parallel()
	s, _, _ := newServer(t, Config{})
	l, err := net.Listen("unix", t.TempDir()+"/auth")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	over := make(chan error, 1)
	go func() { over <- s.Serve(ctx, l) }()
	nc, err := net.Dial("unix", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	p := &peer{t, nc, bufio.NewReader(nc)}
	for p.line() != "DONE" {
	}
	p.say("VERSION\t1\t2\nCPID\t1\nAUTH\t1\tPLAIN\t%s\tresp=%s", params, plain("slow", "right"))
	cancel()
	if err := <-over; err != nil {
		t.Error(err)
	}
	p.closed()
}
