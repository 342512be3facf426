package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"time"

	"dirpost/internal/bus"
	"dirpost/internal/resolver"
	"dirpost/mda"
	"dirpost/mta/intake"
	"dirpost/mta/policy"
	"dirpost/mta/queue"
)

// buildMTA builds the door in, the queue behind it, and what works on the queue.
func (n *node) buildMTA(ctx context.Context) error {
	if !n.has(roleMX, roleMSA, roleQueue) {
		return nil
	}
	if err := n.buildResolver(); err != nil {
		return fmt.Errorf("mta.resolvers: %w", err)
	}
	q := queue.New(n.db, queue.Config{
		Lifetime: time.Duration(n.file.MTA.Lifetime),
		Publish:  func() { n.bus.Publish(bus.TopicQueue, "") },
	})
	var err error
	if n.policy, err = n.file.policy(); err != nil {
		return err
	}
	c := intake.Config{Hostname: n.file.Server.Name, MaxSize: int64(n.file.MTA.MaxSize), MaxRecipients: n.file.MTA.MaxRecipients, InTransaction: n.file.MTA.InTransaction}
	if err := c.Validate(); err != nil {
		return fmt.Errorf("mta: %w", err)
	}
	n.door = intake.New(c, intake.Deps{
		DB: n.db, Store: n.store, Blobs: n.blobs, Queue: q, Directory: n.live,
		Planner: mda.NewAgent(mda.DefaultConfig(), n.store), Events: n.events, Log: n.log,
	})
	return nil
}

// resolvConf is where the system says whom to ask.
const resolvConf = "/etc/resolv.conf"

func (n *node) buildResolver() (err error) {
	c := resolver.Config{Servers: n.file.MTA.Resolvers}
	if len(c.Servers) == 0 {
		file, err := os.Open(resolvConf)
		switch {
		case err == nil:
			defer file.Close()
			if c, err = resolver.ReadResolvConf(file); err != nil {
				return fmt.Errorf("%s: %w", resolvConf, err)
			}
		case !errors.Is(err, fs.ErrNotExist):
			return err
		default:
			c.Servers = []string{"127.0.0.1"}
		}
	}
	n.resolver, err = resolver.New(c)
	return err
}

// policy is what port 25 lets clients do. It is one for all listeners, since it
// counts clients.
func (f *File) policy() (*policy.Policy, error) {
	s := f.MTA.Policy
	c := policy.Config{
		MaxConnections: s.MaxConnections, MaxConnects: s.MaxConnects, MaxMessages: s.MaxMessages, MaxRecipients: s.MaxRecipients,
		Window: time.Duration(s.Window), HeloOwnName: s.HeloOwnName, HeloSyntax: s.HeloSyntax, SenderSyntax: s.SenderSyntax,
		NullRecipients: s.NullRecipients, MaxHops: s.MaxHops, OwnNames: append([]string{f.Server.Name}, f.Domains.Local...),
	}
	for _, n := range s.Exempt {
		c.Exempt = append(c.Exempt, netip.MustParsePrefix(n)) // checked by validate
	}
	if err := c.Validate(); err != nil {
		return nil, fmt.Errorf("mta.policy: %w", err)
	}
	return policy.New(c.Checks()...), nil
}
