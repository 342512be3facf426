package auth

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"dirpost/directory"
)

// Config is what an administrator decides about logins.
type Config struct {
	// PlaintextLoopback takes passwords without TLS from clients on the same
	// host, such as a webmail. From anywhere else they need TLS, always.
	PlaintextLoopback bool
	// FailureTime is when every refusal is answered, counted from when the
	// credentials came: whatever was done in between, and whether the person
	// exists, takes the same time. The default is 2 s; tests set less.
	FailureTime time.Duration
	// ChangeURL is where people change their password, "" where there is no such page.
	// Who logs in with one that has expired is told.
	ChangeURL string
	// BindTimeout bounds one judgement by the directory. The default is 10 s.
	BindTimeout time.Duration
	// Remember is how long a right password is remembered in memory, under a
	// keyed hash, and not asked of the directory again. It is forgotten at once
	// when the snapshot learns that anything about the entry has changed, its
	// password too: in milliseconds by syncrepl, at the next comparison where
	// the directory is polled. 0 remembers nothing.
	Remember time.Duration
	// RememberMax is how many are remembered, default 100,000.
	RememberMax int
	// GuessBurst is how many wrong logins one client (an IPv4 address, an IPv6
	// /64) may make before the directory is no longer asked for it, and
	// GuessEvery the time after which it may make one more. The defaults are 30
	// and 10 s.
	GuessBurst int
	GuessEvery time.Duration
	// Inside are the networks of the house. nil means that nobody has said which
	// they are: then every network counts as one. See Door.
	Inside []netip.Prefix
	// OutsidePasswordGroups are those groups of the directory whose members may log
	// in with the bare password of the domain from outside; "*" is everybody. See
	// directory.ValidateGroup for how they are named.
	OutsidePasswordGroups []string
	// Masters are those groups whose members may act as everybody (RFC 4422 §2:
	// authorization identity): for migrations, backups and the help desk.
	Masters []string
}

func (c Config) withDefaults() Config {
	if c.FailureTime == 0 {
		c.FailureTime = 2 * time.Second
	}
	if c.BindTimeout == 0 {
		c.BindTimeout = 10 * time.Second
	}
	if c.RememberMax == 0 {
		c.RememberMax = 100_000
	}
	if c.GuessBurst == 0 {
		c.GuessBurst = 30
	}
	if c.GuessEvery == 0 {
		c.GuessEvery = 10 * time.Second
	}
	return c
}

// Validate reports what is wrong with c, in the words of the configuration.
func (c Config) Validate() error {
	var errs []error
	for _, d := range []struct {
		name string
		d    time.Duration
		max  time.Duration
	}{
		{"failure_time", c.FailureTime, 30 * time.Second},
		{"bind_timeout", c.BindTimeout, time.Minute},
		{"remember", c.Remember, 24 * time.Hour},
		{"guess_every", c.GuessEvery, time.Hour},
	} {
		if d.d < 0 || d.d > d.max {
			errs = append(errs, errors.New(d.name+": want between 0 and "+d.max.String()))
		}
	}
	if c.RememberMax < 0 {
		errs = append(errs, errors.New("remember_max: must not be negative"))
	}
	if c.GuessBurst < 0 {
		errs = append(errs, errors.New("guess_burst: must not be negative"))
	}
	for name, groups := range map[string][]string{"outside_password_groups": c.OutsidePasswordGroups, "masters": c.Masters} {
		for _, g := range groups {
			if err := directory.ValidateGroup(g); err != nil {
				errs = append(errs, fmt.Errorf("%s: %w", name, err))
			}
		}
	}
	if slices.Contains(c.Masters, directory.Everybody) {
		errs = append(errs, errors.New("masters: everybody may not act as everybody: name a group"))
	}
	return errors.Join(errs...)
}
