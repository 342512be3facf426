package join

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"dirpost/directory/ldap"
)

// The times of a Keeper.
const (
	followEvery = 5 * time.Second // net under lost hints
	dueEvery    = 10 * time.Minute
	// DefaultRotateEvery is how old a password becomes, as with Windows.
	DefaultRotateEvery = 30 * 24 * time.Hour
)

// Keeper lets the clients of directories follow what their accounts become, and
// changes the passwords that are old, on one node at a time.
type Keeper struct {
	store   *Store
	members []*Member
	apply   map[string]func(ldap.Machine) error // by directory
	log     *slog.Logger

	mu   sync.Mutex // guards seen, held while accounts are applied
	seen map[string]int64
}

// NewKeeper returns a Keeper. apply has the client of each directory that is
// joined: it is told each new state of its account. The passwords of members are
// changed when they are old; a node without members follows only.
func NewKeeper(store *Store, apply map[string]func(ldap.Machine) error, members []*Member, log *slog.Logger) *Keeper {
	return &Keeper{store: store, members: members, apply: apply, log: log, seen: make(map[string]int64)}
}

// Load tells the clients how the accounts stand. Run does it too; call it before,
// to serve from the first connection on. A directory that is not joined yet is
// no error: it is logged, and followed.
func (k *Keeper) Load(ctx context.Context) error {
	err := k.follow(ctx)
	k.mu.Lock()
	defer k.mu.Unlock()
	for directory := range k.apply {
		if _, ok := k.seen[directory]; !ok && err == nil {
			k.log.Warn("not joined to the domain: run 'dirpost join'", "directory", directory)
		}
	}
	return err
}

// Run follows the accounts until ctx is done. Failures are logged and tried again.
func (k *Keeper) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	wg.Go(func() { k.followAll(ctx) })
	for _, m := range k.members {
		wg.Go(func() { k.rotateAll(ctx, m) })
	}
	wg.Wait()
	return context.Cause(ctx)
}

func (k *Keeper) followAll(ctx context.Context) {
	hint := make(chan struct{}, 1)
	if k.store.hints != nil {
		defer k.store.hints.Subscribe(Topic, func(string) {
			select {
			case hint <- struct{}{}:
			default:
			}
		})()
	}
	failed := false
	for {
		err := k.follow(ctx)
		if err != nil && ctx.Err() == nil && !failed {
			k.log.Warn("accounts in domains cannot be read", "err", err)
		} else if err == nil && failed {
			k.log.Info("accounts in domains are read again")
		}
		failed = err != nil
		select {
		case <-hint:
		case <-time.After(followEvery):
		case <-ctx.Done():
			return
		}
	}
}

// follow applies the accounts that are not as they were.
func (k *Keeper) follow(ctx context.Context) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	versions, err := k.store.Versions(ctx)
	if err != nil {
		return err
	}
	var errs []error
	for directory, apply := range k.apply {
		version, ok := versions[directory]
		if !ok || k.seen[directory] == version {
			continue // one that was left goes on with the keys that it has
		}
		a, err := k.store.Load(ctx, directory)
		if errors.Is(err, ErrNotFound) {
			continue
		}
		if err != nil {
			errs = append(errs, err)
			continue
		}
		m, err := a.Machine()
		if err == nil {
			err = apply(m)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("directory %q: %w", directory, err))
			continue
		}
		k.seen[directory] = a.Version
		k.log.Debug("account in the domain applied", "directory", directory, "account", a.Principal)
	}
	return errors.Join(errs...)
}

// rotateAll changes the password of m whenever it is old, or finishes a change that
// another node began and did not live to end.
func (k *Keeper) rotateAll(ctx context.Context, m *Member) {
	for {
		due, err := k.store.due(ctx, m.Directory, cmp.Or(m.RotateEvery, DefaultRotateEvery), leaseFor)
		if err == nil && due {
			_, err = m.Rotate(ctx)
		}
		if err == nil {
			err = k.store.purge(ctx, m.Directory, oldFor)
		}
		if err != nil && ctx.Err() == nil && !errors.Is(err, ErrBusy) {
			k.log.Warn("machine password is old and could not be changed", "directory", m.Directory, "err", err)
		}
		select {
		case <-time.After(dueEvery):
		case <-ctx.Done():
			return
		}
	}
}
