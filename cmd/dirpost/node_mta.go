package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"time"

	"dirpost/directory"
	"dirpost/internal/bus"
	"dirpost/internal/envelope"
	"dirpost/internal/resolver"
	"dirpost/internal/store"
	"dirpost/mda"
	"dirpost/mda/quota"
	"dirpost/mta/dkim"
	"dirpost/mta/intake"
	"dirpost/mta/policy"
	"dirpost/mta/qmgr"
	"dirpost/mta/queue"
	"dirpost/mta/remote"
	"dirpost/mta/reroute"
	"dirpost/mta/route"
	"dirpost/mta/verify"
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
	person, err := n.file.MTA.Submission.config()
	if err != nil {
		return fmt.Errorf("mta.submission: %w", err)
	}
	n.submission = policy.New(person.Check())
	c := intake.Config{Hostname: n.file.Server.Name, MaxSize: int64(n.file.MTA.MaxSize), MaxRecipients: n.file.MTA.MaxRecipients, InTransaction: n.file.MTA.InTransaction, ModerationTime: time.Duration(n.file.MTA.ModerationTime)}
	c.Authors = n.file.MTA.Submission.Departed == departedHold
	for _, text := range n.file.Domains.OtherClients {
		network, err := parseNetwork(text)
		if err != nil {
			return fmt.Errorf("domains.other_clients: %w", err)
		}
		c.OtherClients = append(c.OtherClients, network)
	}
	if err := c.Validate(); err != nil {
		return fmt.Errorf("mta: %w", err)
	}
	keys, err := n.signingKeys(ctx)
	if err != nil {
		return err
	}
	var signer intake.Signer
	if keys != nil {
		signer = keys
	}
	verifier, err := n.buildVerifier()
	if err != nil {
		return err
	}
	n.door = intake.New(c, intake.Deps{
		DB: n.db, Store: n.store, Blobs: n.blobs, Queue: q, Directory: n.live, Asker: n.asker,
		Planner: mda.NewAgent(mda.Config{Subaddress: n.file.MDA.Subaddress}, n.store), Signer: signer, Verifier: verifier, Events: n.events, Log: n.log,
	})
	n.register(n.door.Collectors()...)
	if !n.has(roleQueue) {
		return nil
	}
	warner, err := quota.New(quota.Config{Percent: n.file.MDA.QuotaWarning, Hostname: n.file.Server.Name, Postmaster: envelope.Address{Local: "postmaster", Domain: n.file.Domains.Local[0]}},
		n.db, n.live, n.door, n.log)
	if err != nil {
		return fmt.Errorf("mda: %w", err)
	}
	n.register(warner.Collectors()...)
	n.back = append(n.back,
		part{"quota warnings", warner.Run},
		part{"purge", func(ctx context.Context) error { return n.purge(ctx, q) }},
		part{"moderation", func(ctx context.Context) error { return q.Moderate(ctx, n.log) }})
	return n.buildQueueManager(q, keys)
}

// buildVerifier builds what asks the other system about addresses that nobody has
// here, nil where it is not to be asked.
func (n *node) buildVerifier() (intake.Verifier, error) {
	d := n.file.Domains
	if d.Unknown != "other" || !d.VerifyUnknown || n.file.MTA.Sink != "" || !n.has(roleMX, roleMSA) {
		return nil, nil
	}
	router, err := route.New(route.Config{Hostname: n.file.Server.Name}, n.resolver, nil)
	if err != nil {
		return nil, fmt.Errorf("domains.verify_unknown: %w", err)
	}
	// A client waits meanwhile.
	transport, err := remote.New(remote.Config{Hostname: n.file.Server.Name, KeepIdle: 30 * time.Second, Timeouts: remote.Timeouts{
		Connect: 5 * time.Second, Greeting: 15 * time.Second, Command: 15 * time.Second,
	}}, n.blobs, n.log)
	if err != nil {
		return nil, fmt.Errorf("domains.verify_unknown: %w", err)
	}
	n.closers = append(n.closers, transport.Close)
	v := verify.New(n.db, router, transport, n.log)
	n.register(v.Collectors()...)
	n.back = append(n.back, part{"recipient verification", v.Run})
	return v, nil
}

// buildQueueManager builds the door out: routes, the SMTP client, and who works
// on the queue.
func (n *node) buildQueueManager(q *queue.Queue, keys *dkim.Keys) error {
	f := n.file
	router, err := route.New(route.Config{Hostname: f.Server.Name, Addresses: ownAddresses(), Smarthost: f.MTA.Smarthost}, n.resolver, n.inside())
	if err != nil {
		return fmt.Errorf("mta: %w", err)
	}
	c := remote.Config{Hostname: f.Server.Name, SmarthostTLS: tlsLevels[f.MTA.SmarthostTLS]}
	if keys != nil {
		c.Resigner = keys
	}
	if f.MTA.SmarthostUser != "" {
		password, err := f.MTA.SmarthostPassword.Resolve()
		if err != nil {
			return fmt.Errorf("mta.smarthost_password: %w", err)
		}
		c.Login = &remote.Login{User: f.MTA.SmarthostUser, Password: password}
	}
	if err := c.Validate(); err != nil {
		return fmt.Errorf("mta: %w", err)
	}
	transport, err := remote.New(c, n.blobs, n.log)
	if err != nil {
		return fmt.Errorf("mta: %w", err)
	}
	n.closers = append(n.closers, transport.Close)
	postmaster, err := envelope.ParseAddress(f.Domains.Postmaster)
	if err != nil {
		return fmt.Errorf("domains.postmaster: %w", err)
	}
	m, err := qmgr.New(qmgr.Config{
		Node: n.name(), Hostname: f.Server.Name, Postmaster: postmaster, LocalSlice: f.MTA.InTransaction, DelayWarning: time.Duration(f.MTA.DelayWarning),
	}, qmgr.Deps{
		Queue: q, Blobs: n.blobs, Router: router, Transport: transport, Local: n.door, Originator: n.door, Now: n.db.Now, Departed: n.departed(), Moved: n.door.Moved, Events: n.events, Log: n.log,
	})
	if err != nil {
		return fmt.Errorf("mta: %w", err)
	}
	n.register(m.Collectors()...)
	n.register(newQueueMetrics(q, n.db.Now))
	cancel := n.bus.Subscribe(bus.TopicQueue, func(string) { q.WakeHere() })
	n.closers = append(n.closers, cancel)
	moves := reroute.New(n.live, q, n.log)
	n.register(moves.Collectors()...)
	n.back = append(n.back, part{"queue manager", m.Run}, part{"waiting mail", moves.Run})
	return nil
}

// ownAddresses are those of this machine: a domain whose exchanger has one of them
// would be sent to ourselves (RFC 5321 §5.1). Without them our name alone tells.
func ownAddresses() (own []netip.Addr) {
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return nil
	}
	for _, a := range addrs {
		if p, err := netip.ParsePrefix(a.String()); err == nil {
			own = append(own, p.Addr().Unmap())
		}
	}
	return own
}

// tlsLevels are the words for how much TLS the smarthost must have.
var tlsLevels = map[string]remote.TLSLevel{
	"verify": remote.TLSVerify, "encrypt": remote.TLSEncrypt, "opportunistic": remote.TLSOpportunistic, "none": remote.TLSNone,
}

// inside is the rule that nothing leaves, nil unless mta.sink asks for it: it
// returns the key of the mailbox that takes what would.
func (n *node) inside() func(context.Context) (string, error) {
	if n.file.MTA.Sink == "" {
		return nil
	}
	return func(context.Context) (string, error) {
		sink, err := envelope.ParseAddress(n.file.MTA.Sink)
		if err != nil {
			return "", err
		}
		r := n.live.Snapshot().Resolve(sink)
		if r.Home != directory.HomeHere {
			return "", envelope.Because(envelope.StatusDirectory, fmt.Errorf("mta.sink: %s is no mailbox of ours", sink))
		}
		return string(r.Entry.Key), nil
	}
}

// signingKeys sign what leaves. The node of port 25 originates nothing and holds
// none.
func (n *node) signingKeys(ctx context.Context) (*dkim.Keys, error) {
	if !n.has(roleMSA, roleQueue) {
		return nil, nil
	}
	if n.file.Server.SealingKey.String() == "" {
		n.log.WarnContext(ctx, "mail to outside is not signed: there is no server.sealing_key")
		return nil, nil
	}
	sealer, err := n.file.sealer()
	if err != nil {
		return nil, err
	}
	return dkim.New(n.db, sealer, n.db.Now), nil
}

// resolvConf is where the system says whom to ask.
const resolvConf = "/etc/resolv.conf"

func (n *node) buildResolver() (err error) {
	n.resolver, err = n.file.resolver()
	return err
}

// resolver asks the DNS as the configuration says, else as the system does.
func (f *File) resolver() (*resolver.Resolver, error) {
	c := resolver.Config{Servers: f.MTA.Resolvers}
	if len(c.Servers) == 0 {
		file, err := os.Open(resolvConf)
		switch {
		case err == nil:
			defer file.Close()
			if c, err = resolver.ReadResolvConf(file); err != nil {
				return nil, fmt.Errorf("%s: %w", resolvConf, err)
			}
		case !errors.Is(err, fs.ErrNotExist):
			return nil, err
		default:
			c.Servers = []string{"127.0.0.1"}
		}
	}
	return resolver.New(c)
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

// config is the section as the policy package has it. An exempt entry is a
// network if it has a prefix length, else the address of a person.
func (s SubmissionSection) config() (policy.PersonConfig, error) {
	c := policy.PersonConfig{MaxMessages: s.MaxMessages, MaxRecipients: s.MaxRecipients, Window: time.Duration(s.Window)}
	switch s.Departed {
	case "", departedSend, departedHold:
	default:
		return c, fmt.Errorf("departed: %q is neither send nor hold", s.Departed)
	}
	for _, e := range s.Exempt {
		if a, err := envelope.ParseAddress(e); err == nil {
			c.ExemptPeople = append(c.ExemptPeople, a)
			continue
		}
		n, err := netip.ParsePrefix(e)
		if err != nil {
			return c, fmt.Errorf("exempt: %q is neither an address nor a network such as 192.0.2.0/24", e)
		}
		c.Exempt = append(c.Exempt, n)
	}
	return c, c.Validate()
}

// retention is how long what is no longer needed is kept.
func (f *File) retention() store.Retention {
	return store.Retention{Undelete: time.Duration(f.MDA.Undelete), Log: time.Duration(f.MDA.ChangeLog), Closed: time.Duration(f.MDA.Closed)}
}

// purgeEvery is about how often a node looks for what is past its time. Nodes
// that do it at the same moment share the work.
const purgeEvery = time.Hour

// purge takes away what is past its time, until ctx ends.
func (n *node) purge(ctx context.Context, q *queue.Queue) error {
	for {
		wait := time.NewTimer(purgeEvery/2 + rand.N(purgeEvery))
		select {
		case <-ctx.Done():
			wait.Stop()
			return nil
		case <-wait.C:
		}
		start := time.Now()
		if err := q.ForgetAuthors(ctx); err != nil && ctx.Err() == nil {
			n.log.ErrorContext(ctx, "authors of sent mail not forgotten, it is tried again", "err", err)
		}
		if err := n.closeAccounts(ctx); err != nil {
			if ctx.Err() == nil {
				n.log.ErrorContext(ctx, "whose mail is past its time cannot be told; nothing is purged", "err", err)
			}
			continue
		}
		res, err := n.store.Purge(ctx, n.file.retention(), q.References)
		if err != nil {
			if ctx.Err() == nil {
				n.log.ErrorContext(ctx, "purge failed, it is tried again", "err", err)
			}
			continue
		}
		n.log.InfoContext(ctx, "purged", "result", res, "delay", time.Since(start))
	}
}
