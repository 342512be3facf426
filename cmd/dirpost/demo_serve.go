package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"time"

	"dirpost/internal/logging"
)

// logger returns the log of the demo: its file, or the terminal.
func (d *demo) logger() (*slog.Logger, func(), error) {
	log, _, done, err := d.openLog()
	return log, done, err
}

func (d *demo) openLog() (*slog.Logger, *logging.Control, func(), error) {
	var w io.Writer = d.out
	done := func() {}
	if !d.verbose {
		f, err := os.OpenFile(d.path("dirpost.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
		if err != nil {
			return nil, nil, nil, err
		}
		w, done = f, func() { _ = f.Close() }
	}
	lines := logging.NewBatch(w)
	log, control, err := logging.New(lines, LogSection{Level: "info", Format: "text"}.config())
	return log, control, func() { lines.Flush(); done() }, err
}

// serve serves until ctx ends: first for the self-check, then for everybody.
func (d *demo) serve(ctx context.Context, listeners opened) error {
	begin := time.Now()
	f, err := readConfig(d.path("dirpost.toml"))
	if err != nil {
		return err
	}
	log, control, done, err := d.openLog()
	if err != nil {
		return err
	}
	defer done()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, syscall.SIGHUP)
	defer signal.Stop(hup)
	answers := make(chan *node, 1)
	s := &server{path: d.path("dirpost.toml"), sockets: newSockets(listeners), log: log, control: control, ready: func(n *node) { answers <- n }}
	if d.confined {
		s.writes = []string{d.dir} // demo.env, and a lost socket
		if err := s.confine(ctx, f); err != nil {
			return err
		}
	}
	ended := make(chan error, 1)
	go func() { ended <- s.run(ctx, f, hup) }()
	select {
	case err := <-ended:
		return err
	case n := <-answers:
		wait, done := context.WithTimeout(ctx, time.Minute)
		err := n.awaitDirectory(wait)
		if err == nil {
			err = n.awaitNews(wait, begin)
		}
		if err == nil {
			err = n.confirm(wait)
		}
		done()
		if err != nil {
			cancel(err)
			<-ended
			return err
		}
	}
	d.step(begin, "server on %s, ports %d and up", d.host, d.portBase)
	if err := d.announce(ctx); err != nil {
		cancel(err)
		<-ended
		return err
	}
	defer os.Remove(d.path("demo.env"))
	return d.watch(ctx, cancel, ended)
}

// announce checks that everything works, then says so.
func (d *demo) announce(ctx context.Context) error {
	if err := d.selfCheck(ctx); err != nil {
		return fmt.Errorf("self-check: %w (log: %s)", err, d.path("dirpost.log"))
	}
	if err := d.writeEnv(); err != nil {
		return err
	}
	d.report()
	return nil
}

// watch waits for the end: the user's, the server's, or that of a child.
func (d *demo) watch(ctx context.Context, cancel context.CancelCauseFunc, ended <-chan error) error {
	var err error
	select {
	case err = <-ended:
		return err
	case <-ctx.Done():
		fmt.Fprintln(d.out, "\nStopping …")
	case <-d.children.postgres.Done():
		err = fmt.Errorf("the private PostgreSQL ended: %v (see %s)", d.children.postgres.Err(), d.path("postgres.log"))
	case <-d.children.directory.Done():
		err = fmt.Errorf("the private directory ended: %v (see %s)", d.children.directory.Err(), d.directory.log())
	}
	cancel(nil)
	if e := <-ended; err == nil {
		err = e
	}
	return err
}

// awaitNews returns when the directory has said at a moment after since that nothing of
// it is missing. What was known before is enough to serve, but not to say that all is up:
// people that were just added are to be there.
func (n *node) awaitNews(ctx context.Context, since time.Time) error {
	for {
		if age, known := n.live.Snapshot().Age(); known && age < time.Since(since) {
			return nil
		}
		select {
		case <-ctx.Done():
			return errors.New("the directory is not followed: see the log")
		case <-time.After(20 * time.Millisecond): // nobody tells that nothing is new
		}
	}
}

// confirm confirms the domains of the demo, where whose mailbox is where is no
// question.
func (n *node) confirm(ctx context.Context) error {
	seen, _ := n.live.Snapshot().Census()
	if err := confirmDomains(ctx, n.file, n.db, seen); err != nil {
		return err
	}
	return n.feeder.Load(ctx)
}
