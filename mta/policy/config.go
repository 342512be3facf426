package policy

import (
	"errors"
	"fmt"
	"net/netip"
	"time"
)

var errMode = errors.New(`mode is "off", "junk" or "reject"`)

// Config chooses the checks that need no service outside, for one listener.
type Config struct {
	// Exempt clients are not counted and their HELO is not judged.
	Exempt []netip.Prefix

	// Limits per client address; 0 means none.
	MaxConnections int           // open at once
	MaxConnects    int           // new connections per Window
	MaxMessages    int           // MAIL commands per Window
	MaxRecipients  int           // RCPT commands per Window
	Window         time.Duration // default one minute

	// OwnNames are what no client may call itself: our host name and domains.
	OwnNames []string
	// HeloOwnName is what to do with a client that calls itself by them.
	HeloOwnName Mode
	// HeloSyntax is what to do with a HELO that is neither a domain nor an
	// address literal. RFC 5321 §4.1.4 forbids to refuse a name only because
	// it does not verify, not to refuse what is no name.
	HeloSyntax Mode
	// SenderSyntax is what to do with a sender whose domain cannot exist on the
	// Internet: a single label, or a top level of digits.
	SenderSyntax Mode
	// NullRecipients is how many recipients a message with the null
	// reverse-path may have; 0 means any number. A report goes to one.
	NullRecipients int
	// MaxHops is how many Received fields a message may bring; RFC 5321 §6.3
	// asks for at least 100. 0 means any number.
	MaxHops int
}

// DefaultConfig is what suits port 25.
func DefaultConfig() Config {
	return Config{
		Exempt:         []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")},
		MaxConnections: 50,
		Window:         time.Minute,
		HeloOwnName:    ModeReject,
		NullRecipients: 1,
		MaxHops:        100,
	}
}

// Validate reports a setting that cannot be meant.
func (c Config) Validate() error {
	for _, n := range []struct {
		name  string
		value int
	}{
		{"max_connections", c.MaxConnections}, {"max_connects", c.MaxConnects}, {"max_messages", c.MaxMessages},
		{"max_recipients", c.MaxRecipients}, {"null_recipients", c.NullRecipients}, {"max_hops", c.MaxHops},
	} {
		if n.value < 0 {
			return fmt.Errorf("%s is negative: %d", n.name, n.value)
		}
	}
	if c.Window < 0 {
		return fmt.Errorf("window is negative: %v", c.Window)
	}
	return nil
}

// Checks returns the checks that c asks for, in the order in which they should
// stand before any that costs a look-up.
func (c Config) Checks() []Check {
	return []Check{newClients(c), helo{c}, sender{c.SenderSyntax}, nullSender{c.NullRecipients}, hops{c.MaxHops}}
}
