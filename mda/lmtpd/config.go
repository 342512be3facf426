package lmtpd

import (
	"fmt"
	"net/netip"
	"time"

	"dirpost/internal/envelope"
)

// Config is what one listener is told. DefaultConfig fills it.
type Config struct {
	// Hostname is our name in the banner.
	Hostname string
	// Clients may connect over TCP; a unix socket is guarded by its mode.
	Clients []netip.Prefix

	MaxSize        int64 // octets a message
	MaxRecipients  int   // recipients a message
	MaxConnections int   // open at once

	ReadTimeout   time.Duration // for each read
	WriteTimeout  time.Duration // for each write
	RcptTimeout   time.Duration // for our look at a recipient
	CommitTimeout time.Duration // for the acceptance of a message
	// Grace is how long transactions may go on when the server shuts down.
	Grace time.Duration
}

// DefaultConfig returns the settings at the host name given: clients on this host
// only.
func DefaultConfig(hostname string) Config {
	return Config{
		Hostname:       hostname,
		Clients:        []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")},
		MaxSize:        75 << 20,
		MaxRecipients:  1000,
		MaxConnections: 500,
		ReadTimeout:    5 * time.Minute,
		WriteTimeout:   time.Minute,
		RcptTimeout:    time.Minute,
		CommitTimeout:  9 * time.Minute,
		Grace:          20 * time.Second,
	}
}

// Validate reports a setting that cannot be meant.
func (c Config) Validate() error {
	if _, err := envelope.ParseDomain(c.Hostname); err != nil {
		return fmt.Errorf("hostname %q is neither a domain nor an address literal", c.Hostname)
	}
	if c.MaxSize < 1 || c.MaxRecipients < 1 || c.MaxConnections < 1 {
		return fmt.Errorf("a limit must be positive")
	}
	for _, d := range []time.Duration{c.ReadTimeout, c.WriteTimeout, c.RcptTimeout, c.CommitTimeout} {
		if d <= 0 {
			return fmt.Errorf("a timeout must be positive: without it a silent client holds its connection for ever")
		}
	}
	if c.Grace < 0 {
		return fmt.Errorf("grace is negative")
	}
	return nil
}
