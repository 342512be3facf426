package resolver

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strconv"
	"strings"
	"time"
)

// Config says whom to ask and how patiently.
type Config struct {
	// Servers are the recursive resolvers, IP address with optional port
	// ("192.0.2.53", "[2001:db8::53]:5353"), in the order of preference.
	Servers []string
	// TrustAD believes the authenticated-data bit of the servers. Only for
	// validating resolvers that are reached without a network in between.
	TrustAD bool
	// Timeout is how long one server is waited for; 0: 5 s.
	Timeout time.Duration
	// Attempts is how often the whole list is tried; 0: 2.
	Attempts int
	// CacheSize bounds the cache, in octets of answers; 0: 16 MiB.
	CacheSize int
	// MaxTTL bounds how long a positive answer is kept; 0: 1 day.
	MaxTTL time.Duration
	// MaxNegativeTTL bounds how long the absence of a name or record is
	// believed; 0: 15 min.
	MaxNegativeTTL time.Duration
}

// Validate reports what is wrong with c.
func (c Config) Validate() error {
	if len(c.Servers) == 0 {
		return errors.New("no DNS server is configured")
	}
	for _, s := range c.Servers {
		if _, err := serverAddr(s); err != nil {
			return err
		}
	}
	if c.Timeout < 0 || c.Attempts < 0 || c.CacheSize < 0 || c.MaxTTL < 0 || c.MaxNegativeTTL < 0 {
		return errors.New("DNS timeouts, attempts and cache bounds must not be negative")
	}
	return nil
}

func (c Config) withDefaults() Config {
	if c.Timeout == 0 {
		c.Timeout = 5 * time.Second
	}
	if c.Attempts == 0 {
		c.Attempts = 2
	}
	if c.CacheSize == 0 {
		c.CacheSize = 16 << 20
	}
	if c.MaxTTL == 0 {
		c.MaxTTL = 24 * time.Hour
	}
	if c.MaxNegativeTTL == 0 {
		c.MaxNegativeTTL = 15 * time.Minute
	}
	return c
}

// serverAddr reads one element of Config.Servers.
func serverAddr(s string) (netip.AddrPort, error) {
	if ap, err := netip.ParseAddrPort(s); err == nil && ap.Port() != 0 {
		return ap, nil
	}
	ip, err := netip.ParseAddr(strings.TrimSuffix(strings.TrimPrefix(s, "["), "]"))
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("DNS server %q: want an IP address with an optional port", s)
	}
	return netip.AddrPortFrom(ip, 53), nil
}

// maxResolvConf bounds how much of a resolv.conf is read.
const maxResolvConf = 64 << 10

// ReadResolvConf reads the settings of a resolv.conf: nameserver lines and the
// options timeout, attempts and trust-ad. Search lists are of no use to mail
// and ignored. Without a nameserver line it is the one of this machine, as the
// system's own resolver has it.
func ReadResolvConf(r io.Reader) (Config, error) {
	var c Config
	lines := bufio.NewScanner(io.LimitReader(r, maxResolvConf))
	for lines.Scan() {
		line := lines.Text()
		if i := strings.IndexAny(line, "#;"); i >= 0 {
			line = line[:i]
		}
		f := strings.Fields(line)
		switch {
		case len(f) < 2:
		case f[0] == "nameserver":
			if _, err := serverAddr(f[1]); err == nil {
				c.Servers = append(c.Servers, f[1])
			}
		case f[0] == "options":
			for _, o := range f[1:] {
				c.option(o)
			}
		}
	}
	if err := lines.Err(); err != nil {
		return Config{}, fmt.Errorf("read resolv.conf: %w", err)
	}
	if len(c.Servers) == 0 {
		c.Servers = []string{"127.0.0.1"}
	}
	return c, nil
}

func (c *Config) option(o string) {
	name, value, _ := strings.Cut(o, ":")
	n, err := strconv.Atoi(value)
	switch {
	case name == "trust-ad":
		c.TrustAD = true
	case err != nil || n < 1:
	case name == "timeout":
		c.Timeout = time.Duration(min(n, 30)) * time.Second
	case name == "attempts":
		c.Attempts = min(n, 5)
	}
}
