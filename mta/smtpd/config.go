package smtpd

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	"dirpost/internal/envelope"
)

// Role says for whom a server works.
type Role uint8

// The roles.
const (
	MX  Role = iota // mail for us, from anyone
	MSA             // mail for anywhere, from people who have logged in
)

// String returns the role's name, for log and metrics.
func (r Role) String() string {
	if r == MSA {
		return "msa"
	}
	return "mx"
}

// Config is what one listener is told. DefaultConfig fills it.
type Config struct {
	Role Role
	// Hostname is our name in the banner and in the answer to EHLO. It must be
	// a domain or an address literal (RFC 5321 §4.1.1.1).
	Hostname string
	// PostmasterDomain is where <Postmaster> without a domain is (RFC 5321
	// §4.5.1): the first of our own domains; Hostname if empty.
	PostmasterDomain string
	// ImplicitTLS makes TLS begin with the connection (RFC 8314 §3.3).
	ImplicitTLS bool
	// Proxies are networks whose connections begin with a PROXY header, version
	// 1 or 2. From nobody else is one understood.
	Proxies []netip.Prefix

	MaxSize        int64 // octets a message
	MaxRecipients  int   // recipients a message
	MaxContentLine int   // octets a line of content; RFC 5321 §4.5.3.1.6 demands 998

	MaxConnections int // open at once, of all clients
	// MaxPerClient is how many one client address, or one IPv6 network of 64
	// bits, may have open at once; 0 is no limit.
	MaxPerClient int
	MaxMessages  int // messages a connection
	MaxIdle      int // commands in a row that do not lead to a message

	// After SoftErrors mistakes each further one is answered after ErrorDelay;
	// HardErrors end the connection. A message that is accepted clears the
	// count. MaxAuthFailures wrong passwords end the connection.
	SoftErrors      int
	HardErrors      int
	ErrorDelay      time.Duration
	MaxAuthFailures int

	// Impatient lets clients of an MX send before they are asked: those of
	// this machine, whose programs write a whole dialogue at once (-bs).
	Impatient bool
	// GreetPause is how long a client of an MX must wait for the banner; one
	// that talks earlier is refused. 0 refuses those who have talked already
	// when the connection is accepted.
	GreetPause time.Duration
	// CommandTimeout bounds a command line as a whole and the wait for it
	// (RFC 5321 §4.5.3.2.7: at least five minutes).
	CommandTimeout time.Duration
	// DataTimeout bounds the wait for more content (RFC 5321 §4.5.3.2.5:
	// at least three minutes). Content must come at MinRate octets a second
	// once DataTimeout has passed; 0 demands nothing.
	DataTimeout time.Duration
	MinRate     int64
	// WriteTimeout bounds a write of replies, give or take an eighth.
	WriteTimeout time.Duration
	// TLSTimeout bounds a handshake, AuthTimeout the answer to a command of an
	// AUTH exchange, RcptTimeout our look at a recipient, CommitTimeout the
	// acceptance of a message (the client waits ten minutes for it, RFC 5321
	// §4.5.3.2.6).
	TLSTimeout    time.Duration
	RcptTimeout   time.Duration
	CommitTimeout time.Duration
	// Grace is how long transactions may go on when the server shuts down.
	Grace time.Duration
}

// DefaultConfig returns the settings for role at the host name given.
func DefaultConfig(role Role, hostname string) Config {
	perClient := 0 // on port 25 policy counts, and knows who is exempt
	if role == MSA {
		perClient = 500 // an office behind one address
	}
	return Config{
		MaxPerClient:    perClient,
		Role:            role,
		Hostname:        hostname,
		MaxSize:         75 << 20,
		MaxRecipients:   1000,
		MaxContentLine:  64 << 10,
		MaxConnections:  5000,
		MaxMessages:     100_000,
		MaxIdle:         200,
		SoftErrors:      10,
		HardErrors:      100,
		ErrorDelay:      time.Second,
		MaxAuthFailures: 3,
		CommandTimeout:  5 * time.Minute,
		DataTimeout:     5 * time.Minute,
		MinRate:         200,
		WriteTimeout:    time.Minute,
		TLSTimeout:      time.Minute,
		RcptTimeout:     time.Minute,
		CommitTimeout:   9 * time.Minute,
		Grace:           20 * time.Second,
	}
}

// Validate reports a setting that cannot be meant.
func (c Config) Validate() error {
	if _, err := envelope.ParseDomain(c.Hostname); err != nil {
		return fmt.Errorf("hostname %q is neither a domain nor an address literal", c.Hostname)
	}
	if _, err := envelope.ParseDomain(c.PostmasterDomain); err != nil && c.PostmasterDomain != "" {
		return fmt.Errorf("domain of the postmaster: %q is no domain", c.PostmasterDomain)
	}
	for _, n := range []struct {
		name         string
		value, least int64
	}{
		{"max_size", c.MaxSize, 1}, {"max_recipients", int64(c.MaxRecipients), 100}, // RFC 5321 §4.5.3.1.8
		{"max_content_line", int64(c.MaxContentLine), 998},
		{"max_connections", int64(c.MaxConnections), 1}, {"max_messages", int64(c.MaxMessages), 1},
		{"max_idle", int64(c.MaxIdle), 10}, {"hard_errors", int64(c.HardErrors), 1},
		{"max_per_client", int64(c.MaxPerClient), 0}, {"soft_errors", int64(c.SoftErrors), 0}, {"max_auth_failures", int64(c.MaxAuthFailures), 1},
		{"min_rate", c.MinRate, 0},
	} {
		if n.value < n.least {
			return fmt.Errorf("%s must be at least %d", n.name, n.least)
		}
	}
	for _, d := range []time.Duration{c.CommandTimeout, c.DataTimeout, c.WriteTimeout, c.TLSTimeout, c.RcptTimeout, c.CommitTimeout} {
		if d <= 0 {
			return errors.New("a timeout must be positive: without it a silent client holds its connection for ever")
		}
	}
	if c.GreetPause < 0 || c.ErrorDelay < 0 || c.Grace < 0 {
		return errors.New("a duration is negative")
	}
	return nil
}
