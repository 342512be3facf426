package testenv

import (
	"bufio"
	"crypto/tls"
	"errors"
	"io"
	"log"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/emersion/go-sasl"
	"github.com/emersion/go-smtp"
)

// SMTPServer is a next hop written by others (emersion/go-smtp): it keeps what
// it is given, and refuses as it is told.
type SMTPServer struct {
	// Addr is where it listens, "127.0.0.1:port".
	Addr string

	refuse SMTPRefusal

	mu       sync.Mutex // guards the fields below
	messages []SMTPMessage
	sessions int
}

// SMTPRefusal says what the server refuses. Each function may be nil; a
// *smtp.SMTPError is the answer, any other error 451 or 554.
type SMTPRefusal struct {
	Mail func(from string) error
	Rcpt func(to string) error
	Data func(m SMTPMessage) error
	// Login, if not nil, makes AUTH PLAIN and LOGIN necessary.
	Login func(user, password string) error
}

// SMTPMessage is one message as it came.
type SMTPMessage struct {
	From        string
	To          []string
	MailOptions smtp.MailOptions
	RcptOptions []smtp.RcptOptions
	Data        string // dots removed, CRLF as it was
	TLS         bool
	Session     int // from 1, in the order of connections
}

// SMTP starts a server that stops with the test. change, if not nil, sets what
// it announces and limits.
func SMTP(t testing.TB, refuse SMTPRefusal, change func(*smtp.Server)) *SMTPServer {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &SMTPServer{Addr: l.Addr().String(), refuse: refuse}
	srv := smtp.NewServer(smtp.BackendFunc(func(c *smtp.Conn) (smtp.Session, error) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.sessions++
		ses := &smtpSession{server: s, conn: c, n: s.sessions}
		if refuse.Login != nil {
			return &smtpLogin{smtpSession: ses}, nil
		}
		return ses, nil
	}))
	srv.Domain = "next.example"
	srv.ReadTimeout = time.Minute
	srv.ErrorLog = log.New(io.Discard, "", 0)
	if change != nil {
		change(srv)
	}
	var wg sync.WaitGroup
	wg.Go(func() { _ = srv.Serve(l) }) // ends with an error at Close
	t.Cleanup(func() { _ = srv.Close(); wg.Wait() })
	return s
}

// Messages returns what came so far.
func (s *SMTPServer) Messages() []SMTPMessage {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]SMTPMessage(nil), s.messages...)
}

// Sessions returns how many times somebody said EHLO or HELO for the first
// time or after STARTTLS.
func (s *SMTPServer) Sessions() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.sessions
}

type smtpSession struct {
	server *SMTPServer
	conn   *smtp.Conn
	n      int
	m      SMTPMessage
}

func (s *smtpSession) Reset()        { s.m = SMTPMessage{} }
func (s *smtpSession) Logout() error { return nil }

func (s *smtpSession) Mail(from string, opts *smtp.MailOptions) error {
	if f := s.server.refuse.Mail; f != nil {
		if err := f(from); err != nil {
			return err
		}
	}
	s.m.From, s.m.MailOptions = from, *opts
	return nil
}

func (s *smtpSession) Rcpt(to string, opts *smtp.RcptOptions) error {
	if f := s.server.refuse.Rcpt; f != nil {
		if err := f(to); err != nil {
			return err
		}
	}
	s.m.To = append(s.m.To, to)
	s.m.RcptOptions = append(s.m.RcptOptions, *opts)
	return nil
}

func (s *smtpSession) Data(r io.Reader) error {
	b, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	m := s.m
	m.Data, m.Session = string(b), s.n
	_, m.TLS = s.conn.TLSConnectionState()
	if f := s.server.refuse.Data; f != nil {
		if err := f(m); err != nil {
			return err
		}
	}
	s.server.mu.Lock()
	defer s.server.mu.Unlock()
	s.server.messages = append(s.server.messages, m)
	return nil
}

// smtpLogin is a session that wants AUTH first.
type smtpLogin struct {
	*smtpSession
	in bool
}

func (s *smtpLogin) AuthMechanisms() []string { return []string{sasl.Plain} }

func (s *smtpLogin) Auth(string) (sasl.Server, error) {
	return sasl.NewPlainServer(func(identity, user, password string) error {
		if identity != "" && identity != user {
			return errors.New("no other identity")
		}
		if err := s.server.refuse.Login(user, password); err != nil {
			return err
		}
		s.in = true
		return nil
	}), nil
}

func (s *smtpLogin) Mail(from string, opts *smtp.MailOptions) error {
	if !s.in {
		return smtp.ErrAuthRequired
	}
	return s.smtpSession.Mail(from, opts)
}

// WithTLS makes a server offer STARTTLS with a certificate for names.
func WithTLS(t testing.TB, names ...string) func(*smtp.Server) {
	c := Certificate(t, names...)
	return func(s *smtp.Server) {
		s.TLSConfig = &tls.Config{Certificates: []tls.Certificate{c.TLS}, MinVersion: tls.VersionTLS12}
	}
}

// SMTPWithout returns the address of a way to a server that hides one of its
// extensions, named by its EHLO keyword. It must not be the last one.
func SMTPWithout(t testing.TB, addr, keyword string) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				s, err := net.Dial("tcp", addr)
				if err != nil {
					return
				}
				defer s.Close()
				go func() { _, _ = io.Copy(s, c); _ = s.Close() }()
				r := bufio.NewReader(s)
				for {
					line, err := r.ReadString('\n')
					if err != nil {
						return
					}
					if strings.HasPrefix(line, "250-"+keyword) {
						continue
					}
					if _, err := io.WriteString(c, line); err != nil {
						return
					}
				}
			}()
		}
	}()
	return l.Addr().String()
}
