package remote

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"time"

	"dirpost/mta/queue"
	"dirpost/mta/route"

	"github.com/emersion/go-sasl"
)

// session is one connection to one hop. After any error of the connection it is
// dead: closed, and neither read nor written again.
type session struct {
	config   *Config
	hop      route.Hop
	raw      net.Conn // what close closes
	conn     net.Conn // raw, or TLS over it
	r        *bufio.Reader
	w        *bufio.Writer
	ext      extensions
	secure   bool // TLS is on
	dead     bool
	messages int  // transactions so far
	tainted  bool // a transaction was left open: RSET before the next
}

// extensions are what EHLO said, as far as we use it.
type extensions struct {
	pipelining, startTLS, eightBit, smtpUTF8, dsn bool
	hasSize                                       bool
	size                                          int64 // 0: no fixed limit (RFC 1870 §4)
	auth                                          []string
	maxRecipients                                 int // of LIMITS, 0 unknown
}

// trouble is why a hop cannot be used.
type trouble struct {
	reply queue.Reply
	// inTLS says that a handshake failed: without TLS it may go well.
	inTLS bool
	cause error
}

func (t *trouble) Error() string {
	return t.reply.Relay + ": " + t.reply.Enhanced + " " + t.reply.Text
}

func (t *trouble) Unwrap() error { return t.cause }

// broken is the trouble of a connection that failed while we were doing what.
func (s *session) broken(what string, err error) *trouble {
	s.close()
	enhanced, how := "4.4.2", "lost connection"
	var ne net.Error
	switch {
	case errors.As(err, &ne) && ne.Timeout():
		how = "timed out"
	case errors.Is(err, errSyntax):
		enhanced, how = "4.5.0", "server does not speak SMTP"
	}
	return &trouble{reply: queue.Reply{Enhanced: enhanced, Text: how + " while " + what, Relay: s.hop.String()}, cause: err}
}

// close closes the connection at once.
func (s *session) close() {
	s.dead = true
	_ = s.raw.Close() // there is nobody to tell
}

// quit ends the session politely, but does not wait long for it.
func (s *session) quit() {
	if s.dead {
		return
	}
	_ = s.conn.SetDeadline(time.Now().Add(s.config.Timeouts.Quit))
	if _, err := s.w.WriteString("QUIT\r\n"); err == nil && s.w.Flush() == nil {
		_, _ = readReply(s.r) // whatever it says, we are done
	}
	s.close()
}

// timedWriter gives every write its own time: progress is what counts.
type timedWriter struct {
	conn    net.Conn
	timeout time.Duration
}

func (w timedWriter) Write(p []byte) (int, error) {
	if err := w.conn.SetWriteDeadline(time.Now().Add(w.timeout)); err != nil {
		return 0, err
	}
	return w.conn.Write(p)
}

// use makes conn what the session speaks through. Buffers start empty: what the
// server sent before a handshake must not count afterwards (RFC 3207 §4.2).
func (s *session) use(conn net.Conn) {
	s.conn = conn
	s.r = bufio.NewReaderSize(conn, maxReplyLine)
	s.w = bufio.NewWriterSize(timedWriter{conn, s.config.Timeouts.Progress}, 32<<10)
}

// read reads one reply; the whole of it has to come within timeout.
func (s *session) read(timeout time.Duration) (reply, error) {
	if err := s.conn.SetReadDeadline(time.Now().Add(timeout)); err != nil {
		return reply{}, err
	}
	return readReply(s.r)
}

// command sends a line and reads the reply to it.
func (s *session) command(line string) (reply, error) {
	if strings.ContainsAny(line, "\r\n") {
		return reply{}, errors.New("line end within a command")
	}
	_, _ = s.w.WriteString(line)
	_, _ = s.w.WriteString("\r\n")
	if err := s.w.Flush(); err != nil {
		return reply{}, err
	}
	return s.read(s.config.Timeouts.Command)
}

// open connects to hop and brings the session to where MAIL may be said.
func (t *Transport) open(ctx context.Context, rt *route.Route, hop route.Hop) (*session, *trouble) {
	policy, err := t.policy(ctx, rt, hop)
	if err != nil {
		return nil, &trouble{reply: queue.Reply{Enhanced: "4.7.5", Text: "TLS policy of the host is not known", Relay: "none"}, cause: err}
	}
	login := t.config.Login
	if rt.Kind != route.BySmarthost {
		login = nil
	}
	s, tr := t.try(ctx, hop, policy, login)
	if tr != nil && tr.inTLS && policy.Level == TLSOpportunistic && ctx.Err() == nil {
		// RFC 7435 §3: encryption that does not work is worth less than mail
		// that arrives. The broken connection is of no use any more.
		policy.Level = TLSNone
		t.log.InfoContext(ctx, "TLS failed, going on without", "relay", hop.String(), "err", tr.cause)
		return t.try(ctx, hop, policy, login)
	}
	return s, tr
}

func (t *Transport) policy(ctx context.Context, rt *route.Route, hop route.Hop) (TLSPolicy, error) {
	switch {
	case rt.Kind == route.BySmarthost:
		return TLSPolicy{Level: t.config.SmarthostTLS}, nil
	case t.config.Policy != nil:
		return t.config.Policy(ctx, rt, hop)
	default:
		return TLSPolicy{Level: t.config.TLS}, nil
	}
}

// portSubmissions is where TLS comes before SMTP (RFC 8314 §3.3).
const portSubmissions = 465

func (t *Transport) try(ctx context.Context, hop route.Hop, policy TLSPolicy, login *Login) (*session, *trouble) {
	s, tr := t.connect(ctx, hop)
	if tr != nil {
		return nil, tr
	}
	stop := context.AfterFunc(ctx, func() { _ = s.raw.Close() })
	defer stop()
	if hop.Addr.Port() == portSubmissions && policy.Level != TLSNone {
		if tr := s.handshake(policy, t.tlsConfig(hop, policy)); tr != nil {
			return nil, tr
		}
	}
	if tr := s.greet(); tr != nil {
		return nil, tr
	}
	if tr := s.startTLS(policy, t.tlsConfig(hop, policy)); tr != nil {
		return nil, tr
	}
	if login != nil {
		if tr := s.login(login); tr != nil {
			return nil, tr
		}
	}
	return s, nil
}

func (t *Transport) connect(ctx context.Context, hop route.Hop) (*session, *trouble) {
	d := net.Dialer{Timeout: t.config.Timeouts.Connect}
	bind := t.config.Bind4
	if hop.Addr.Addr().Is6() {
		bind = t.config.Bind6
	}
	if bind.IsValid() {
		d.LocalAddr = &net.TCPAddr{IP: bind.AsSlice()}
	}
	conn, err := d.DialContext(ctx, "tcp", hop.Addr.String())
	if err != nil {
		how := "connection refused or unreachable"
		var ne net.Error
		if errors.As(err, &ne) && ne.Timeout() {
			how = "connection timed out"
		}
		return nil, &trouble{reply: queue.Reply{Enhanced: "4.4.1", Text: "connect to " + hop.String() + ": " + how, Relay: "none"}, cause: err}
	}
	s := &session{config: &t.config, hop: hop, raw: conn}
	s.use(conn)
	return s, nil
}

// greet reads the greeting and says EHLO. A hop that does not want us is left
// for the next one, whether it says 4xx or 5xx: the message was not judged.
func (s *session) greet() *trouble {
	rep, err := s.read(s.config.Timeouts.Greeting)
	if err != nil {
		return s.broken("receiving the greeting", err)
	}
	if rep.code != 220 {
		return s.refused("greeting", rep)
	}
	return s.ehlo()
}

// refused is the trouble of a hop that answered rep before any recipient was
// named. Another hop may think otherwise: see delivery.giveUp.
func (s *session) refused(what string, rep reply) *trouble {
	s.quit()
	out := rep.outcome(s.hop.String())
	if !out.IsPermanent() && out.Enhanced[0] != '4' {
		out.Enhanced = "4.5.0" // 2xx and 3xx out of place
	}
	out.Text = strings.TrimSpace("refused at " + what + ": " + out.Text)
	return &trouble{reply: out}
}

func (s *session) ehlo() *trouble {
	s.ext = extensions{}
	rep, err := s.command("EHLO " + s.config.Hostname)
	if err == nil && rep.class() == 5 {
		rep, err = s.command("HELO " + s.config.Hostname) // RFC 5321 §3.2
		if err == nil && rep.code == 250 {
			return nil
		}
	}
	switch {
	case err != nil:
		return s.broken("saying EHLO", err)
	case rep.code != 250:
		return s.refused("EHLO", rep)
	}
	s.ext.read(rep.lines)
	return nil
}

// read takes the keywords of an EHLO reply, which are the same in any case
// (RFC 5321 §2.4). The first line is a greeting.
func (e *extensions) read(lines []string) {
	for _, line := range lines[min(1, len(lines)):] {
		keyword, params, _ := strings.Cut(strings.TrimSpace(line), " ")
		switch strings.ToUpper(keyword) {
		case "PIPELINING":
			e.pipelining = true
		case "STARTTLS":
			e.startTLS = true
		case "8BITMIME":
			e.eightBit = true
		case "SMTPUTF8":
			e.smtpUTF8 = true
		case "DSN":
			e.dsn = true
		case "SIZE":
			e.hasSize = true
			if n, err := strconv.ParseInt(strings.TrimSpace(params), 10, 64); err == nil && n > 0 {
				e.size = n
			}
		case "AUTH":
			e.auth = append(e.auth, strings.Fields(strings.ToUpper(params))...)
		case "LIMITS": // RFC 9422 §3
			for _, p := range strings.Fields(params) {
				name, value, _ := strings.Cut(p, "=")
				if n, err := strconv.Atoi(value); err == nil && n > 0 && strings.EqualFold(name, "RCPTMAX") {
					e.maxRecipients = n
				}
			}
		}
	}
}

// startTLS protects the session as policy wants it.
func (s *session) startTLS(policy TLSPolicy, config *tls.Config) *trouble {
	if policy.Level == TLSNone || s.secure {
		return nil
	}
	demand := func(text string) *trouble {
		s.quit()
		return &trouble{reply: queue.Reply{Enhanced: "4.7.4", Text: text, Relay: s.hop.String()}}
	}
	if !s.ext.startTLS {
		if policy.Level == TLSOpportunistic {
			return nil
		}
		return demand("TLS is required, but the host does not offer it")
	}
	rep, err := s.command("STARTTLS")
	switch {
	case err != nil:
		tr := s.broken("saying STARTTLS", err)
		tr.inTLS = true
		return tr
	case rep.code != 220 && policy.Level == TLSOpportunistic:
		return nil // RFC 3207 §4: go on without
	case rep.code != 220:
		return demand("TLS is required, but the host refused: " + rep.outcome("").Text)
	}
	if tr := s.handshake(policy, config); tr != nil {
		return tr
	}
	return s.ehlo() // RFC 3207 §4.2: what was said before does not count
}

func (t *Transport) tlsConfig(hop route.Hop, policy TLSPolicy) *tls.Config {
	c := &tls.Config{
		ServerName:         strings.Trim(hop.Host, "[]"),
		RootCAs:            t.config.Roots,
		ClientSessionCache: t.tickets,
		MinVersion:         tls.VersionTLS12,
	}
	if policy.Verify != nil || policy.Level != TLSVerify {
		c.InsecureSkipVerify = true // judged by Verify, or not at all
		c.VerifyConnection = policy.Verify
	}
	if policy.Level == TLSOpportunistic {
		c.MinVersion = tls.VersionTLS10 // the alternative is none
	}
	return c
}

func (s *session) handshake(policy TLSPolicy, config *tls.Config) *trouble {
	if s.r.Buffered() > 0 {
		tr := s.broken("starting TLS", errors.New("octets between STARTTLS and handshake"))
		tr.inTLS = true
		return tr
	}
	conn := tls.Client(s.raw, config)
	_ = conn.SetDeadline(time.Now().Add(s.config.Timeouts.Command))
	if err := conn.Handshake(); err != nil {
		s.close()
		text := "TLS handshake failed"
		if policy.Level == TLSVerify || policy.Verify != nil {
			text = "TLS handshake or verification failed: " + printable(err.Error())
		}
		return &trouble{reply: queue.Reply{Enhanced: "4.7.5", Text: text, Relay: s.hop.String()}, inTLS: true, cause: err}
	}
	_ = conn.SetDeadline(time.Time{})
	s.use(conn)
	s.secure = true
	return nil
}

// login proves to the smarthost who we are (RFC 4954). That it refuses us is a
// fault of configuration and no judgement of any message.
func (s *session) login(l *Login) *trouble {
	fail := func(text string, cause error) *trouble {
		s.quit()
		return &trouble{reply: queue.Reply{Enhanced: "4.7.0", Text: text, Relay: s.hop.String()}, cause: cause}
	}
	if !s.secure && !l.AllowClear {
		return fail("the smarthost wants a password without TLS", nil)
	}
	var mech sasl.Client
	for _, name := range s.ext.auth {
		switch {
		case name == "PLAIN":
			mech = sasl.NewPlainClient("", l.User, l.Password)
		case name == "LOGIN" && mech == nil:
			mech = sasl.NewLoginClient(l.User, l.Password)
		}
	}
	if mech == nil {
		return fail("the smarthost offers neither AUTH PLAIN nor LOGIN", nil)
	}
	rep, err := s.authenticate(mech)
	switch {
	case err != nil:
		return s.broken("authenticating", err)
	case rep.code != 235:
		return fail("the smarthost refused our login: "+strconv.Itoa(rep.code)+" "+rep.outcome("").Text, nil)
	}
	return nil
}

func (s *session) authenticate(mech sasl.Client) (reply, error) {
	name, initial, err := mech.Start()
	if err != nil {
		return reply{}, err
	}
	line := "AUTH " + name
	if initial != nil {
		line += " " + base64.StdEncoding.EncodeToString(initial)
	}
	rep, err := s.command(line)
	for n := 0; err == nil && rep.code == 334; n++ {
		if n == 10 {
			return reply{}, fmt.Errorf("%w: endless AUTH", errSyntax)
		}
		var challenge []byte
		if challenge, err = base64.StdEncoding.DecodeString(strings.TrimSpace(strings.Join(rep.lines, ""))); err != nil {
			return reply{}, fmt.Errorf("%w: %w", errSyntax, err)
		}
		var response []byte
		if response, err = mech.Next(challenge); err != nil {
			return reply{}, err
		}
		rep, err = s.command(base64.StdEncoding.EncodeToString(response))
	}
	return rep, err
}

// tlsName says how the session is protected, for the log.
func (s *session) tlsName() string {
	c, ok := s.conn.(*tls.Conn)
	if !ok {
		return ""
	}
	st := c.ConnectionState()
	return strings.ReplaceAll(tls.VersionName(st.Version), " ", "") + " " + tls.CipherSuiteName(st.CipherSuite)
}

// isLost reports whether err means that the other side is gone, as an idle
// connection may be.
func isLost(err error) bool {
	var oe *net.OpError
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.As(err, &oe) && !oe.Timeout()
}
