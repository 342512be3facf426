package acme

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"dirpost/internal/postgres"

	"golang.org/x/time/rate"
)

// Config is what an administrator sets.
type Config struct {
	Directory string   // URL of the authority's directory
	Contact   string   // address that the authority may write to; "" none
	Names     []string // host names, that of the server first
	// Kind is the challenge, "http-01" (port 80) or "tls-alpn-01" (port 443).
	Kind string
	// Roots are whom the authority's own certificate is from; nil: those of the
	// system.
	Roots *x509.CertPool
	// KeyID and MAC are an account of the authority's own (RFC 8555 §7.3.4); "" none.
	KeyID string
	MAC   []byte
}

// Validate reports what cannot be meant.
func (c Config) Validate() error {
	if u, err := url.Parse(c.Directory); err != nil || u.Scheme != "https" || u.Host == "" {
		return fmt.Errorf("directory: %q is no https URL", c.Directory)
	}
	if len(c.Names) == 0 {
		return errors.New("names: at least one is wanted")
	}
	for _, n := range c.Names {
		if strings.ContainsAny(n, "*@/: ") || !strings.Contains(n, ".") {
			return fmt.Errorf("names: %q is no host name", n)
		}
	}
	if c.Kind != HTTP01 && c.Kind != TLSALPN01 {
		return fmt.Errorf("challenge: %q is none of %s, %s", c.Kind, HTTP01, TLSALPN01)
	}
	return nil
}

// The challenges.
const (
	HTTP01    = "http-01"
	TLSALPN01 = "tls-alpn-01"
)

// Topic is the topic of hints that a certificate is new.
const Topic = "certificate"

// Sealer seals keys for their row; seal.Sealer is one.
type Sealer interface {
	Seal(purpose string, value []byte) []byte
	Open(purpose string, sealed []byte) ([]byte, error)
}

// Hinter carries hints between nodes. Hints may get lost.
type Hinter interface {
	Publish(topic, payload string)
	Subscribe(topic string, f func(payload string)) (cancel func())
}

// Manager has the certificates of the configured names.
type Manager struct {
	config Config
	db     *postgres.DB
	sealer Sealer
	hints  Hinter
	node   string // holder of leases
	log    *slog.Logger

	issued   atomic.Pointer[[]*tls.Certificate]
	standIn  *tls.Certificate // until there is one
	versions atomic.Pointer[string]
	lookups  *rate.Limiter
	wake     chan struct{}
}

// New returns a Manager that has what the database has.
func New(ctx context.Context, c Config, db *postgres.DB, sealer Sealer, hints Hinter, node string, log *slog.Logger) (*Manager, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	m := &Manager{config: c, db: db, sealer: sealer, hints: hints, node: node, log: log, lookups: rate.NewLimiter(50, 50), wake: make(chan struct{}, 1)}
	m.issued.Store(&[]*tls.Certificate{})
	none := ""
	m.versions.Store(&none)
	var err error
	if m.standIn, err = standIn(c.Names[0]); err != nil {
		return nil, err
	}
	if err := m.load(ctx); err != nil {
		return nil, err
	}
	return m, nil
}

// Issued are the certificates that there are, that of the first name first. They
// have their Leaf. Until the first one is there it is one that nobody trusts, so that
// the server can be reached, by the authority too.
func (m *Manager) Issued() []*tls.Certificate {
	if all := *m.issued.Load(); len(all) > 0 {
		return all
	}
	return []*tls.Certificate{m.standIn}
}

// Expiry is when the first certificate expires; zero while there is none.
func (m *Manager) Expiry() (first time.Time) {
	for _, c := range *m.issued.Load() {
		if first.IsZero() || c.Leaf.NotAfter.Before(first) {
			first = c.Leaf.NotAfter
		}
	}
	return first
}

// lookEvery is how often a node looks for new certificates and for work. Hints come
// sooner.
const lookEvery = time.Minute

// Run gets what is missing, renews what is due and follows what other nodes have got,
// until ctx ends.
func (m *Manager) Run(ctx context.Context) error {
	if m.hints != nil {
		defer m.hints.Subscribe(Topic, func(string) { m.signal() })()
	}
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		if err := m.work(ctx); err != nil && ctx.Err() == nil {
			m.log.ErrorContext(ctx, "certificates are not looked after", "err", err)
		}
		if err := m.load(ctx); err != nil && ctx.Err() == nil {
			m.log.ErrorContext(ctx, "certificates cannot be read", "err", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		case <-m.wake:
		}
	}
}

func (m *Manager) signal() {
	select {
	case m.wake <- struct{}{}:
	default:
	}
}

// work makes rows of names that have none, and asks for what is due.
func (m *Manager) work(ctx context.Context) error {
	if err := m.purge(ctx); err != nil {
		return err
	}
	if err := m.add(ctx); err != nil {
		return err
	}
	for {
		o, err := m.lease(ctx)
		if err != nil || o == nil {
			return err
		}
		if err := m.renew(ctx, o); err != nil {
			return err
		}
	}
}

// renew asks for one certificate and stores what came of it.
func (m *Manager) renew(ctx context.Context, o *owed) error {
	chain, err := m.ask(ctx, o)
	if ctx.Err() != nil {
		return ctx.Err() // the lease runs out, and another node goes on
	}
	if err != nil {
		wait := retry(o.failures)
		m.log.WarnContext(ctx, "no certificate from the authority", "name", o.name, "failures", o.failures+1, "delay", wait, "err", err)
		return m.failed(ctx, o, err, wait)
	}
	leaf := chain[0]
	if err := m.store(ctx, o, chain, renewal(leaf)); err != nil {
		return err
	}
	m.log.InfoContext(ctx, "certificate issued", "name", o.name, "expires", leaf.NotAfter)
	if m.hints != nil {
		m.hints.Publish(Topic, o.name)
	}
	return m.load(ctx)
}

// retry is how long to wait after a failure, with failures before it.
func retry(failures int) time.Duration {
	return min(time.Hour<<min(failures, 5), 24*time.Hour)
}

// renewal is when a certificate is renewed.
func renewal(leaf *x509.Certificate) time.Time {
	life := leaf.NotAfter.Sub(leaf.NotBefore)
	return leaf.NotAfter.Add(-life / 3)
}

// newKey makes a key for a name or an account.
func newKey() ([]byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	return x509.MarshalPKCS8PrivateKey(key)
}

// parseKey reads what newKey has made.
func parseKey(der []byte) (crypto.Signer, error) {
	key, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return nil, err
	}
	signer, ok := key.(crypto.Signer)
	if !ok {
		return nil, fmt.Errorf("a key of type %T does not sign", key)
	}
	return signer, nil
}

// encode is a chain in PEM.
func encode(chain []*x509.Certificate) string {
	var b strings.Builder
	for _, c := range chain {
		_ = pem.Encode(&b, &pem.Block{Type: "CERTIFICATE", Bytes: c.Raw}) // a Builder takes everything
	}
	return b.String()
}

// certificate is a stored one for handshakes.
func certificate(chain string, key crypto.Signer) (*tls.Certificate, error) {
	c := &tls.Certificate{PrivateKey: key}
	for rest := []byte(chain); ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		c.Certificate = append(c.Certificate, block.Bytes)
	}
	if len(c.Certificate) == 0 {
		return nil, errors.New("no certificate in the chain")
	}
	var err error
	if c.Leaf, err = x509.ParseCertificate(c.Certificate[0]); err != nil {
		return nil, err
	}
	if pub, ok := c.Leaf.PublicKey.(interface{ Equal(crypto.PublicKey) bool }); !ok || !pub.Equal(key.Public()) {
		return nil, errors.New("the certificate is of another key")
	}
	return c, nil
}

// inOrder sorts certificates as the configuration names them.
func (m *Manager) inOrder(byName map[string]*tls.Certificate) []*tls.Certificate {
	var all []*tls.Certificate
	for _, name := range m.config.Names {
		if c := byName[name]; c != nil && !slices.Contains(all, c) {
			all = append(all, c)
		}
	}
	return all
}
