package remote

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"log/slog"
	"net/netip"
	"time"

	"dirpost/mta/route"
)

// Config says how to speak to the next hop.
type Config struct {
	// Hostname is the argument of EHLO: our public name.
	Hostname string
	// Bind4 and Bind6 are the local addresses to connect from; invalid: any.
	Bind4, Bind6 netip.Addr
	// TLS is the level for mail exchangers and given hops without a Policy
	// of their own; 0: opportunistic.
	TLS TLSLevel
	// SmarthostTLS is the level for the smarthost; 0: verified.
	SmarthostTLS TLSLevel
	// Roots verify certificates; nil: those of the system.
	Roots *x509.CertPool
	// Login authenticates us to the smarthost; nil: no AUTH.
	Login *Login
	// Policy decides for a hop what TLS must prove (DANE, MTA-STS); nil: the
	// levels above do. An error is temporary.
	Policy func(ctx context.Context, rt *route.Route, hop route.Hop) (TLSPolicy, error)
	// Resigner renews our signatures of a message that is converted for a next
	// hop without 8BITMIME; nil: they break.
	Resigner Resigner
	// Timeouts of a conversation; zero fields take those of RFC 5321 §4.5.3.2.
	Timeouts Timeouts
	// KeepIdle is how long a connection waits for the next message to its
	// route; 0: 2 s, negative: not at all.
	KeepIdle time.Duration
	// MaxMessages ends a connection after so many messages; 0: 100.
	MaxMessages int
	// MaxRecipients bounds the recipients of a transaction; 0: 100.
	MaxRecipients int
}

// Timeouts bound what we wait for.
type Timeouts struct {
	Connect  time.Duration // 30 s
	Greeting time.Duration // 5 min
	Command  time.Duration // 5 min: EHLO, STARTTLS, AUTH, MAIL, RCPT
	Data     time.Duration // 2 min: the 354
	Progress time.Duration // 3 min: for each 32 KiB to be taken
	Final    time.Duration // 10 min: the reply to the end of data
	Quit     time.Duration // 5 s
}

// TLSLevel says how much TLS is asked for.
type TLSLevel uint8

// The levels.
const (
	TLSOpportunistic TLSLevel = iota + 1 // if it is offered and works, without verification (RFC 7435)
	TLSNone                              // never
	TLSEncrypt                           // always, without verification
	TLSVerify                            // always, with a certificate for the host's name
)

// TLSPolicy is what the way to one hop must fulfil.
type TLSPolicy struct {
	Level TLSLevel
	// Verify, if not nil, judges the connection instead of the usual
	// verification: DANE records, names of an MTA-STS policy.
	Verify func(tls.ConnectionState) error
}

// Login is a name and a password for the smarthost.
type Login struct {
	User, Password string
	// AllowClear permits the password without TLS.
	AllowClear bool
}

// LogValue keeps the password out of every log.
func (l *Login) LogValue() slog.Value { return slog.StringValue("[redacted]") }

// String is for those who print instead of log.
func (l *Login) String() string { return "[redacted]" }

// Validate reports what is wrong with c.
func (c Config) Validate() error {
	switch {
	case c.Hostname == "":
		return errors.New("remote: our host name is empty")
	case c.Bind4.IsValid() && !c.Bind4.Is4() || c.Bind6.IsValid() && !c.Bind6.Is6():
		return errors.New("remote: local address of the wrong family")
	case c.TLS > TLSVerify || c.SmarthostTLS > TLSVerify:
		return errors.New("remote: unknown TLS level")
	case c.Login != nil && (c.Login.User == "" || c.Login.Password == ""):
		return errors.New("remote: login for the smarthost without name or password")
	case c.MaxMessages < 0 || c.MaxRecipients < 0:
		return errors.New("remote: limits must not be negative")
	}
	return nil
}

func (c Config) withDefaults() Config {
	set := func(d *time.Duration, def time.Duration) {
		if *d == 0 {
			*d = def
		}
	}
	set(&c.Timeouts.Connect, 30*time.Second)
	set(&c.Timeouts.Greeting, 5*time.Minute)
	set(&c.Timeouts.Command, 5*time.Minute)
	set(&c.Timeouts.Data, 2*time.Minute)
	set(&c.Timeouts.Progress, 3*time.Minute)
	set(&c.Timeouts.Final, 10*time.Minute)
	set(&c.Timeouts.Quit, 5*time.Second)
	set(&c.KeepIdle, 2*time.Second)
	if c.TLS == 0 {
		c.TLS = TLSOpportunistic
	}
	if c.SmarthostTLS == 0 {
		c.SmarthostTLS = TLSVerify
	}
	if c.MaxMessages == 0 {
		c.MaxMessages = 100
	}
	if c.MaxRecipients == 0 {
		c.MaxRecipients = 100
	}
	return c
}
