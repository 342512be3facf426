package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"reflect"
	"slices"
	"strconv"
	"sync"
	"time"

	"dirpost/auth"
	"dirpost/auth/certificate"
	"dirpost/auth/krb5"
	"dirpost/directory"
	"dirpost/directory/ldap"
	"dirpost/internal/acme"
	"dirpost/internal/blob"
	"dirpost/internal/bus"
	"dirpost/internal/envelope"
	"dirpost/internal/event"
	"dirpost/internal/logging"
	"dirpost/internal/postgres"
	"dirpost/internal/resolver"
	"dirpost/internal/store"
	"dirpost/internal/tlsconf"
	"dirpost/internal/web"
	"dirpost/mda/lmtpd"
	"dirpost/mra"
	"dirpost/mra/imapd"
	"dirpost/mra/pop3d"
	"dirpost/mta/intake"
	"dirpost/mta/policy"
	"dirpost/mta/smtpd"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
)

// A node is one running server: everything that the configuration asks for,
// built and joined by newNode. The fields are what several parts share.
type node struct {
	file    *File
	roles   []string
	sockets *sockets
	log     *slog.Logger

	metrics    *prometheus.Registry
	events     event.Sink
	db         *postgres.DB
	tls        *tlsconf.Store      // nil: no certificates
	acme       *acme.Manager       // nil: certificates are files
	clients    *certificate.Mapper // nil: clients are not asked for theirs
	bus        *bus.Bus
	live       *directory.Live
	feeder     *directory.Feeder
	readers    []*ldap.Client   // of the directories that this node reads
	asker      *directory.Asker // of those, nil where it reads none
	blobs      *blob.Store
	store      *store.Store
	resolver   *resolver.Resolver
	auth       *auth.Bridge             // nil: nobody logs in here
	tickets    *krb5.Acceptor           // nil: no Kerberos
	verifiers  map[string]auth.Verifier // by directory
	door       *intake.Door
	policy     *policy.Policy // of port 25
	submission *policy.Policy // of people who have logged in
	smtpd      *smtpd.Metrics
	webd       *web.Server // nil until a listener needs it

	pageParts

	// front is what talks to clients; it ends first. back is what it needs.
	front, back []part
	closers     []func()      // what ends when all parts have
	ready       chan struct{} // closed when all parts were started
}

// A part runs until its context ends.
type part struct {
	name string
	run  func(ctx context.Context) error
}

// newNode builds all parts of a node and joins them, in the order of the walk of
// a message, with values and interfaces only. Nothing runs yet, but what can
// fail has been tried: secrets, certificates, database, directory, sockets. A
// role that the node does not have builds nothing, opens nothing and reads no
// secret.
func newNode(ctx context.Context, f *File, roles []string, socks *sockets, log *slog.Logger) (_ *node, err error) {
	n := &node{file: f, sockets: socks, log: log, metrics: prometheus.NewRegistry(), ready: make(chan struct{})}
	if n.roles, err = f.roles(roles); err != nil {
		return nil, err
	}
	sink := logging.NewSink(log)
	n.register(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	n.register(sink.Collectors()...)
	n.smtpd = smtpd.NewMetrics()
	n.register(n.smtpd.Collectors()...)

	if n.db, err = openDatabase(ctx, f, log); err != nil {
		return nil, err
	}
	n.closers = append(n.closers, n.db.Close)
	n.register(buildInfo(), newPoolMetrics(n.db))
	defer func() {
		if err != nil {
			n.close()
		}
	}()
	n.back = append(n.back, part{"database", n.db.Run})
	if n.events, err = n.trace(sink); err != nil {
		return nil, err
	}

	for _, build := range []func(context.Context) error{
		n.buildStore,     // bus, blobs, mailboxes
		n.buildTickets,   // Kerberos; its keys come with the directory
		n.buildTLS,       // certificates
		n.buildDirectory, // snapshot and its feed
		n.buildAuth,      // logins, judged by the directory
		n.buildRoster,    // who is logged in, for other nodes too
		n.buildMTA,       // door in, queue, way out
		n.buildExpiry,    // warnings before passwords expire
		n.buildNotices,   // mails about people's logins
		n.buildPage,      // where people look after their login
		n.buildListeners, // SMTP, IMAP, POP3, HTTP
		n.buildSocket,    // logins of other programs
		n.buildLocal,     // the socket of sendmail
	} {
		if err = build(ctx); err != nil {
			return nil, err
		}
	}
	return n, nil
}

// close ends what newNode has opened, the last first.
func (n *node) close() {
	for _, f := range slices.Backward(n.closers) {
		f()
	}
}

// name tells this node from the others on the database.
func (n *node) name() string {
	host, err := os.Hostname()
	if err != nil {
		host = n.file.Server.Name
	}
	return fmt.Sprintf("%s/%d/%s", host, os.Getpid(), envelope.QueueID(n.db.NewID()))
}

// has reports whether the node has one of these roles.
func (n *node) has(roles ...string) bool {
	return slices.ContainsFunc(roles, func(r string) bool { return slices.Contains(n.roles, r) })
}

func (n *node) register(all ...prometheus.Collector) { n.metrics.MustRegister(all...) }

// buildTLS reads the certificates. A node without a port that uses them has no
// business with their keys.
func (n *node) buildTLS(ctx context.Context) (err error) {
	if !n.usesTLS() {
		return nil
	}
	if n.acme, err = n.buildACME(ctx); err != nil {
		return err
	}
	var c tlsconf.Config
	if n.acme != nil {
		c.Issuer = n.acme
	} else if len(n.file.TLS.Certificate) == 0 {
		return nil
	}
	for _, p := range n.file.TLS.Certificate {
		c.Pairs = append(c.Pairs, tlsconf.Pair{CertFile: p.Chain, KeyFile: p.Key})
	}
	if c.Sealer, err = n.ticketSealer(); err != nil {
		return err
	}
	if n.tls, err = tlsconf.Open(c, n.log); err != nil {
		return fmt.Errorf("tls.certificate: %w", err)
	}
	n.register(n.tls.Collectors()...)
	n.back = append(n.back, part{"certificates", n.tls.Run})
	return nil
}

// usesTLS reports whether a listener of a role of ours uses certificates; what is
// signed for clients that set themselves up does too.
func (n *node) usesTLS() bool {
	return slices.ContainsFunc(n.file.Listener, func(l ListenerSection) bool {
		return n.has(protocols[l.Protocol]) && l.Protocol != "lmtp" && (l.TLS != "off" || l.Protocol == "http")
	})
}

// reloadCertificates reads the certificate files again.
func (n *node) reloadCertificates() error {
	var errs []error
	if n.tls != nil {
		errs = append(errs, n.tls.Reload())
	}
	if n.clients != nil {
		errs = append(errs, n.clients.Reload())
	}
	return errors.Join(errs...)
}

func (n *node) buildStore(context.Context) error {
	n.bus = bus.New(n.db, n.log)
	n.register(n.bus.Collectors()...)
	n.blobs = blob.New(n.db)
	n.store = store.New(n.db, n.blobs, n.bus, n.log)
	n.back = append(n.back, part{"bus", func(ctx context.Context) error { return n.bus.Run(ctx, n.store.Poll) }})
	return nil
}

func (n *node) buildAuth(ctx context.Context) error {
	if !n.has(roleMSA, roleIMAP, rolePOP, roleHTTP) {
		return nil
	}
	c, err := n.file.Auth.config()
	if err != nil {
		return fmt.Errorf("auth: %w", err)
	}
	c.ChangeURL = n.file.changeURL()
	parts, err := n.authParts(ctx)
	if err != nil {
		return fmt.Errorf("auth: %w", err)
	}
	n.followLogins(c)
	n.auth = auth.New(c, n.live, parts, event.Tee(n.events, n.history))
	n.register(n.auth.Collectors()...)
	n.closers = append(n.closers, n.bus.Subscribe(bus.TopicKill, func(person string) {
		if sessions := n.auth.LogOut(directory.Key(person), "logged out by the administrator"); sessions > 0 {
			n.log.Info("person logged out", "user", person, "count", sessions)
		}
	}))
	return nil
}

// authParts builds what logins are judged with, for a node and for the walk through
// a login of `dirpost auth test`, where nothing of it runs.
func (n *node) authParts(context.Context) (auth.Parts, error) {
	parts := auth.Parts{Verifiers: n.verifiers, Tickets: n.tickets, AppPasswords: n.buildAppPasswords()}
	var err error
	if parts.Permits, err = n.permits(); err != nil {
		return parts, err
	}
	n.addReplays(&parts)
	if err := n.addTokens(&parts); err != nil {
		return parts, err
	}
	if err := n.addCertificates(&parts); err != nil {
		return parts, err
	}
	return parts, nil
}

// serveFunc serves on one socket until its context ends.
type serveFunc func(ctx context.Context, socket net.Listener) error

// buildListeners opens a socket for each listener of a role that we have, and
// builds the servers behind them.
func (n *node) buildListeners(context.Context) error {
	servers := make(map[string]func(*ListenerSection) (serveFunc, error))
	for i := range n.file.Listener {
		l := &n.file.Listener[i]
		if role := protocols[l.Protocol]; role != "" && !n.has(role) {
			continue
		}
		if l.TLS == "implicit" && n.tls == nil {
			return fmt.Errorf("listener %s: there is no certificate", l.Address)
		}
		build, ok := servers[l.Protocol]
		if !ok { // one server a protocol, whatever the number of its listeners
			build = n.server(l.Protocol)
			servers[l.Protocol] = build
		}
		serve, err := build(l)
		if err != nil {
			return fmt.Errorf("listener %s: %w", l.Address, err)
		}
		socket, err := n.sockets.listen(l.Address)
		if err != nil {
			return err
		}
		n.front = append(n.front, part{l.Protocol + " on " + l.Address, func(ctx context.Context) error { return serve(ctx, socket) }})
	}
	return nil
}

// server builds the server of a protocol, and returns what serves a listener of
// it.
func (n *node) server(protocol string) func(*ListenerSection) (serveFunc, error) {
	switch protocol {
	case "smtp":
		return func(l *ListenerSection) (serveFunc, error) { return n.smtp(l, smtpd.MX) }
	case "submission":
		return func(l *ListenerSection) (serveFunc, error) { return n.smtp(l, smtpd.MSA) }
	case "lmtp":
		count := lmtpd.NewMetrics()
		n.register(count.Collectors()...)
		return func(l *ListenerSection) (serveFunc, error) { return n.lmtp(l, count) }
	case "imap":
		s := imapd.New(imapd.Config{MaxMessage: int64(n.file.MTA.MaxSize)}, imapd.Deps{
			Store: n.store, Blobs: n.blobs, Bridge: n.auth, Live: n.live, Watch: n.bus, Clock: n.db, Events: n.events, Log: n.log,
		})
		n.register(s.Collectors()...)
		return n.retrieval(protocol, s)
	case "pop3":
		s := pop3d.New(pop3d.Config{}, n.store, n.auth, n.events)
		n.register(s.Collectors()...)
		return n.retrieval(protocol, s)
	case "status":
		s := n.webServer()
		return func(*ListenerSection) (serveFunc, error) { return s.ServeStatus, nil }
	default:
		return n.web()
	}
}

// retrieval serves a protocol by which mail is read.
func (n *node) retrieval(protocol string, handler mra.Handler) func(*ListenerSection) (serveFunc, error) {
	m := n.file.MRA
	c := mra.Config{MaxConnections: m.MaxConnections, MaxPerClient: m.MaxPerClient, MaxPerPerson: m.MaxPerPerson, ShutdownGrace: time.Duration(m.ShutdownGrace)}
	for _, l := range n.file.Listener {
		for _, p := range l.Proxies {
			if l.Protocol == protocol {
				c.Proxies = append(c.Proxies, netip.MustParsePrefix(p)) // checked by validate
			}
		}
	}
	s := mra.NewServer(protocol, c, n.tlsConfig(protocol), handler, n.log)
	n.register(s.Collectors()...)
	return func(l *ListenerSection) (serveFunc, error) {
		implicit := l.TLS == "implicit"
		return func(ctx context.Context, socket net.Listener) error { return s.Serve(ctx, socket, implicit) }, nil
	}
}

// smtp builds an SMTP server.
func (n *node) smtp(l *ListenerSection, role smtpd.Role) (serveFunc, error) {
	c := smtpd.DefaultConfig(role, n.file.Server.Name)
	c.MaxSize, c.MaxRecipients, c.ImplicitTLS = int64(n.file.MTA.MaxSize), n.file.MTA.MaxRecipients, l.TLS == "implicit"
	c.PostmasterDomain = n.file.Domains.Local[0]
	for _, p := range l.Proxies {
		c.Proxies = append(c.Proxies, netip.MustParsePrefix(p)) // checked by validate
	}
	deps := smtpd.Deps{Door: smtpd.IntakeDoor(n.door), TLS: n.tlsConfig(l.Protocol), Metrics: n.smtpd, Events: n.events, Log: n.log}
	if l.TLS == "off" {
		deps.TLS = nil
	}
	if role == smtpd.MSA {
		c.MaxPerClient = n.file.MTA.MaxPerClient
		deps.Auth, deps.Policy = n.auth, n.submission
	} else {
		deps.Name = n.hostName
		deps.Policy = n.policy
	}
	s, err := smtpd.New(c, deps)
	if err != nil {
		return nil, err
	}
	return s.Serve, nil
}

// hostName is the verified name of a client's address, "" if it has none.
func (n *node) hostName(ctx context.Context, a netip.Addr) string {
	name, err := n.resolver.VerifiedName(ctx, a)
	if err != nil {
		return ""
	}
	return name
}

// httpsPort is the port to which clients of HTTP are sent, 0 if there is none.
func (f *File) httpsPort() (number int) {
	for _, l := range f.Listener {
		if _, port, err := net.SplitHostPort(l.Address); err == nil && l.Protocol == "http" && l.TLS == "implicit" {
			number, _ = strconv.Atoi(port)
		}
	}
	return number
}

// webServer is the one web server of the node, of its pages and of its status.
func (n *node) webServer() *web.Server {
	if n.webd == nil {
		c := web.Config{Hostname: n.file.Server.Name, HTTPSPort: n.file.httpsPort()}
		c.Allowed, _ = n.file.Web.metricsClients() // Validate has seen it
		n.webd = web.New(c, n.metrics, n.checks(), n.log)
		n.register(n.webd.Collectors()...)
	}
	return n.webd
}

// web builds the pages, in clear and by TLS.
func (n *node) web() func(*ListenerSection) (serveFunc, error) {
	s := n.webServer()
	n.mountPage(s)
	n.mountAutoconfig(s, n.file.httpsPort())
	n.mountSTS(s)
	if n.acme != nil {
		s.HandleACME(n.acme)
	}
	return func(l *ListenerSection) (serveFunc, error) {
		if l.TLS != "implicit" {
			return s.ServePlain, nil
		}
		return func(ctx context.Context, socket net.Listener) error { return s.ServeTLS(ctx, socket, n.webTLS()) }, nil
	}
}

// checks are what /healthz looks at.
func (n *node) checks() map[string]web.Check {
	return map[string]web.Check{
		"database": func(ctx context.Context) (web.State, string) {
			if err := n.db.Ping(ctx); err != nil {
				return web.Down, "does not answer"
			}
			return web.OK, ""
		},
		"directory": func(context.Context) (web.State, string) {
			s := n.live.Snapshot()
			switch {
			case !s.Ready():
				return web.Down, "nothing was read yet"
			case s.Stale():
				return web.Degraded, "not heard of lately"
			}
			return web.OK, ""
		},
	}
}

// buildLocal opens the socket of `dirpost sendmail`.
func (n *node) buildLocal(context.Context) error {
	if !n.has(roleMSA) || n.file.Server.Socket == "" {
		return nil
	}
	domain, err := envelope.ParseDomain(n.file.Domains.Local[0])
	if err != nil {
		return err
	}
	c := smtpd.DefaultConfig(smtpd.MX, n.file.Server.Name)
	c.MaxSize, c.MaxRecipients, c.GreetPause = int64(n.file.MTA.MaxSize), n.file.MTA.MaxRecipients, 0
	c.Impatient = true
	s := &localServer{path: n.file.Server.Socket, domain: domain, config: c, door: n.door, events: n.events, log: n.log}
	socket, err := s.listen()
	if err != nil {
		return err
	}
	n.front = append(n.front, part{"local mail", func(ctx context.Context) error { return s.serve(ctx, socket) }})
	return nil
}

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
	defer n.close()
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
			if ctx.Err() != nil {
				return
			}
			if err == nil {
				err = errors.New("ended by itself")
			}
			once.Do(func() { first = fmt.Errorf("%s: %w", p.name, err) })
			stopFront(err)
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
