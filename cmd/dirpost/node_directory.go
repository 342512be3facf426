package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"slices"
	"time"

	"dirpost/auth"
	"dirpost/auth/selfservice"
	"dirpost/directory"
	"dirpost/directory/ldap"
	"dirpost/internal/envelope"
	"dirpost/internal/gssapi"
)

// config is the section as the LDAP package has it, without what stands in files.
func (d DirectorySection) config(name string) ldap.Config {
	rule, _ := d.Mailboxes.rule("")
	asked, _ := rule.Facts() // rules says what is wrong
	return ldap.Config{
		BindPassword: d.BindPassword.String(),   // that there is one; client resolves it
		Keytab:       []byte(d.Keytab.String()), // the same
		Bind:         d.Bind, Principal: d.Principal, Realm: d.Realm, KDCs: d.KDC,
		Name: name, URLs: d.URLs, Discover: d.Discover, Preset: d.Preset, Base: d.Base, Filter: d.Filter, BindDN: d.BindDN,
		TLS: d.TLS, ServerName: d.ServerName, Domain: d.Domain, AliasLogins: d.AliasLogins, Mapping: d.Mapping, Facts: d.Facts, MoreFacts: asked, Trusted: d.Trusted, PasswordPolicy: d.PwPolicy,
		Rights: ldap.RightGroups{Access: d.AccessGroup, SendAs: d.SendAsGroup, OnBehalf: d.BehalfGroup},
		Follow: d.Follow, PollEvery: time.Duration(d.PollEvery), Timeout: time.Duration(d.Timeout),
	}
}

// rule is the section as the directory package has it, false for an empty one.
func (m MailboxesSection) rule(name string) (directory.MailboxRule, bool) {
	return directory.MailboxRule{Directory: name, Filter: m.Filter, Under: m.Under, Groups: m.Groups},
		m.Filter != "" || len(m.Under) > 0 || len(m.Groups) > 0
}

// client makes the client of a directory, with what stands in files. withAccount
// says whether it needs the account that reads the directory: a node that only
// has passwords judged does not.
func (f *File) client(name string, withAccount bool, log *slog.Logger) (*ldap.Client, error) {
	d := f.Directory[name]
	c := d.config(name)
	c.Log = log
	if d.Discover != "" {
		dns, err := f.resolver()
		if err != nil {
			return nil, fmt.Errorf("mta.resolvers: %w", err)
		}
		c.Resolver = dns
	}
	if d.heldCA != "" {
		c.CA = d.heldCA
	} else if d.CA != "" {
		pem, err := os.ReadFile(d.CA)
		if errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("directory.%s.ca: there is no file %s", name, d.CA)
		}
		if err != nil {
			return nil, fmt.Errorf("directory.%s.ca: %w", name, err)
		}
		c.CA = string(pem)
	}
	switch {
	case !withAccount && !d.needsKeytab() && d.Bind != ldap.BindJoined:
		c.Bind, c.BindDN, c.BindPassword, c.Keytab = "", "", "", nil
	case d.Bind == ldap.BindGSSAPI:
		keytab, err := d.Keytab.ResolveBytes()
		if err != nil {
			return nil, fmt.Errorf("directory.%s.keytab: %w", name, err)
		}
		c.Keytab = keytab
	case d.Bind == ldap.BindJoined: // setMachine and buildMachine tell the keys
	default:
		password, err := d.BindPassword.Resolve()
		if err != nil {
			return nil, fmt.Errorf("directory.%s.bind_password: %w", name, err)
		}
		c.BindPassword = password
	}
	client, err := ldap.New(c)
	if err != nil {
		return nil, fmt.Errorf("directory.%s: %w", name, err)
	}
	return client, nil
}

// needsKeytab reports whether passwords of people are judged with our own keytab, or
// may be.
func (d DirectorySection) needsKeytab() bool {
	return d.Bind != "" && d.Bind != ldap.BindSimple && d.Passwords != ldap.PasswordsLDAP
}

// checkKeytab checks that the keytab has a key of the account. That there is a
// file is checked with the other secrets.
func (d DirectorySection) checkKeytab() error {
	if d.Bind != ldap.BindGSSAPI {
		return nil
	}
	keytab, err := d.Keytab.ResolveBytes()
	if err != nil {
		return nil
	}
	return gssapi.CheckKeytab(keytab, d.Principal, d.Realm)
}

// policy is the section as the directory has it.
func (p GroupPolicySection) policy() (directory.Policy, error) {
	out := directory.Policy{
		Group: p.Group, Quota: int64(p.Quota), QuotaSend: int64(p.QuotaSend), QuotaWarn: int64(p.QuotaWarn),
		MaxReceive: int64(p.MaxReceive), MaxSend: int64(p.MaxSend), Services: p.Services, Deny: p.Deny,
		NoLogin: p.Login != nil && !*p.Login, Hidden: p.Hidden, Access: p.Open, SendAs: p.SendAs, OnBehalf: p.SendOnBehalf,
	}
	switch p.Delivery {
	case "":
	case "hold":
		out.Delivery = directory.StateHeld
	case "refuse":
		out.Delivery = directory.StateDisabled
	default:
		return out, fmt.Errorf(`policy of %s: delivery: want "hold" or "refuse", not %q`, p.Group, p.Delivery)
	}
	if err := out.Validate(); err != nil {
		return out, fmt.Errorf("policy of %s: %w", p.Group, err)
	}
	return out, nil
}

// rules are the decisions about addresses that stand in the configuration.
func (f *File) rules() (directory.Rules, error) {
	postmaster, err := envelope.ParseAddress(f.Domains.Postmaster)
	if err != nil {
		return directory.Rules{}, fmt.Errorf("domains.postmaster: %w", err)
	}
	r := directory.Rules{
		Postmaster: postmaster, Delimiter: f.Domains.Delimiter, Roles: f.Domains.Roles,
		NextHop: f.Domains.OtherSystem, UnknownElsewhere: f.Domains.Unknown == "other", Confirm: true,
		KeepFormer: time.Duration(f.Domains.KeepFormer), ExpiredReceive: time.Duration(f.Domains.ExpiredReceive),
		GoneReceive: time.Duration(f.Domains.GoneReceive), KeepGone: time.Duration(f.MDA.Closed),
		Brakes: make(map[string]directory.Brake),
	}
	for _, name := range f.names() {
		r.Brakes[name] = f.Directory[name].brake()
		if rule, ok := f.Directory[name].Mailboxes.rule(name); ok {
			r.Mailboxes = append(r.Mailboxes, rule)
		}
	}
	if r.Directories, err = f.order(); err != nil {
		return directory.Rules{}, err
	}
	for _, d := range f.Domains.Local {
		domain, err := envelope.ParseDomain(d)
		if err != nil {
			return directory.Rules{}, fmt.Errorf("domains.local %s: %w", d, err)
		}
		r.Domains = append(r.Domains, domain)
	}
	for _, p := range f.Policy {
		policy, err := p.policy()
		if err != nil {
			return directory.Rules{}, err
		}
		r.Policies = append(r.Policies, policy)
	}
	if err := r.Validate(); err != nil {
		return directory.Rules{}, fmt.Errorf("domains: %w", err)
	}
	return r, nil
}

// order is which directory counts first for a mail domain.
func (f *File) order() (map[string][]string, error) {
	order := make(map[string][]string, len(f.Domains.Directories))
	for domain, names := range f.Domains.Directories {
		for _, name := range names {
			if _, ok := f.Directory[name]; !ok {
				return nil, fmt.Errorf("domains.directories: %q: there is no section [directory.%s]", domain, name)
			}
		}
		if d, err := envelope.ParseDomain(domain); err == nil {
			domain = d
		}
		order[domain] = names
	}
	return order, nil
}

// brake is when too much vanishes at once to be believed.
func (d DirectorySection) brake() directory.Brake {
	b := directory.DefaultBrake()
	if d.BrakeShare != nil {
		b.Share = *d.BrakeShare
	}
	if d.BrakeLeast != nil {
		b.Least = *d.BrakeLeast
	}
	return b
}

// names are the names of the directories, in order.
func (f *File) names() []string { return slices.Sorted(maps.Keys(f.Directory)) }

// buildDirectory builds the snapshot and what feeds it: the node with the role
// asks the directories, all follow what it has written.
func (n *node) buildDirectory(ctx context.Context) error {
	rules, err := n.file.rules()
	if err != nil {
		return err
	}
	n.live = directory.Open(rules)
	n.register(n.live.Collectors()...)
	n.verifiers, n.changers = make(map[string]auth.Verifier), make(map[string]selfservice.PasswordChanger)
	var (
		sources []directory.Source
		seekers []directory.Seeker
		clients []*ldap.Client
	)
	feeds := n.has(roleDirectory)
	for _, name := range n.file.names() {
		if !feeds && !n.has(roleMSA, roleIMAP, rolePOP, roleHTTP) {
			break // who neither reads nor judges asks nobody, and needs no secret
		}
		client, err := n.file.client(name, feeds, n.log)
		if err != nil {
			return err
		}
		client.Remember(directory.Profiles{DB: n.db})
		n.closers = append(n.closers, client.Close)
		n.register(client.Collectors()...)
		n.verifiers[name], n.changers[name] = client, client
		clients = append(clients, client)
		if feeds {
			sources, seekers = append(sources, client.Source(n.log)), append(seekers, client)
			n.readers = append(n.readers, client)
		}
	}
	if err := n.buildMachine(ctx, clients); err != nil {
		return err
	}
	if len(seekers) > 0 {
		n.asker = directory.NewAsker(seekers, n.log)
		n.register(n.asker.Collectors()...)
	}
	feeder := directory.NewFeeder(n.db, n.live, sources, n.bus, n.name(), n.log)
	feeder.Report(n.events)
	if err := feeder.Load(ctx); err != nil {
		return fmt.Errorf("directory: %w", err)
	}
	n.feeder = feeder
	n.register(feeder.Collectors()...)
	n.back = append(n.back, part{"directory", feeder.Run})
	if list := n.live.Snapshot().Unconfirmed(); len(list) > 0 {
		n.log.WarnContext(ctx, "domains take no mail yet: look at 'dirpost directory check', and confirm with 'dirpost directory check --accept'", "domains", list)
	}
	return n.checkDirectories(ctx, clients)
}

// checkLimit bounds the questions to a directory before a node serves.
const checkLimit = 15 * time.Second

// checkDirectories decides what becomes of a node whose directory cannot be used.
// Where people are known it serves them, and the feeder says in the log what is
// wrong. At the first start nobody is known: a directory that is away may come,
// but one that refuses what the configuration says will not change its mind.
//
// What the feeder does not try, connections for logins, is tried beside it.
func (n *node) checkDirectories(ctx context.Context, clients []*ldap.Client) error {
	feeds := n.has(roleDirectory)
	for _, client := range clients {
		if feeds && !n.live.Snapshot().Ready() {
			limit, cancel := context.WithTimeout(ctx, checkLimit)
			err := client.Check(limit)
			cancel()
			var setup *ldap.SetupError
			if errors.As(err, &setup) {
				return err
			}
		}
		if n.has(roleMSA, roleIMAP, rolePOP, roleHTTP) && (!feeds || n.file.Directory[client.Name()].needsKeytab()) {
			n.back = append(n.back, part{"logins of " + client.Name(), func(ctx context.Context) error {
				if err := client.CheckLogin(ctx); err != nil && ctx.Err() == nil {
					n.log.ErrorContext(ctx, "nobody can log in", "directory", client.Name(), "err", err)
				}
				<-ctx.Done()
				return nil
			}})
		}
	}
	return nil
}

// awaitDirectory returns when the snapshot is complete.
func (n *node) awaitDirectory(ctx context.Context) error {
	changed := make(chan struct{}, 1)
	cancel := n.live.Watch(func(*directory.Snapshot, []directory.Key) {
		select {
		case changed <- struct{}{}:
		default:
		}
	})
	defer cancel()
	for !n.live.Snapshot().Ready() || n.live.Snapshot().Stale() {
		select {
		case <-ctx.Done():
			return errors.New("the directory was not read: see the log")
		case <-changed:
		}
	}
	return nil
}
