package tlsconf

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Pair is a certificate with its chain, and its key, in PEM files.
type Pair struct {
	CertFile string // leaf first
	KeyFile  string
}

// Config is what an administrator sets of the certificates.
type Config struct {
	// Pairs are the certificates, at least one unless there is an Issuer. Two for the
	// same names, ECDSA first and RSA second, serve old clients too.
	Pairs []Pair
	// Issuer has further certificates; nil: none.
	Issuer Issuer
	// Sealer has the keys of the session tickets that all nodes take; nil: each
	// process takes its own only.
	Sealer Sealer
}

// An Issuer gets certificates from an authority.
type Issuer interface {
	// Issued are those that there are, at least one, with their Leaf. It may be
	// another slice each time, which nobody changes.
	Issued() []*tls.Certificate
	// Challenge is the configuration of a handshake by which the authority validates a
	// name (RFC 8737 §3), nil for every other handshake.
	Challenge(hello *tls.ClientHelloInfo) (*tls.Config, error)
	// Expiry is when the first certificate expires; zero while there is none.
	Expiry() time.Time
}

// Validate reports what cannot be meant. It does not read the files.
func (c Config) Validate() error {
	if len(c.Pairs) == 0 && c.Issuer == nil {
		return errors.New("no certificate")
	}
	for i, p := range c.Pairs {
		if p.CertFile == "" || p.KeyFile == "" {
			return fmt.Errorf("certificate %d: a certificate file and a key file are wanted", i+1)
		}
	}
	return nil
}

// lookEvery is how often Run looks whether a file has changed.
const lookEvery = 30 * time.Second

// expiryWarning is how long before its end a certificate is complained about.
const expiryWarning = 7 * 24 * time.Hour

// Store holds the certificates that are in use.
type Store struct {
	config Config
	log    *slog.Logger
	now    func() time.Time
	set    atomic.Pointer[set]

	expiry prometheus.GaugeFunc
	reload *prometheus.CounterVec // result: ok, error
}

// set is one generation of certificates. It is immutable.
type set struct {
	certs  []*tls.Certificate // with Leaf
	stamps []stamp
}

// stamp tells whether a file is the one that was read.
type stamp struct {
	path string
	mod  time.Time
	size int64
}

// Open reads the certificates of c.
func Open(c Config, log *slog.Logger) (*Store, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	s := &Store{config: c, log: log, now: time.Now}
	s.expiry = prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "dirpost_tlsconf_expiry_seconds", Help: "Time until the first certificate expires.",
	}, func() float64 {
		if end := s.Expiry(); !end.IsZero() {
			return end.Sub(s.now()).Seconds()
		}
		return 0
	})
	s.reload = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "dirpost_tlsconf_reloads_total", Help: "Certificates read again, by result.",
	}, []string{"result"})
	if err := s.Reload(); err != nil {
		return nil, err
	}
	return s, nil
}

// Collectors are the metrics of the store, to be registered by the caller.
func (s *Store) Collectors() []prometheus.Collector {
	return []prometheus.Collector{s.expiry, s.reload}
}

// Reload reads the files again. After an error the certificates in use stay.
func (s *Store) Reload() error {
	next := &set{}
	for _, p := range s.config.Pairs {
		// The stamps come first: a file that changes while it is read is read again.
		for _, path := range []string{p.CertFile, p.KeyFile} {
			st, err := stampOf(path)
			if err != nil {
				return s.failed(err)
			}
			next.stamps = append(next.stamps, st)
		}
		cert, err := tls.LoadX509KeyPair(p.CertFile, p.KeyFile)
		if err != nil {
			return s.failed(fmt.Errorf("certificate %s: %w", p.CertFile, err))
		}
		next.certs = append(next.certs, &cert)
	}
	s.set.Store(next)
	s.reload.WithLabelValues("ok").Inc()
	return nil
}

func (s *Store) failed(err error) error {
	s.reload.WithLabelValues("error").Inc()
	return err
}

func stampOf(path string) (stamp, error) {
	fi, err := os.Stat(path) // through links, as certbot's live directory has them
	if err != nil {
		return stamp{}, err
	}
	return stamp{path, fi.ModTime(), fi.Size()}, nil
}

// changed reports whether a file is another one than that which was read.
func (s *set) changed() bool {
	for _, old := range s.stamps {
		if now, err := stampOf(old.path); err != nil || now != old {
			return true
		}
	}
	return false
}

// Run reads the certificates again when their files change, until ctx ends. A
// set that is not whole yet, because the key is written after the certificate, is
// tried again.
func (s *Store) Run(ctx context.Context) error {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	warned := time.Time{}
	for {
		if end := s.Expiry(); !end.IsZero() && end.Sub(s.now()) < expiryWarning && s.now().Sub(warned) > 24*time.Hour {
			warned = s.now()
			s.log.WarnContext(ctx, "certificate expires soon", "delay", end.Sub(s.now()))
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		if !s.set.Load().changed() {
			continue
		}
		if err := s.Reload(); err != nil {
			s.log.ErrorContext(ctx, "certificates not read again, the old ones stay in use", "err", err)
			continue
		}
		s.log.InfoContext(ctx, "certificates read again")
	}
}

// Expiry is when the first of the certificates in use expires; zero: there is none.
func (s *Store) Expiry() time.Time {
	var first time.Time
	for _, c := range s.set.Load().certs {
		if first.IsZero() || c.Leaf.NotAfter.Before(first) {
			first = c.Leaf.NotAfter
		}
	}
	if s.config.Issuer != nil {
		if t := s.config.Issuer.Expiry(); first.IsZero() || !t.IsZero() && t.Before(first) {
			first = t
		}
	}
	return first
}

// inUse are the certificates, those of files first.
func (s *Store) inUse() []*tls.Certificate {
	certs := s.set.Load().certs
	if s.config.Issuer == nil {
		return certs
	}
	return append(certs[:len(certs):len(certs)], s.config.Issuer.Issued()...)
}

// First is the certificate of the server itself, the first of the configuration.
func (s *Store) First() *tls.Certificate { return s.inUse()[0] }

// Config returns the configuration for listeners. It is shared by all of them
// and lasts as long as the store: what changes is behind it.
func (s *Store) Config() *tls.Config {
	return s.configured("tls session", nil)
}

// Asking is Config for listeners whose clients may show a certificate. It is asked
// for and never insisted on, and not judged here: whoever lets somebody in by it
// does that (tls.RequestClientCert). Clients are told the authorities whose
// certificates are of use, as they are at that moment. That a client has the key of
// its certificate is proved in any case.
func (s *Store) Asking(authorities func() *x509.CertPool) *tls.Config {
	c := s.configured("tls session of who was asked for a certificate", func(one *tls.Config) {
		one.ClientAuth, one.ClientCAs = tls.RequestClientCert, authorities()
	})
	c.ClientAuth = tls.RequestClientCert
	return c
}

// configured is the configuration of listeners whose tickets have one purpose. ask
// completes it for one handshake; nil: there is nothing to.
func (s *Store) configured(purpose string, ask func(one *tls.Config)) *tls.Config {
	base := &tls.Config{
		MinVersion:     tls.VersionTLS12,
		GetCertificate: s.certificate,
		// Of TLS 1.2 what has forward secrecy and an AEAD (RFC 9325 §4.2); TLS 1.3
		// has nothing else.
		CipherSuites: []uint16{
			tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
			tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
			tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256, tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
		},
	}
	tickets := &sessions{base: base, sealer: s.config.Sealer, purpose: purpose}
	c := base.Clone()
	c.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		if other, err := s.present(hello); other != nil || err != nil {
			return other, err
		}
		r, ok := hello.Conn.(Recognizer)
		if !ok && ask == nil {
			return nil, nil
		}
		one := base.Clone()
		if ask != nil {
			ask(one)
		}
		if ok {
			tickets.follow(one, r)
		}
		return one, nil
	}
	return c
}

// Speak returns a copy of a configuration for listeners that speak protocols, by their
// names in RFC 7301, and no others.
func Speak(config *tls.Config, protocols ...string) *tls.Config {
	c := config.Clone()
	c.NextProtos = protocols
	forClient := c.GetConfigForClient
	if forClient == nil {
		return c
	}
	c.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		one, err := forClient(hello)
		if one != nil && len(one.NextProtos) == 0 { // that of an authority's validation has its own
			one.NextProtos = protocols
		}
		return one, err
	}
	return c
}

// ByName returns a configuration that is under for clients that ask for name (RFC 6066
// §3), and other for all others.
func ByName(name string, under, other *tls.Config) *tls.Config {
	c := other.Clone()
	c.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		config := other
		if strings.EqualFold(hello.ServerName, name) {
			config = under
		}
		if config.GetConfigForClient == nil {
			return config.Clone(), nil
		}
		one, err := config.GetConfigForClient(hello)
		if one == nil && err == nil && config == under {
			one = under.Clone()
			one.GetConfigForClient = nil
		}
		return one, err
	}
	return c
}

// A Presenter is a connection below TLS that wants to know which certificate its
// client is shown: crypto/tls does not tell, and channel bindings need it
// (RFC 5929 §4).
type Presenter interface {
	// Present is called during each handshake, before the certificate is sent.
	Present(leaf *x509.Certificate)
}

// present tells a Presenter which certificate it is. It is called for a session
// that is resumed too, where no certificate is sent: then it is the one that would
// be, which is that of the first handshake unless it was changed since.
func (s *Store) present(hello *tls.ClientHelloInfo) (*tls.Config, error) {
	if s.config.Issuer != nil {
		if c, err := s.config.Issuer.Challenge(hello); c != nil || err != nil {
			return c, err
		}
	}
	if p, ok := hello.Conn.(Presenter); ok {
		cert, err := s.certificate(hello)
		if err != nil {
			return nil, err
		}
		p.Present(cert.Leaf)
	}
	return nil, nil
}

// certificate chooses for one handshake: the first certificate that the client
// can use for the name it asks for, else the first one that it can use, else the
// first one.
func (s *Store) certificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	certs := s.inUse()
	for _, c := range certs {
		if hello.SupportsCertificate(c) == nil {
			return c, nil
		}
	}
	nameless := *hello
	nameless.ServerName = ""
	for _, c := range certs {
		if nameless.SupportsCertificate(c) == nil {
			return c, nil
		}
	}
	return certs[0], nil
}
