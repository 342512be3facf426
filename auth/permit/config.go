package permit

import (
	"errors"
	"fmt"
	"time"
)

// Config is what an administrator decides about guesses.
type Config struct {
	// Reserve is how many of the wrong passwords that the directory forgives are
	// kept for logins that we have reason to believe. It is made smaller where
	// strangers would be left with none. The default is 1.
	Reserve int
	// Floor is taken for the threshold of the directory where its rule for a person
	// cannot be read, and FloorWindow for its window. The defaults are 3 and 30 min.
	Floor       int
	FloorWindow time.Duration
	// Generous is how many wrong passwords of strangers for one person are judged
	// within FloorWindow by a directory that locks nobody. The default is 100.
	Generous int
	// Familiar is how long a network or a client certificate is remembered that
	// somebody has logged in from, and FamiliarMax how many of one person. The
	// defaults are 60 days and 50.
	Familiar    time.Duration
	FamiliarMax int
	// Refused is how long a wrong password is remembered, and refused to the same
	// person without asking again, unless the entry changes. It should be longer
	// than the window of the directory. The default is 1 h.
	Refused time.Duration
	// SprayAccounts is at how many accounts a password must have failed within
	// SprayWindow to be refused to every stranger, for as long again. The defaults
	// are 10 and 1 h.
	SprayAccounts int
	SprayWindow   time.Duration
	// NetworkBurst is how many wrong passwords one client (an IPv4 address, an IPv6
	// /64) may try before it is no longer served as a stranger, NetworkEvery the
	// time after which it may try one more. The defaults are 30 and 10 s.
	NetworkBurst int
	NetworkEvery time.Duration
	// NetworkHour is how many it may try on all nodes together in an hour. The
	// default is 300.
	NetworkHour int
	// AttackWrong is from how many wrong logins within five minutes on, and
	// AttackShare from which part of these and of logins from new places on, strangers
	// are slowed everywhere. The defaults are 200 and 0.5.
	AttackWrong int
	AttackShare float64
	// Slow is how long strangers wait then before anything is done about them. The
	// bridge sets it to the time of its refusals.
	Slow time.Duration
}

// DefaultConfig returns the configuration of somebody who decides nothing.
func DefaultConfig() Config {
	return Config{
		Reserve: 1, Floor: 3, FloorWindow: 30 * time.Minute, Generous: 100,
		Familiar: 60 * 24 * time.Hour, FamiliarMax: 50,
		Refused:       time.Hour,
		SprayAccounts: 10, SprayWindow: time.Hour,
		NetworkBurst: 30, NetworkEvery: 10 * time.Second, NetworkHour: 300,
		AttackWrong: 200, AttackShare: 0.5, Slow: 2 * time.Second,
	}
}

// Validate reports what is wrong with c, in the words of the configuration.
func (c Config) Validate() error {
	var errs []error
	wrong := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	for _, n := range []struct {
		name           string
		n, least, most int
	}{
		{"reserve", c.Reserve, 0, 100},
		{"floor", c.Floor, 2, 1000},
		{"generous", c.Generous, 1, 1_000_000},
		{"familiar_max", c.FamiliarMax, 1, 1000},
		{"spray_accounts", c.SprayAccounts, 2, 1000},
		{"network_burst", c.NetworkBurst, 1, 1_000_000},
		{"network_hour", c.NetworkHour, 1, 1_000_000_000},
		{"attack_wrong", c.AttackWrong, 1, 1_000_000_000},
	} {
		if n.n < n.least || n.n > n.most {
			wrong("%s: want %d to %d, not %d", n.name, n.least, n.most, n.n)
		}
	}
	for _, d := range []struct {
		name        string
		d           time.Duration
		least, most time.Duration
	}{
		{"floor_window", c.FloorWindow, time.Second, 30 * 24 * time.Hour},
		{"familiar", c.Familiar, time.Minute, 10 * 365 * 24 * time.Hour},
		{"refused", c.Refused, time.Second, 30 * 24 * time.Hour},
		{"spray_window", c.SprayWindow, time.Second, 30 * 24 * time.Hour},
		{"network_every", c.NetworkEvery, time.Millisecond, time.Hour},
		{"slow", c.Slow, 0, time.Minute},
	} {
		if d.d < d.least || d.d > d.most {
			wrong("%s: want between %v and %v", d.name, d.least, d.most)
		}
	}
	if !(c.AttackShare > 0 && c.AttackShare <= 1) {
		wrong("attack_share: want more than 0 and at most 1")
	}
	return errors.Join(errs...)
}
