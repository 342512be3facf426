package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"dirpost/directory"
	"dirpost/directory/join"
	"dirpost/directory/ldap"
	"dirpost/internal/bus"
	"dirpost/internal/postgres"
)

// buildMachine lets the clients of directories that are joined have the account of
// this system, and, on a node that feeds, changes its password when that is old.
func (n *node) buildMachine(ctx context.Context, clients []*ldap.Client) error {
	store, err := n.file.machineStore(n.db, n.bus, clients)
	if store == nil || err != nil {
		return err
	}
	apply := make(map[string]func(ldap.Machine) error)
	var members []*join.Member
	for _, c := range clients {
		d := n.file.Directory[c.Name()]
		if d.Bind != ldap.BindJoined {
			continue
		}
		apply[c.Name()] = func(m ldap.Machine) error {
			return errors.Join(c.SetMachine(m), takeMachine(n.tickets, c.Name(), m))
		}
		if n.has(roleDirectory) {
			members = append(members, &join.Member{Store: store, Directory: c.Name(), Controller: c, Node: n.name(), Log: n.log,
				Spread: join.Spread, RotateEvery: time.Duration(d.RotateEvery)})
		}
	}
	keeper := join.NewKeeper(store, apply, members, n.log)
	if err := keeper.Load(ctx); err != nil {
		return fmt.Errorf("account in the domain: %w", err)
	}
	n.back = append(n.back, part{"account in the domain", keeper.Run})
	return nil
}

// machineStore opens the accounts in domains, nil if none of these clients has one.
func (f *File) machineStore(db *postgres.DB, hints join.Hinter, clients []*ldap.Client) (*join.Store, error) {
	for _, c := range clients {
		if f.Directory[c.Name()].Bind != ldap.BindJoined {
			continue
		}
		sealer, err := f.sealer()
		if err != nil {
			return nil, err
		}
		return join.NewStore(db, sealer, hints), nil
	}
	return nil, nil
}

// commandClient makes the client of a directory for a command that reads it, with
// the account in the domain where it has one. The caller closes it.
func (f *File) commandClient(ctx context.Context, name string, log *slog.Logger) (*ldap.Client, error) {
	client, err := f.client(name, true, log)
	if err != nil {
		return nil, err
	}
	f.recall(ctx, client, log)
	if err := f.setMachine(ctx, client, log); err != nil {
		client.Close()
		return nil, err
	}
	return client, nil
}

// recalled is the profile that the nodes read a directory by. A command chooses by
// itself where there is none, and remembers nothing.
type recalled directory.Profile

// Profile implements ldap.Profiles.
func (r recalled) Profile(context.Context, string) (directory.Profile, error) {
	return directory.Profile(r), nil
}

// Keep implements ldap.Profiles.
func (r recalled) Keep(_ context.Context, _, name, why, _ string) (directory.Profile, error) {
	return directory.Profile{Name: name, Why: why}, nil
}

// recall tells the client of a command how the nodes read the directory. Without a
// database it looks for itself, as a first node would.
func (f *File) recall(ctx context.Context, client *ldap.Client, log *slog.Logger) {
	db, err := openDatabase(ctx, f, log)
	if err != nil {
		return
	}
	defer db.Close()
	if p, err := (directory.Profiles{DB: db}).Profile(ctx, client.Name()); err == nil {
		client.Remember(recalled(p))
	}
}

// setMachine tells the client of a command the account in the domain, where it has
// one.
func (f *File) setMachine(ctx context.Context, client *ldap.Client, log *slog.Logger) error {
	return f.withMachine(ctx, client, log, client.SetMachine)
}

// withMachine calls take with the account in the domain of a client, where it has
// one.
func (f *File) withMachine(ctx context.Context, client *ldap.Client, log *slog.Logger, take func(ldap.Machine) error) error {
	if f.Directory[client.Name()].Bind != ldap.BindJoined {
		return nil
	}
	db, err := openDatabase(ctx, f, log)
	if err != nil {
		return err
	}
	defer db.Close()
	store, err := f.machineStore(db, nil, []*ldap.Client{client})
	if err != nil {
		return err
	}
	a, err := store.Load(ctx, client.Name())
	if err != nil {
		return fmt.Errorf("directory.%s: %w: 'dirpost join' joins", client.Name(), err)
	}
	m, err := a.Machine()
	if err != nil {
		return err
	}
	return take(m)
}

// Publish implements join.Hinter. A hint that gets lost is made up for within
// seconds.
func (h commandHints) Publish(topic, payload string) {
	if err := bus.Send(h.ctx, h.db, topic, payload); err != nil {
		h.log.Debug("nodes were not told", "err", err)
	}
}

// Subscribe implements join.Hinter. A command hears nothing.
func (h commandHints) Subscribe(string, func(string)) (cancel func()) { return func() {} }
