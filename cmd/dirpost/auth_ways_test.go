package main

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"errors"
	"fmt"
	"html"
	"io"
	"net"
	"net/http"
	"net/textproto"
	"net/url"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"dirpost/auth"
	"dirpost/auth/selfservice"
	"dirpost/internal/envelope"
	"dirpost/internal/testenv"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapclient"
	"github.com/emersion/go-sasl"
	"github.com/emersion/go-smtp"
)

// way is one way to log in: a protocol, and how it carries what proves who it is.
type way struct {
	name string
	// try logs in from an address and returns what was answered: "in", or the code of
	// the refusal.
	try  func(s *system, c cell, from net.IP) (string, error)
	want func(*envelope.Error) string
	// has says whether somebody has the proof that it takes, nil for the password.
	has func(tenant) bool
}

// proves reports whether something else than the password proves who it is.
func (w way) proves() bool { return w.has != nil }

// expects is what becomes of a login of p, and whether there is one. What proves who
// it is beside the password is not concerned by what the directory says of that; a name
// beside it is the authorization identity, which must be one's own.
func (w way) expects(p tenant, noName bool) (want *envelope.Error, ok bool) {
	switch {
	case !w.proves() && noName:
		return auth.ErrCredentials, true
	case !w.proves():
		return p.want, true
	case noName || !w.has(p):
		return nil, false
	case p.state == "unknown" && p.cert != nil && strings.Contains(w.name, "EXTERNAL"):
		return auth.ErrMechanism, true // it is not offered
	case p.forGood:
		return auth.ErrDisabled, true
	case p.want == auth.ErrDisabled, p.state == "unknown":
		return p.want, true
	}
	return nil, true
}

func hasToken(p tenant) bool { return p.token != "" }
func hasCert(p tenant) bool  { return p.cert != nil }

// byTLS tries on a connection by TLS to a listener.
func byTLS(listener string, try func(net.Conn, cell) (string, error)) func(*system, cell, net.IP) (string, error) {
	return func(s *system, c cell, from net.IP) (string, error) {
		d := net.Dialer{LocalAddr: &net.TCPAddr{IP: from}, Timeout: 20 * time.Second}
		raw, err := d.Dial("tcp", s.addr[listener])
		if err != nil {
			return "", err
		}
		defer raw.Close()
		if err := raw.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
			return "", err
		}
		config := s.tls()
		if c.who.cert != nil {
			config.Certificates = []tls.Certificate{*c.who.cert}
		}
		return try(tls.Client(raw, config), c)
	}
}

// ways are those of mail programs with a password.
var ways = []way{
	{"SMTP AUTH PLAIN", byTLS("submissions", func(conn net.Conn, c cell) (string, error) {
		return trySMTP(conn, sasl.NewPlainClient("", c.user, c.password))
	}), smtpCode, nil},
	{"SMTP AUTH LOGIN", byTLS("submissions", func(conn net.Conn, c cell) (string, error) {
		return trySMTP(conn, sasl.NewLoginClient(c.user, c.password))
	}), smtpCode, nil},
	{"IMAP LOGIN", byTLS("imaps", func(conn net.Conn, c cell) (string, error) {
		return tryIMAP(conn, func(i *imapclient.Client) error { return i.Login(c.user, c.password).Wait() })
	}), imapCode, nil},
	{"IMAP AUTHENTICATE PLAIN", byTLS("imaps", func(conn net.Conn, c cell) (string, error) {
		return tryIMAP(conn, func(i *imapclient.Client) error {
			return i.Authenticate(sasl.NewPlainClient("", c.user, c.password))
		})
	}), imapCode, nil},
	{"POP3 USER, PASS", byTLS("pop3s", func(conn net.Conn, c cell) (string, error) {
		return tryPOP3(conn, func(p *pop3Client) error { return p.login(c.user, c.password) })
	}), pop3Code, nil},
	{"POP3 AUTH PLAIN", byTLS("pop3s", func(conn net.Conn, c cell) (string, error) {
		return tryPOP3(conn, func(p *pop3Client) error {
			return p.command("AUTH PLAIN %s", base64.StdEncoding.EncodeToString([]byte("\x00"+c.user+"\x00"+c.password)))
		})
	}), pop3Code, nil},
}

// moreWays are all others.
var moreWays = []way{
	{"page", byTLS("https", tryPage), pageWord, nil},
	{"socket PLAIN", trySocket, socketCode, nil},
	{"IMAP OAUTHBEARER", byTLS("imaps", func(conn net.Conn, c cell) (string, error) {
		return tryIMAP(conn, func(i *imapclient.Client) error { return i.Authenticate(oauthBearer(c)) })
	}), imapCode, hasToken},
	{"SMTP XOAUTH2", byTLS("submissions", func(conn net.Conn, c cell) (string, error) {
		return trySMTP(conn, xoauth2(c))
	}), smtpCode, hasToken},
	{"POP3 OAUTHBEARER", byTLS("pop3s", func(conn net.Conn, c cell) (string, error) {
		return tryPOP3(conn, func(p *pop3Client) error {
			first := oauthBearer(c)
			err := p.command("AUTH OAUTHBEARER %s", base64.StdEncoding.EncodeToString(first.initial))
			if err != nil && strings.Contains(err.Error(), "+ ") { // it is told why
				return p.command("%s", base64.StdEncoding.EncodeToString(first.last))
			}
			return err
		})
	}), pop3Code, hasToken},
	{"IMAP EXTERNAL", byTLS("imaps", func(conn net.Conn, c cell) (string, error) {
		return tryIMAP(conn, func(i *imapclient.Client) error { return i.Authenticate(sasl.NewExternalClient(c.user)) })
	}), imapCode, hasCert},
	{"SMTP EXTERNAL", byTLS("submissions", func(conn net.Conn, c cell) (string, error) {
		return trySMTP(conn, sasl.NewExternalClient(c.user))
	}), smtpCode, hasCert},
}

func smtpCode(e *envelope.Error) string {
	return fmt.Sprintf("%d %s", e.Status.Code, e.Status.Enhanced)
}
func imapCode(e *envelope.Error) string { return e.Status.IMAP }
func pop3Code(e *envelope.Error) string { return e.Status.POP3 }

func trySMTP(conn net.Conn, mech sasl.Client) (string, error) {
	c := smtp.NewClient(conn)
	defer c.Close()
	err := c.Auth(mech)
	var refused *smtp.SMTPError
	if errors.As(err, &refused) {
		e := refused.EnhancedCode
		return fmt.Sprintf("%d %d.%d.%d", refused.Code, e[0], e[1], e[2]), nil
	}
	return "in", err
}

func tryIMAP(conn net.Conn, login func(*imapclient.Client) error) (string, error) {
	c := imapclient.New(conn, nil)
	defer c.Close()
	err := login(c)
	var refused *imap.Error
	if errors.As(err, &refused) {
		return string(refused.Code), nil
	}
	return "in", err
}

func tryPOP3(conn net.Conn, login func(*pop3Client) error) (string, error) {
	c := &pop3Client{textproto.NewConn(conn)}
	defer conn.Close()
	err := c.answer()
	if err != nil {
		return "", err
	}
	if err = login(c); err == nil {
		return "in", nil
	}
	if _, code, ok := strings.Cut(err.Error(), "-ERR ["); ok {
		code, _, _ = strings.Cut(code, "]")
		return code, nil
	}
	return "", err
}

// bearer is a client of OAUTHBEARER or XOAUTH2 that hears the refusal of the protocol,
// not that in the challenge.
type bearer struct {
	mech          string
	initial, last []byte
}

// Start implements sasl.Client.
func (b *bearer) Start() (mech string, ir []byte, err error) { return b.mech, b.initial, nil }

// Next implements sasl.Client.
func (b *bearer) Next([]byte) ([]byte, error) { return b.last, nil }

// oauthBearer is RFC 7628 §3.1. In a name of its header two characters are written in
// another way (RFC 5801 §4).
func oauthBearer(c cell) *bearer {
	name := strings.NewReplacer("=", "=3D", ",", "=2C").Replace(c.user)
	return &bearer{"OAUTHBEARER", []byte("n,a=" + name + ",\x01auth=Bearer " + c.who.token + "\x01\x01"), []byte("\x01")}
}

func xoauth2(c cell) *bearer {
	return &bearer{"XOAUTH2", []byte("user=" + c.user + "\x01auth=Bearer " + c.who.token + "\x01\x01"), []byte{}}
}

var pageAlert = regexp.MustCompile(`<p class="alert" role="alert">([^<]*)</p>|<h1>([^<]*)</h1>\s*<p>Your password is right`)

// tryPage logs in to the page, and returns what it says.
func tryPage(conn net.Conn, c cell) (string, error) {
	req, err := http.NewRequest(http.MethodPost, "https://localhost"+selfservice.Root+"login", strings.NewReader(url.Values{"user": {c.user}, "password": {c.password}}.Encode()))
	if err != nil {
		return "", err
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	if err := req.Write(conn); err != nil {
		return "", err
	}
	res, err := http.ReadResponse(bufio.NewReader(conn), req)
	if err != nil {
		return "", err
	}
	defer res.Body.Close()
	if res.StatusCode == http.StatusSeeOther && res.Header.Get("Location") == selfservice.Root {
		return "in", nil
	}
	b, err := io.ReadAll(res.Body)
	if err != nil {
		return "", err
	}
	m := pageAlert.FindStringSubmatch(string(b))
	if m == nil {
		return "", fmt.Errorf("%s: %s", res.Status, b)
	}
	return fmt.Sprint(res.StatusCode, " ", firstSentence(html.UnescapeString(m[1]+m[2]))), nil
}

func firstSentence(s string) string {
	s, _, _ = strings.Cut(s, ".")
	return s
}

// pageWord is what the page says.
func pageWord(e *envelope.Error) string {
	switch {
	case errors.Is(e, auth.ErrDisabled):
		return "403 Your account is disabled or has ended"
	case errors.Is(e, auth.ErrExpired):
		return "403 Your password has expired"
	case errors.Is(e, auth.ErrHours):
		return "403 You may not log in here, or not at this time"
	}
	return "403 That did not work"
}

// trySocket logs in by the socket for other programs, as one of them does for a client
// of its own.
func trySocket(s *system, c cell, from net.IP) (string, error) {
	conn, err := net.Dial("unix", s.socket)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
		return "", err
	}
	_, err = fmt.Fprintf(conn, "VERSION\t1\t2\nCPID\t1\nAUTH\t1\tPLAIN\tservice=smtp\trip=%s\tsecured\tresp=%s\n", from,
		base64.StdEncoding.EncodeToString([]byte("\x00"+c.user+"\x00"+c.password)))
	if err != nil {
		return "", err
	}
	for lines := bufio.NewScanner(conn); lines.Scan(); {
		switch fields := strings.Split(lines.Text(), "\t"); {
		case fields[0] == "OK":
			return "in", nil
		case fields[0] == "FAIL":
			for _, f := range fields {
				if code, ok := strings.CutPrefix(f, "code="); ok {
					return code, nil
				}
			}
			return "failed", nil
		}
	}
	return "", io.ErrUnexpectedEOF
}

func socketCode(e *envelope.Error) string {
	switch {
	case errors.Is(e, auth.ErrDisabled):
		return "user_disabled"
	case errors.Is(e, auth.ErrExpired):
		return "pass_expired"
	case errors.Is(e, auth.ErrHours):
		return "temp_fail"
	}
	return "failed"
}

// proofs gives people tokens and certificates.
type proofs struct {
	issuer *testenv.Issuer
	ca     *testenv.PeopleCA
	config string // sections that take them, and the socket
	socket string
}

func newProofs(t *testing.T) *proofs {
	t.Helper()
	p := &proofs{issuer: testenv.NewIssuer(t), ca: testenv.NewPeopleCA(t, pkix.Name{CommonName: "Corp people CA"}), socket: filepath.Join(shortDir(t), "auth")}
	p.config = fmt.Sprintf("[[auth.oauth]]\nissuer = %q\naudience = [\"dirpost\"]\nscope = [\"mail\"]\nca = %q\nclaim = \"login\"\nmatch = \"login\"\n[auth.certificates]\nca = [%q]\n[auth.socket]\npath = %q\nmode = \"0600\"\n",
		p.issuer.URL, p.issuer.CAFile, p.ca.CAFile, p.socket)
	return p
}

// add gives somebody both. change makes the certificate that of somebody, nil where the
// directory has it.
func (p *proofs) add(who *tenant, change func(*x509.Certificate)) (der []byte) {
	cert := p.ca.Issue(who.login, change)
	who.cert, who.token = &cert.TLS, p.issuer.Token(map[string]any{"login": who.login})
	return cert.TLS.Leaf.Raw
}

// ofNobody gives those who do not exist a token and a certificate of nobody.
func (p *proofs) ofNobody(people []tenant) []tenant {
	for i := range people {
		if people[i].state == "unknown" {
			p.add(&people[i], nil)
		}
	}
	return people
}

// sidOf has a security identifier put into a certificate.
func sidOf(sid string) func(*x509.Certificate) {
	return func(c *x509.Certificate) { c.ExtraExtensions = []pkix.Extension{testenv.SIDExtension(sid)} }
}
