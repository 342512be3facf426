package smtpd

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	netsmtp "net/smtp"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-sasl"
	"github.com/emersion/go-smtp"

	"dirpost/internal/testenv"
)

// awkward is a message with everything that transport must not change.
const awkward = "Subject: awkward\r\nFrom: alice@corp.example\r\nTo: bob@corp.example\r\n\r\n" +
	".\r\n..\r\n.leading dot\r\n\r\ntrailing blanks  \r\n\ttab\r\nF\u00fcnf \u738b\u4f1f\r\n.\r\n"

// last returns the one message that s has accepted.
func (s *server) last(t *testing.T) accepted {
	t.Helper()
	all := s.door.all()
	if len(all) != 1 {
		t.Fatalf("%d messages accepted, want 1", len(all))
	}
	return all[0]
}

func TestNetSMTP(t *testing.T) {
	t.Parallel()
	s := newServer(t, MSA, nil)
	addr := s.listen(t)
	c, err := netsmtp.Dial(addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	must(t, c.Hello("laptop.example"))
	must(t, c.StartTLS(s.clientTLS()))
	must(t, c.Auth(netsmtp.PlainAuth("", "alice", "secret", host(addr))))
	must(t, c.Mail("alice@corp.example"))
	must(t, c.Rcpt("bob@corp.example"))
	w, err := c.Data()
	must(t, err)
	_, err = io.WriteString(w, awkward)
	must(t, err)
	must(t, w.Close())
	must(t, c.Quit())
	if m := s.last(t); m.content != awkward || m.client.Protocol != "UTF8SMTPSA" || m.client.Login != "alice@corp.example" || m.client.TLS != "TLS1.3 TLS_AES_128_GCM_SHA256" {
		t.Errorf("got %+v", m)
	}
}

func TestGoSMTPClient(t *testing.T) {
	t.Parallel()
	deliver := func(t *testing.T, c *smtp.Client, err error, from string) {
		t.Helper()
		must(t, err)
		defer c.Close()
		must(t, c.Mail(from, &smtp.MailOptions{Size: int64(len(awkward)), UTF8: true, Return: smtp.DSNReturnHeaders, EnvelopeID: "id=1"}))
		must(t, c.Rcpt("bob@corp.example", &smtp.RcptOptions{Notify: []smtp.DSNNotify{smtp.DSNNotifyFailure}, OriginalRecipientType: smtp.DSNAddressTypeRFC822, OriginalRecipient: "bob+x@corp.example"}))
		w, err := c.Data()
		must(t, err)
		_, err = io.WriteString(w, awkward)
		must(t, err)
		must(t, w.Close())
		must(t, c.Quit())
	}
	check := func(t *testing.T, s *server, want string) {
		t.Helper()
		m := s.last(t)
		if m.content != awkward {
			t.Errorf("content %q", m.content)
		}
		if got := m.client.Protocol + " " + describe(m.env); got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	}
	const rest = " 8bit utf8 headers id=id=1 size=133 <bob@corp.example> notify=4 was=rfc822;bob+x@corp.example"
	t.Run("clear", func(t *testing.T) {
		t.Parallel()
		s := newServer(t, MX, nil)
		c, err := smtp.Dial(s.listen(t))
		deliver(t, c, err, "sender@outside.example")
		check(t, s, "UTF8SMTP <sender@outside.example>"+rest)
	})
	t.Run("STARTTLS", func(t *testing.T) {
		t.Parallel()
		s := newServer(t, MSA, nil)
		c, err := smtp.DialStartTLS(s.listen(t), s.clientTLS())
		must(t, err)
		must(t, c.Auth(sasl.NewPlainClient("", "alice", "secret")))
		deliver(t, c, nil, "alice@corp.example")
		check(t, s, "UTF8SMTPSA <alice@corp.example>"+rest)
	})
	t.Run("implicit TLS", func(t *testing.T) {
		t.Parallel()
		s := newServer(t, MSA, func(c *Config, _ *Deps) { c.ImplicitTLS = true })
		c, err := smtp.DialTLS(s.listen(t), s.clientTLS())
		must(t, err)
		must(t, c.Auth(sasl.NewLoginClient("alice", "secret")))
		deliver(t, c, nil, "alice@corp.example")
		check(t, s, "UTF8SMTPSA <alice@corp.example>"+rest)
	})
	t.Run("wrong password", func(t *testing.T) {
		t.Parallel()
		s := newServer(t, MSA, nil)
		c, err := smtp.DialStartTLS(s.listen(t), s.clientTLS())
		must(t, err)
		defer c.Close()
		if err := c.Auth(sasl.NewPlainClient("", "alice", "wrong")); err == nil || !strings.Contains(err.Error(), "invalid") {
			t.Errorf("Auth: %v", err)
		}
	})
}

// run runs a client and fails the test when the client does.
func run(t *testing.T, stdin string, name string, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, testenv.Need(t, name), args...)
	cmd.Stdin = strings.NewReader(stdin)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", name, err, out)
	}
	return string(out)
}

func TestCurl(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "message")
	must(t, os.WriteFile(file, []byte(awkward), 0o600))
	send := func(t *testing.T, s *server, scheme string) {
		addr := s.listen(t)
		run(t, "", "curl", "-sS", "--cacert", s.cert.CAFile, "--ssl-reqd", "--url", scheme+"://localhost:"+port(addr)+"/laptop.example",
			"--connect-to", "localhost:"+port(addr)+":"+addr, "--user", "alice:secret",
			"--mail-from", "alice@corp.example", "--mail-rcpt", "bob@corp.example", "--mail-rcpt", "friend@elsewhere.example", "--upload-file", file)
		if m := s.last(t); m.content != awkward || len(m.env.Recipients) != 2 || m.client.Protocol != "ESMTPSA" {
			t.Errorf("got %+v", m)
		}
	}
	t.Run("smtp", func(t *testing.T) { t.Parallel(); send(t, newServer(t, MSA, nil), "smtp") })
	t.Run("smtps", func(t *testing.T) {
		t.Parallel()
		send(t, newServer(t, MSA, func(c *Config, _ *Deps) { c.ImplicitTLS = true }), "smtps")
	})
}

func TestSwaks(t *testing.T) {
	t.Parallel()
	// swaks takes a dot at the end of its input for its own.
	want := strings.TrimSuffix(awkward, ".\r\n")
	message := strings.ReplaceAll(want, "\r\n", "\n")
	for _, tt := range []struct {
		name  string
		role  Role
		args  []string
		proto string
	}{
		{"clear", MX, []string{"--from", "alice@corp.example"}, "ESMTP"},
		{"starttls", MX, []string{"--from", "alice@corp.example", "--tls"}, "ESMTPS"},
		{"helo", MX, []string{"--from", "alice@corp.example", "--protocol", "SMTP"}, "SMTP"},
		{"pipeline", MX, []string{"--from", "alice@corp.example", "--pipeline"}, "ESMTP"},
		{"auth plain", MSA, []string{"--from", "alice@corp.example", "--tls", "--auth", "PLAIN", "--auth-user", "alice", "--auth-password", "secret"}, "ESMTPSA"},
		{"auth login", MSA, []string{"--from", "alice@corp.example", "--tls", "--auth", "LOGIN", "--auth-user", "alice", "--auth-password", "secret"}, "ESMTPSA"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := newServer(t, tt.role, nil)
			addr := s.listen(t)
			args := append([]string{"--server", host(addr), "--port", port(addr), "--ehlo", "laptop.example", "--to", "bob@corp.example", "--data", "-", "--suppress-data"}, tt.args...)
			out := run(t, message, "swaks", args...)
			if m := s.last(t); strings.TrimRight(m.content, "\r\n") != strings.TrimRight(want, "\r\n") || m.client.Protocol != tt.proto {
				t.Errorf("%s\ngot %+v", out, m)
			}
		})
	}
}

func TestPython(t *testing.T) {
	t.Parallel()
	const script = `
import smtplib, ssl, sys
host, port, ca = sys.argv[1:]
message = sys.stdin.buffer.read()
with smtplib.SMTP(host, int(port), "laptop.example") as c:
    code, banner = c.ehlo()
    assert c.has_extn("pipelining") and c.esmtp_features["size"] == "78643200", c.esmtp_features
    try:
        c.sendmail("alice@corp.example", ["bob@corp.example"], message)
        raise SystemExit("accepted without AUTH")
    except smtplib.SMTPSenderRefused as e:
        assert e.smtp_code == 530, e
    c.starttls(context=ssl.create_default_context(cafile=ca))
    try:
        c.login("alice", "wrong")
        raise SystemExit("wrong password accepted")
    except smtplib.SMTPAuthenticationError as e:
        assert e.smtp_code == 535, e
    c.login("alice", "secret")
    c.sendmail("alice@corp.example", ["bob@corp.example", "\u738b\u4f1f@corp.example"], message,
               mail_options=["SMTPUTF8", "BODY=8BITMIME"], rcpt_options=["NOTIFY=FAILURE,DELAY"])
    assert c.verify("bob")[0] == 252
    assert c.expn("sales")[0] == 502
`
	s := newServer(t, MSA, nil)
	addr := s.listen(t)
	file := filepath.Join(t.TempDir(), "client.py")
	must(t, os.WriteFile(file, []byte(script), 0o600))
	run(t, awkward, "python3", file, "localhost", port(addr), s.cert.CAFile)
	m := s.last(t)
	if m.content != awkward {
		t.Errorf("content %q", m.content)
	}
	if got, want := describe(m.env), "<alice@corp.example> 8bit utf8 size=133 <bob@corp.example> notify=12 <\u738b\u4f1f@corp.example> notify=12"; got != want {
		t.Errorf("envelope %s\nwant     %s", got, want)
	}
}

// OpenSSL's client talks to STARTTLS as it does to a mail server, and old
// versions of TLS are refused.
func TestTLSVersions(t *testing.T) {
	t.Parallel()
	s := newServer(t, MX, nil)
	addr := s.listen(t)
	for _, tt := range []struct {
		version uint16
		ok      bool
	}{{tls.VersionTLS10, false}, {tls.VersionTLS11, false}, {tls.VersionTLS12, true}, {tls.VersionTLS13, true}} {
		t.Run(tls.VersionName(tt.version), func(t *testing.T) {
			t.Parallel()
			c, err := netsmtp.Dial(addr)
			must(t, err)
			defer c.Close()
			config := s.clientTLS()
			config.MinVersion, config.MaxVersion = tt.version, tt.version
			err = c.StartTLS(config)
			if (err == nil) != tt.ok {
				t.Fatalf("StartTLS: %v", err)
			}
			if err != nil {
				if err := c.Mail("sender@outside.example"); err == nil {
					t.Error("the session went on after a failed handshake")
				}
			}
		})
	}
}

func TestOneWritePerGroup(t *testing.T) {
	t.Parallel()
	s := newServer(t, MX, nil)
	client, srv := net.Pipe()
	counted := &countingConn{Conn: srv}
	done := make(chan struct{})
	go func() { defer close(done); s.ServeConn(context.WithoutCancel(t.Context()), counted) }()
	c := newTalk(t, client)
	c.want("220")
	c.do("EHLO client.example", "250")
	before := counted.writes
	var group bytes.Buffer
	group.WriteString("MAIL FROM:<sender@outside.example>\r\n")
	for i := range 20 {
		fmt.Fprintf(&group, "RCPT TO:<r%d@corp.example>\r\n", i)
	}
	group.WriteString("DATA\r\n")
	c.send(group.String())
	for range 21 {
		c.want("250")
	}
	c.want("354")
	client.Close()
	<-done
	// The replies come with one write; the second is that the connection ends.
	if n := counted.writes - before; n != 1 {
		t.Errorf("22 replies took %d writes", n)
	}
}

// countingConn counts writes.
type countingConn struct {
	net.Conn
	writes int
}

func (c *countingConn) Write(p []byte) (int, error) {
	c.writes++
	return c.Conn.Write(p)
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func host(addr string) string { h, _, _ := net.SplitHostPort(addr); return h }

func port(addr string) string { _, p, _ := net.SplitHostPort(addr); return p }
