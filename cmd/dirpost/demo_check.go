package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"mime"
	"net"
	"os"
	"strings"
	"time"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapclient"
	"github.com/emersion/go-sasl"
	"github.com/emersion/go-smtp"
)

// checkTimeout bounds one step of the self-check.
const checkTimeout = 20 * time.Second

// members are who gets the mail of the self-check: sales@ is alice, bob and
// emea-sales@, which is wangwei and carol.
var members = []string{"alice", "bob", "wangwei", "carol"}

// selfCheck is a message's whole way, by real clients over real connections:
// alice submits it to a list, and every member reads it, byte for byte.
func (d *demo) selfCheck(ctx context.Context) error {
	conf, err := d.clientTLS()
	if err != nil {
		return err
	}
	id := fmt.Sprintf("<%s@%s>", strings.ToLower(rand.Text()), demoDomain)
	msg := checkMessage(id, time.Now())

	begin := time.Now()
	if err := d.checkSubmit(ctx, conf, msg); err != nil {
		return fmt.Errorf("alice submits a message: %w", err)
	}
	d.step(begin, "alice submits over STARTTLS to sales@%s (a list, with a list in it) and to her alias a.example@", demoDomain)
	for i, who := range members {
		begin := time.Now()
		// By STARTTLS and by TLS in turn.
		s, p := serviceNamed("IMAP"), serviceNamed("POP3")
		if i%2 == 1 {
			s, p = serviceNamed("IMAPS"), serviceNamed("POP3S")
		}
		if err := d.checkIMAP(ctx, conf, s, who, id, msg); err != nil {
			return fmt.Errorf("%s reads it over %s: %w", who, s.name, err)
		}
		imapTook := time.Since(begin)
		if err := d.checkPOP3(ctx, conf, p, who, msg); err != nil {
			return fmt.Errorf("%s reads it over %s: %w", who, p.name, err)
		}
		d.step(begin, "%s finds it once, byte for byte, over %s (%d ms) and %s", who, s.name, imapTook.Milliseconds(), p.name)
	}
	return nil
}

// clientTLS trusts the authority of the demo.
func (d *demo) clientTLS() (*tls.Config, error) {
	pem, err := os.ReadFile(d.path("ca.pem"))
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, errors.New("ca.pem holds no certificate")
	}
	return &tls.Config{RootCAs: pool, ServerName: d.host}, nil
}

// checkMessage is a message with a Chinese subject and an attachment.
func checkMessage(id string, now time.Time) []byte {
	const boundary = "=-dirpost-self-check"
	subject := mime.BEncoding.Encode("utf-8", "欢迎使用 Dirpost · welcome")
	attachment := base64.StdEncoding.EncodeToString(bytes.Repeat([]byte("every octet counts \x00\x01\xfe\xff\n"), 40))
	var b strings.Builder
	for _, line := range []string{
		"From: Alice Example <alice@" + demoDomain + ">",
		"To: sales@" + demoDomain + ", a.example@" + demoDomain,
		"Subject: " + subject,
		"Date: " + now.Format("Mon, 02 Jan 2006 15:04:05 -0700"),
		"Message-ID: " + id,
		"MIME-Version: 1.0",
		"Content-Type: multipart/mixed; boundary=\"" + boundary + "\"",
		"",
		"--" + boundary,
		"Content-Type: text/plain; charset=utf-8",
		"Content-Transfer-Encoding: 8bit",
		"",
		"Welcome, 欢迎, أهلاً, ¡bienvenidos!",
		"",
		"Alice wrote to sales@" + demoDomain + "; you are a member of it.",
		".",
		"..two lines that begin with dots, and one of white space:",
		"  \t ",
		"--" + boundary,
		"Content-Type: application/octet-stream; name=\"octets.bin\"",
		"Content-Disposition: attachment; filename=\"octets.bin\"",
		"Content-Transfer-Encoding: base64",
		"",
	} {
		b.WriteString(line + "\r\n")
	}
	for len(attachment) > 0 {
		n := min(76, len(attachment))
		b.WriteString(attachment[:n] + "\r\n")
		attachment = attachment[n:]
	}
	b.WriteString("--" + boundary + "--\r\n")
	return []byte(b.String())
}

// dial connects for one step; the deadline is of the whole step.
func (d *demo) dial(ctx context.Context, s service) (net.Conn, error) {
	dialer := net.Dialer{Timeout: checkTimeout}
	conn, err := dialer.DialContext(ctx, "tcp", d.address(s))
	if err != nil {
		return nil, err
	}
	return conn, conn.SetDeadline(time.Now().Add(checkTimeout))
}

func (d *demo) checkSubmit(ctx context.Context, conf *tls.Config, msg []byte) error {
	conn, err := d.dial(ctx, serviceNamed("SUBMISSION"))
	if err != nil {
		return err
	}
	c, err := smtp.NewClientStartTLS(conn, conf)
	if err != nil {
		return errors.Join(err, conn.Close())
	}
	defer c.Close()
	if err := c.Auth(sasl.NewPlainClient("", "alice", d.password)); err != nil {
		return fmt.Errorf("log in: %w", err)
	}
	// go-smtp says BODY=8BITMIME by itself.
	if err := c.SendMail("alice@"+demoDomain, []string{"sales@" + demoDomain, "a.example@" + demoDomain}, bytes.NewReader(msg)); err != nil {
		return err
	}
	return c.Quit()
}

// checkIMAP finds the message with this id exactly once in who's INBOX.
func (d *demo) checkIMAP(ctx context.Context, conf *tls.Config, s service, who, id string, msg []byte) error {
	conn, err := d.dial(ctx, s)
	if err != nil {
		return err
	}
	opts := &imapclient.Options{TLSConfig: conf}
	var c *imapclient.Client
	if s.tls == "implicit" {
		c = imapclient.New(tls.Client(conn, conf), opts)
	} else if c, err = imapclient.NewStartTLS(conn, opts); err != nil {
		return errors.Join(err, conn.Close())
	}
	defer c.Close()
	if err := c.Login(who, d.password).Wait(); err != nil {
		return fmt.Errorf("log in: %w", err)
	}
	if _, err := c.Select("INBOX", &imap.SelectOptions{ReadOnly: true}).Wait(); err != nil {
		return fmt.Errorf("open INBOX: %w", err)
	}
	found, err := c.UIDSearch(&imap.SearchCriteria{Header: []imap.SearchCriteriaHeaderField{{Key: "Message-ID", Value: id}}}, nil).Wait()
	if err != nil {
		return fmt.Errorf("search: %w", err)
	}
	uids := found.AllUIDs()
	if len(uids) != 1 {
		return fmt.Errorf("found %d times, want once", len(uids))
	}
	section := &imap.FetchItemBodySection{Peek: true}
	got, err := c.Fetch(imap.UIDSetNum(uids...), &imap.FetchOptions{BodySection: []*imap.FetchItemBodySection{section}}).Collect()
	if err != nil {
		return fmt.Errorf("fetch: %w", err)
	}
	if len(got) != 1 {
		return fmt.Errorf("fetched %d messages, want one", len(got))
	}
	if err := sameMessage(got[0].FindBodySection(section), msg); err != nil {
		return err
	}
	return c.Logout().Wait()
}

// checkPOP3 finds the message as the newest one.
func (d *demo) checkPOP3(ctx context.Context, conf *tls.Config, s service, who string, msg []byte) error {
	conn, err := d.dial(ctx, s)
	if err != nil {
		return err
	}
	defer conn.Close()
	c, err := newPOP3Client(conn, conf, s.tls == "implicit")
	if err != nil {
		return err
	}
	if err := c.login(who, d.password); err != nil {
		return fmt.Errorf("log in: %w", err)
	}
	n, err := c.count()
	if err != nil {
		return err
	}
	got, err := c.retrieve(n)
	if err != nil {
		return err
	}
	if err := sameMessage(got, msg); err != nil {
		return err
	}
	return c.quit()
}

// sameMessage compares what was read with what was sent: trace fields come
// before it, the rest is the same to the octet.
func sameMessage(got, sent []byte) error {
	trace, ok := bytes.CutSuffix(got, sent)
	if !ok {
		return fmt.Errorf("it is not what was sent: %d octets instead of %d behind the trace fields", len(got), len(sent))
	}
	for _, field := range []string{"Return-Path: <alice@" + demoDomain + ">", "Received: "} {
		if !bytes.Contains(trace, []byte(field)) {
			return fmt.Errorf("no trace field %q", field)
		}
	}
	return nil
}
