package main

import (
	"context"
	"fmt"
	"log/slog"
	"reflect"
	"sync"

	"dirpost/internal/postgres"
)

// A node is one running server: everything that the configuration asks for,
// built and joined.
type node struct {
	file  *File
	roles []string
	log   *slog.Logger
	db    *postgres.DB

	// front is what talks to clients; it ends first. back is what it needs.
	front, back []part
	ready       chan struct{} // closed when all parts were started
}

// A part runs until its context ends.
type part struct {
	name string
	run  func(ctx context.Context) error
}

// newNode builds all parts of a node and joins them, with values and interfaces
// only. Nothing runs yet, but what can fail has been tried: database, secrets,
// certificates, sockets.
func newNode(ctx context.Context, f *File, roles []string, socks *sockets, log *slog.Logger) (n *node, err error) {
	n = &node{file: f, log: log, ready: make(chan struct{})}
	if n.roles, err = f.roles(roles); err != nil {
		return nil, err
	}
	if n.db, err = openDatabase(ctx, f, log); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			n.db.Close()
		}
	}()
	n.back = append(n.back, part{"database", n.db.Run})
	return n, nil
}

// reloadCertificates reads the certificate files again.
func (n *node) reloadCertificates() error { return nil }

// equalButLog reports whether a node of o need not be replaced for f.
func (f *File) equalButLog(o *File) bool {
	a, b := *f, *o
	a.Log, b.Log = LogSection{}, LogSection{}
	return reflect.DeepEqual(a, b)
}

// Run runs all parts until ctx ends or one of them fails. Then the servers end:
// they tell their clients and finish what they were asked; after them ends what
// they stand on.
func (n *node) Run(ctx context.Context) error {
	defer n.db.Close()
	back, stopBack := context.WithCancelCause(context.WithoutCancel(ctx))
	defer stopBack(nil)
	front, stopFront := context.WithCancelCause(ctx)
	defer stopFront(nil)
	var backs, fronts sync.WaitGroup
	var once sync.Once
	var first error
	start := func(wg *sync.WaitGroup, ctx context.Context, p part) {
		wg.Go(func() {
			err := p.run(ctx)
			if err == nil && ctx.Err() == nil {
				err = fmt.Errorf("%s ended by itself", p.name)
			}
			if err != nil && ctx.Err() == nil {
				once.Do(func() { first = fmt.Errorf("%s: %w", p.name, err) })
				stopFront(err)
			}
		})
	}
	for _, p := range n.back {
		start(&backs, back, p)
	}
	for _, p := range n.front {
		start(&fronts, front, p)
	}
	close(n.ready)
	<-front.Done()
	fronts.Wait()
	stopBack(nil)
	backs.Wait()
	return first
}
