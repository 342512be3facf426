package certificate

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"dirpost/directory"
)

// Refusal says that a certificate was judged, and why it does not count. Any other
// error means that it was not judged.
type Refusal struct {
	Class  string // a word for the audit
	Detail string // for the log
}

// Error says so.
func (r *Refusal) Error() string { return "certificate refused: " + r.Detail }

// ErrNone reports that the client has shown no certificate.
var ErrNone = errors.New("the client has shown no certificate")

// Certificate is a certificate that leads to one of our authorities.
type Certificate struct {
	Leaf   *x509.Certificate
	chains [][]*x509.Certificate
}

// Subject describes the certificate for the log, bounded.
func (c *Certificate) Subject() string {
	s := c.Leaf.Subject.String() + " serial " + c.Leaf.SerialNumber.Text(16)
	if len(s) > 200 {
		s = strings.ToValidUTF8(s[:200], "") + "…"
	}
	return s
}

// Mapper finds people by their certificates.
type Mapper struct {
	c     Config
	pools atomic.Pointer[pools]
	lists *lists
	ocsp  *responders
	now   func() time.Time
}

// pools are the authorities. They are immutable.
type pools struct {
	roots, between *x509.CertPool
	all            []*x509.Certificate
}

// maxAuthorities bounds a file of certificates, in octets.
const maxAuthorities = 4 << 20

// New returns a Mapper for c, whose files it reads. It asks nobody yet.
func New(c Config) (*Mapper, error) {
	c = c.withDefaults()
	if err := c.Validate(); err != nil {
		return nil, err
	}
	m := &Mapper{c: c, now: time.Now}
	client := newClient()
	m.lists = newLists(client, c.RefreshEvery, func() time.Time { return m.now() })
	m.lists.places = c.CRL
	m.ocsp = newResponders(client, func() time.Time { return m.now() })
	return m, m.Reload()
}

// Reload reads the files of the authorities again. After an error those in use
// stay.
func (m *Mapper) Reload() error {
	p := &pools{roots: x509.NewCertPool(), between: x509.NewCertPool()}
	for _, f := range []struct {
		names []string
		pool  *x509.CertPool
	}{{m.c.CA, p.roots}, {m.c.Intermediate, p.between}} {
		for _, name := range f.names {
			certs, err := readAuthorities(name)
			if err != nil {
				return err
			}
			for _, c := range certs {
				f.pool.AddCert(c)
			}
			p.all = append(p.all, certs...)
		}
	}
	m.pools.Store(p)
	return nil
}

func readAuthorities(name string) ([]*x509.Certificate, error) {
	b, err := os.ReadFile(filepath.Clean(name))
	if err != nil {
		return nil, err
	}
	if len(b) > maxAuthorities {
		return nil, fmt.Errorf("%s: more than %d octets", name, maxAuthorities)
	}
	var certs []*x509.Certificate
	for {
		var block *pem.Block
		if block, b = pem.Decode(b); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			continue
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		if !c.IsCA {
			return nil, fmt.Errorf("%s: %s is no authority", name, c.Subject)
		}
		certs = append(certs, c)
	}
	if len(certs) == 0 {
		return nil, fmt.Errorf("%s: no certificate in it: want PEM", name)
	}
	return certs, nil
}

// Authorities are what a client is told, so that it can choose a certificate.
func (m *Mapper) Authorities() *x509.CertPool { return m.pools.Load().roots }

// Expiry is when the first of the authorities expires.
func (m *Mapper) Expiry() time.Time {
	var first time.Time
	for _, c := range m.pools.Load().all {
		if first.IsZero() || c.NotAfter.Before(first) {
			first = c.NotAfter
		}
	}
	return first
}

// Verify checks that the client of a connection has shown a certificate that leads
// to one of our authorities, is valid now and is for client authentication. It asks
// nobody. Possession of the key was proved in the handshake. The error is ErrNone or
// a *Refusal.
func (m *Mapper) Verify(state *tls.ConnectionState) (*Certificate, error) {
	if state == nil || len(state.PeerCertificates) == 0 {
		return nil, ErrNone
	}
	leaf := state.PeerCertificates[0]
	p := m.pools.Load()
	between := p.between
	if more := state.PeerCertificates[1:]; len(more) > 0 {
		between = between.Clone()
		for _, c := range more[:min(len(more), 8)] {
			between.AddCert(c)
		}
	}
	chains, err := leaf.Verify(x509.VerifyOptions{
		Roots: p.roots, Intermediates: between, CurrentTime: m.now(),
		KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})
	if err != nil {
		return nil, &Refusal{Class: classOf(err), Detail: err.Error()}
	}
	// Verify takes a certificate that says nothing of its use for any use.
	if !slices.Contains(leaf.ExtKeyUsage, x509.ExtKeyUsageClientAuth) && !slices.Contains(leaf.ExtKeyUsage, x509.ExtKeyUsageAny) {
		return nil, &Refusal{Class: "usage", Detail: "not declared to be for client authentication"}
	}
	if leaf.IsCA {
		return nil, &Refusal{Class: "usage", Detail: "that of an authority"}
	}
	return &Certificate{leaf, chains}, nil
}

// classOf is the word of the audit for what Verify of crypto/x509 says.
func classOf(err error) string {
	var invalid x509.CertificateInvalidError
	var unknown x509.UnknownAuthorityError
	switch {
	case errors.As(err, &unknown):
		return "authority"
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return "expired"
	case errors.As(err, &invalid) && invalid.Reason == x509.IncompatibleUsage:
		return "usage"
	}
	return "invalid"
}

// Person returns whose certificate c is, and by which of the ways that was found.
// The error is a *Refusal: it is nobody's, or it cannot be told whose.
func (m *Mapper) Person(s *directory.Snapshot, c *Certificate) (e *directory.Entry, by string, err error) {
	var found *directory.Entry
	consider := func(way string, e *directory.Entry) error {
		switch {
		case e == nil || !slices.Contains(m.c.Directories, e.Directory):
			return nil
		case found == nil:
			found, by = e, way
		case found.Key != e.Key:
			return &Refusal{Class: "ambiguous", Detail: fmt.Sprintf("of %s by %s, of %s by %s", found.Key, by, e.Key, way)}
		}
		return nil
	}
	if m.matches(MatchSID) {
		sid, err := sidOf(c.Leaf)
		if err != nil {
			return nil, "", &Refusal{Class: "invalid", Detail: err.Error()}
		}
		if sid != "" {
			if err := consider(MatchSID, s.BySID(sid)); err != nil {
				return nil, "", err
			}
		}
	}
	if m.matches(MatchSIDURI) {
		if err := consider(MatchSIDURI, s.BySID(sidOfURI(c.Leaf))); err != nil {
			return nil, "", err
		}
	}
	for _, name := range directory.CertificateNames(c.Leaf) {
		way, _, _ := strings.Cut(name, ":")
		if !m.matches(way) {
			continue
		}
		if err := consider(way, s.ByCertificate(name)); err != nil {
			return nil, "", err
		}
	}
	if found == nil {
		return nil, "", &Refusal{Class: "unmapped", Detail: "nobody's: neither its security identifier nor a mapping in the directory names a person (" + c.Subject() + ")"}
	}
	return found, by, nil
}

func (m *Mapper) matches(way string) bool { return slices.Contains(m.c.Match, way) }

// newClient returns the client for lists and responders.
func newClient() *http.Client {
	return &http.Client{
		Timeout: requestTime,
		CheckRedirect: func(req *http.Request, via []*http.Request) error {
			if len(via) >= 3 || !isHTTP(req.URL.String()) {
				return errors.New("too many redirects")
			}
			return nil
		},
		Transport: &http.Transport{
			TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12},
			TLSHandshakeTimeout:    requestTime,
			ResponseHeaderTimeout:  requestTime,
			MaxResponseHeaderBytes: 64 << 10,
			MaxConnsPerHost:        8,
			IdleConnTimeout:        time.Minute,
			DisableCompression:     true,
		},
	}
}
