package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"dirpost/auth/permit"
	"dirpost/directory"
	"dirpost/directory/ldap"
)

// PermitsSection is [auth.permits].
type PermitsSection struct {
	Enabled       bool     `toml:"enabled"`
	Reserve       int      `toml:"reserve"`
	Floor         int      `toml:"floor"`
	FloorWindow   Duration `toml:"floor_window"`
	Generous      int      `toml:"generous"`
	Familiar      Duration `toml:"familiar"`
	FamiliarMax   int      `toml:"familiar_max"`
	Refused       Duration `toml:"refused"`
	SprayAccounts int      `toml:"spray_accounts"`
	SprayWindow   Duration `toml:"spray_window"`
	NetworkBurst  int      `toml:"network_burst"`
	NetworkEvery  Duration `toml:"network_every"`
	NetworkHour   int      `toml:"network_hour"`
	AttackWrong   int      `toml:"attack_wrong"`
	AttackShare   float64  `toml:"attack_share"`
}

// defaultPermits is the section of an empty file.
func defaultPermits() PermitsSection {
	c := permit.DefaultConfig()
	return PermitsSection{
		Enabled: true, Reserve: c.Reserve, Floor: c.Floor, FloorWindow: Duration(c.FloorWindow), Generous: c.Generous,
		Familiar: Duration(c.Familiar), FamiliarMax: c.FamiliarMax, Refused: Duration(c.Refused),
		SprayAccounts: c.SprayAccounts, SprayWindow: Duration(c.SprayWindow),
		NetworkBurst: c.NetworkBurst, NetworkEvery: Duration(c.NetworkEvery), NetworkHour: c.NetworkHour,
		AttackWrong: c.AttackWrong, AttackShare: c.AttackShare,
	}
}

// permits is the section as the package has it.
func (a AuthSection) permits() (permit.Config, error) {
	p := a.Permits
	c := permit.Config{
		Reserve: p.Reserve, Floor: p.Floor, FloorWindow: time.Duration(p.FloorWindow), Generous: p.Generous,
		Familiar: time.Duration(p.Familiar), FamiliarMax: p.FamiliarMax, Refused: time.Duration(p.Refused),
		SprayAccounts: p.SprayAccounts, SprayWindow: time.Duration(p.SprayWindow),
		NetworkBurst: p.NetworkBurst, NetworkEvery: time.Duration(p.NetworkEvery), NetworkHour: p.NetworkHour,
		AttackWrong: p.AttackWrong, AttackShare: p.AttackShare, Slow: time.Duration(a.FailureTime),
	}
	if err := c.Validate(); err != nil {
		return c, fmt.Errorf("permits: %w", err)
	}
	return c, nil
}

// permits builds the permits, nil where they are off. Without a sealing key, or on a
// node that was not given it, what is made of passwords stays in the process.
func (n *node) permits() (*permit.Counter, error) {
	if !n.file.Auth.Permits.Enabled {
		return nil, nil
	}
	c, err := n.file.Auth.permits()
	if err != nil {
		return nil, err
	}
	var keys [][]byte
	if n.file.Server.SealingKey.String() != "" {
		sealer, err := n.file.sealer()
		switch {
		case err == nil:
			keys = sealer.Derive("permits")
		case errors.Is(err, fs.ErrNotExist): // a node that is to open nothing else
			n.log.Warn("what is known of wrong passwords and familiar networks is not shared with other nodes: there is no sealing key here", "err", err)
		default:
			return nil, err
		}
	}
	readers := make(map[string]permit.Reader, len(n.verifiers))
	for name, v := range n.verifiers {
		if r, ok := v.(permit.Reader); ok {
			readers[name] = r
		}
	}
	p := permit.New(n.db, c, keys, readers, n.log)
	n.register(p.Collectors()...)
	n.back = append(n.back, part{"permits", func(ctx context.Context) error { return p.Run(ctx, n.bus) }})
	n.closers = append(n.closers, func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		p.Close(ctx) // also of a node that never ran
	})
	return p, nil
}

// lockout says how many wrong passwords of a person a directory is asked about.
func (d *doctor) lockout(ctx context.Context, name string, client *ldap.Client) {
	c, err := d.file.Auth.permits()
	if err != nil || !d.file.Auth.Permits.Enabled {
		return
	}
	l, err := client.Lockout(ctx, &directory.Entry{DN: d.file.Directory[name].Base})
	subject := "lockout of " + name
	switch {
	case err != nil:
		d.bad(subject, "nobody can log in with a password until it can be asked for", err)
	case l.Hidden:
		d.warn(subject, "let the account read the rules, or set floor in [auth.permits] to the strictest: docs/lockout.md",
			"some rules about wrong passwords cannot be read, and one that locks after %d may be among them", c.Floor)
	case l.Threshold == 0:
		d.ok(subject, "it locks nobody")
	case l.Threshold == 1:
		d.warn(subject, "raise the threshold: no password can be judged without risk", "it locks at the first wrong password")
	default:
		d.ok(subject, "it locks after %d wrong passwords, and is asked about %d at most", l.Threshold, l.Threshold-1)
	}
}
