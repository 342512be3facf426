package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"slices"
	"sync"
	"syscall"

	"dirpost/internal/logging"
	"dirpost/internal/postgres"

	"github.com/spf13/cobra"
)

// serveCommand is `dirpost serve`.
func serveCommand(path *string, std streams) *cobra.Command {
	var roles []string
	c := &cobra.Command{
		Use: "serve", Short: "Serve mail, as the configuration says",
		Long: `Serve runs one node: any number of them may run on one database. SIGHUP reads the
configuration and the certificates again, SIGTERM ends it in order: clients are
told, what they were doing is finished.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			f, err := readConfig(*path)
			if err != nil {
				return err
			}
			hup := make(chan os.Signal, 1)
			signal.Notify(hup, syscall.SIGHUP)
			defer signal.Stop(hup)
			lines := logging.NewBatch(std.err)
			defer lines.Flush()
			log, control, err := logging.New(lines, f.Log.config())
			if err != nil {
				return err
			}
			open, err := inheritedSockets()
			if err != nil {
				return err
			}
			s := &server{path: *path, roles: roles, sockets: newSockets(open), log: log, control: control, notify: notifySystemd}
			if std.ours() {
				if err := s.confine(c.Context(), f); err != nil {
					return err
				}
			}
			return s.run(c.Context(), f, hup)
		},
	}
	c.Flags().StringSliceVar(&roles, "roles", nil, "what this node does, instead of server.roles")
	return c
}

// newLogger is the logger of commands, which have no use for a Control.
func newLogger(c LogSection, w io.Writer) *slog.Logger {
	log, _, err := logging.New(w, c.config())
	if err != nil { // the configuration was checked
		return slog.New(slog.NewTextHandler(w, nil))
	}
	return log
}

// config is the section as the logging package has it.
func (c LogSection) config() logging.Config {
	return logging.Config{Format: c.Format, Level: c.Level}
}

// server is a process that serves: a node, and after a change of the
// configuration the node that follows it.
type server struct {
	path    string
	roles   []string // of the command line
	sockets *sockets
	log     *slog.Logger
	control *logging.Control
	ready   func(*node)        // called when the first node answers; may be nil
	notify  func(state string) // tells who has started the process how it does; may be nil

	writes   []string // directories that the process writes in besides, see confine
	landlock int      // the version of Landlock in force, 0 for none
}

// run runs nodes until ctx ends or one fails. At a reload the next node is built
// and serves before the one it replaces is ended: everything they share is in
// the database, as with two nodes on two machines. A configuration that cannot
// be used changes nothing.
func (s *server) run(ctx context.Context, f *File, reload <-chan os.Signal) error {
	defer s.sockets.close()
	n, err := s.start(ctx, f)
	if err != nil {
		return err
	}
	if s.ready != nil {
		s.ready(n.node)
	}
	s.tell("READY=1")
	s.sockets.warnUnused(ctx, f, s.log)
	for {
		select {
		case <-n.done:
			return n.err
		case <-ctx.Done():
			s.tell("STOPPING=1")
			// Who comes now would wait until the last client has left, and then be
			// reset. With sockets of systemd they wait for the next program.
			s.sockets.close()
			n.stop()
			<-n.done
			return n.err
		case <-reload:
			next, err := s.reload(ctx, n)
			if err != nil {
				s.log.ErrorContext(ctx, "configuration not reloaded, the old one stays", "err", s.explainDenied(err))
				continue
			}
			n = next
		}
	}
}

func (s *server) tell(state string) {
	if s.notify != nil {
		s.notify(state)
	}
}

// start builds the node of f and starts it.
func (s *server) start(ctx context.Context, f *File) (*runningNode, error) {
	n, err := newNode(ctx, f, s.roles, s.sockets, s.log)
	if err != nil {
		return nil, err
	}
	n.register(landlockInfo(s.landlock))
	// The node ends by its own cancel, so that a reload ends the old one alone.
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	r := &runningNode{node: n, file: f, stop: cancel, done: make(chan struct{})}
	go func() {
		defer close(r.done)
		r.err = n.Run(ctx)
	}()
	select {
	case <-n.ready:
		return r, nil
	case <-r.done:
		return nil, r.err
	}
}

// reload reads configuration, certificates and keytab again. Where only these files
// or the log have changed the node stays, and its sessions with it.
func (s *server) reload(ctx context.Context, old *runningNode) (*runningNode, error) {
	f, err := readConfig(s.path)
	if err != nil {
		return nil, err
	}
	if err := s.control.Apply(f.Log.config()); err != nil {
		return nil, err
	}
	if f.equalButLog(old.file) {
		if err := errors.Join(old.node.reloadCertificates(), old.node.reloadKeytab()); err != nil {
			return nil, err
		}
		s.log.InfoContext(ctx, "certificates reloaded")
		return old, nil
	}
	next, err := s.start(ctx, f)
	if err != nil {
		return nil, err
	}
	old.stop()
	<-old.done
	s.sockets.keepOnly(f)
	if old.err != nil { // the next one serves already
		s.log.WarnContext(ctx, "the node before the reload did not end well", "err", old.err)
	}
	s.log.InfoContext(ctx, "configuration reloaded")
	return next, nil
}

// runningNode is a node with its end.
type runningNode struct {
	node *node
	file *File
	stop func()
	done chan struct{}
	err  error // once done is closed
}

// sockets are the listening sockets of the process. Nodes get duplicates, so
// that a node can close its own while the next one goes on accepting.
type sockets struct {
	mu   sync.Mutex // guards open
	open map[string]net.Listener
}

// newSockets takes over sockets that are open already.
func newSockets(open map[string]net.Listener) *sockets {
	s := &sockets{open: make(map[string]net.Listener)}
	for a, l := range open {
		s.open[socketKey(a)] = l
	}
	return s
}

// listen returns a duplicate of the socket for address, opening it at first use.
func (s *sockets) listen(address string) (net.Listener, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	l, ok := s.open[socketKey(address)]
	if !ok {
		var err error
		if l, err = net.Listen("tcp", address); err != nil {
			return nil, listenError(address, err)
		}
		s.open[socketKey(address)] = l
	}
	tcp, ok := l.(*net.TCPListener)
	if !ok {
		return nil, fmt.Errorf("listen on %s: not a TCP socket", address)
	}
	file, err := tcp.File()
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", address, err)
	}
	defer file.Close()
	return net.FileListener(file)
}

// listenError says what to do about a port that cannot be opened.
func listenError(address string, err error) error {
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return fmt.Errorf("listen on %s: in use by another program: stop it, or change the listener", address)
	case errors.Is(err, syscall.EACCES):
		return fmt.Errorf("listen on %s: ports below 1024 need root or CAP_NET_BIND_SERVICE", address)
	}
	return fmt.Errorf("listen on %s: %w", address, err)
}

// keepOnly closes the sockets that f does not use any more.
func (s *sockets) keepOnly(f *File) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for a, l := range s.open {
		if !f.listensOn(a) {
			_ = l.Close()
			delete(s.open, a)
		}
	}
}

// warnUnused says which sockets nobody serves: a client that connects there would
// wait for ever. They come from a socket unit of systemd that fits another
// configuration.
func (s *sockets) warnUnused(ctx context.Context, f *File, log *slog.Logger) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for a := range s.open {
		if !f.listensOn(a) {
			log.WarnContext(ctx, "systemd holds a port open that no [[listener]] serves: remove it from dirpost.socket, or add the listener", "address", a)
		}
	}
}

// listensOn reports whether a listener of f has the socket of key.
func (f *File) listensOn(key string) bool {
	return slices.ContainsFunc(f.Listener, func(l ListenerSection) bool { return socketKey(l.Address) == key })
}

// close closes all sockets.
func (s *sockets) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for a, l := range s.open {
		_ = l.Close()
		delete(s.open, a)
	}
}

// openDatabase opens the database for a command or a node and checks that it
// is of this version.
func openDatabase(ctx context.Context, f *File, log *slog.Logger) (*postgres.DB, error) {
	db, err := postgres.Open(ctx, f.databaseConfig(), log)
	if err != nil {
		return nil, fmt.Errorf("database: %w", err)
	}
	if err := db.CheckSchema(ctx); err != nil {
		db.Close()
		return nil, fmt.Errorf("database: %w", err)
	}
	return db, nil
}
