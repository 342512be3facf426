package certificate

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/big"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"golang.org/x/crypto/cryptobyte"
	cryptobyte_asn1 "golang.org/x/crypto/cryptobyte/asn1"
)

const (
	maxList    = 32 << 20 // octets of one list
	maxLists   = 64       // that are kept
	retryEvery = time.Minute
)

// errIndirect reports a list that speaks for other authorities. Who may sign for whom
// would have to be found out from certificates that nobody has given us.
var errIndirect = errors.New("an indirect list, that of other authorities (RFC 5280 §5.2.5): have each authority publish its own, or use OCSP")

var (
	oidDeltaCRL     = asn1.ObjectIdentifier{2, 5, 29, 27}
	oidIssuingPoint = asn1.ObjectIdentifier{2, 5, 29, 28}
)

// lists are the revocation lists (RFC 5280 §5) that are known, by their place.
type lists struct {
	client  *http.Client
	refresh time.Duration
	now     func() time.Time
	places  []string // that are configured: delta lists may be among them

	mu    sync.Mutex // guards known
	known map[string]*list
}

// list is one revocation list, and when it was asked for.
type list struct {
	turn chan struct{} // holds one value while it is fetched

	mu    sync.Mutex // guards what follows
	crl   *revocations
	read  time.Time // when crl was
	tried time.Time
	err   error
}

// revocations are what a list says. It is immutable.
type revocations struct {
	raw       *x509.RevocationList // without its entries
	serials   map[string]struct{}  // big-endian octets
	next      time.Time
	onlyUsers bool
	onlyCAs   bool
	base      *big.Int            // number of the full list that this one adds to; nil: it is one itself
	removed   map[string]struct{} // that a delta list takes away from the full one
	freshest  []string            // where delta lists to this one are
	idp       []byte              // its scope, as it is written
	points    []string            // where the part of a divided list is from; nil: not divided
	checkedBy sync.Map            // sha256 of an issuer -> error or nil, what CheckSignatureFrom said
}

func newLists(client *http.Client, refresh time.Duration, now func() time.Time) *lists {
	return &lists{client: client, refresh: refresh, now: now, known: map[string]*list{}}
}

// ask reports whether the list at a place has c. An error means that the list does
// not answer for c, could not be had, or is no longer valid.
func (l *lists) ask(ctx context.Context, place string, c, issuer *x509.Certificate) (bool, error) {
	crl, err := l.get(ctx, place)
	if err != nil {
		return false, fmt.Errorf("list %s: %w", place, err)
	}
	if crl.base != nil {
		return false, fmt.Errorf("list %s: %w", place, errDelta)
	}
	if err := crl.answersFor(c, issuer, l.now()); err != nil {
		return false, fmt.Errorf("list %s: %w", place, err)
	}
	_, revoked := crl.serials[string(c.SerialNumber.Bytes())]
	return l.amend(ctx, crl, c, issuer, revoked), nil
}

// get returns the list at a place, fetched if there is none that is fresh. One
// that could not be fetched again counts until its end.
func (l *lists) get(ctx context.Context, place string) (*revocations, error) {
	return l.getWithin(ctx, place, requestTime)
}

// getWithin is get with a limit of its own for the request.
func (l *lists) getWithin(ctx context.Context, place string, limit time.Duration) (*revocations, error) {
	e, err := l.entry(place)
	if err != nil {
		return nil, err
	}
	crl, tried, err := e.state()
	now := l.now()
	fresh := crl != nil && now.Sub(e.readAt()) < l.refresh && now.Before(crl.next)
	if fresh || now.Sub(tried) < retryEvery && !tried.IsZero() {
		return crl, orNone(crl, err)
	}
	select {
	case e.turn <- struct{}{}:
		defer func() { <-e.turn }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if crl, since, err := e.state(); since.After(tried) {
		return crl, orNone(crl, err)
	}
	fetch, cancel := context.WithTimeout(context.WithoutCancel(ctx), limit)
	defer cancel()
	next, err := l.fetch(fetch, place)
	e.mu.Lock()
	defer e.mu.Unlock()
	e.tried, e.err = l.now(), err
	if err == nil {
		e.crl, e.read = next, e.tried
	}
	return e.crl, orNone(e.crl, err)
}

func orNone(crl *revocations, err error) error {
	if crl != nil {
		return nil
	}
	if err == nil {
		return errors.New("not fetched")
	}
	return err
}

// entry returns the place for a list. Only so many places are kept, since
// certificates name them.
func (l *lists) entry(place string) (*list, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if e := l.known[place]; e != nil {
		return e, nil
	}
	if len(l.known) >= maxLists {
		for p, e := range l.known {
			if crl, tried, _ := e.state(); (crl == nil || l.now().After(crl.next)) && l.now().Sub(tried) > retryEvery {
				delete(l.known, p)
			}
		}
		if len(l.known) >= maxLists {
			return nil, errors.New("more lists than are kept")
		}
	}
	e := &list{turn: make(chan struct{}, 1)}
	l.known[place] = e
	return e, nil
}

func (e *list) state() (*revocations, time.Time, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.crl, e.tried, e.err
}

func (e *list) readAt() time.Time {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.read
}

func (l *lists) fetch(ctx context.Context, place string) (*revocations, error) {
	var in io.ReadCloser
	if filepath.IsAbs(place) {
		f, err := os.Open(filepath.Clean(place))
		if err != nil {
			return nil, err
		}
		in = f
	} else {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, place, nil)
		if err != nil {
			return nil, err
		}
		resp, err := l.client.Do(req)
		if err != nil {
			return nil, err
		}
		in = resp.Body
		if resp.StatusCode != http.StatusOK {
			resp.Body.Close()
			return nil, errors.New(resp.Status)
		}
	}
	defer in.Close()
	b, err := io.ReadAll(io.LimitReader(in, maxList+1))
	if err != nil {
		return nil, err
	}
	if len(b) > maxList {
		return nil, fmt.Errorf("more than %d octets", maxList)
	}
	return parseList(b)
}

// parseList reads a list in DER or PEM, a delta list too. One that answers only for
// some reasons, or for other authorities, is an error.
func parseList(b []byte) (*revocations, error) {
	if bytes.HasPrefix(b, []byte("-----BEGIN")) {
		block, _ := pem.Decode(b)
		if block == nil {
			return nil, errors.New("damaged PEM")
		}
		b = block.Bytes
	}
	raw, err := x509.ParseRevocationList(b)
	if err != nil {
		return nil, err
	}
	r := &revocations{raw: raw, next: raw.NextUpdate, serials: make(map[string]struct{}, len(raw.RevokedCertificateEntries)), removed: map[string]struct{}{}}
	for _, e := range raw.Extensions {
		switch {
		case e.Id.Equal(oidDeltaCRL):
			if err := r.readDelta(e.Value); err != nil {
				return nil, err
			}
		case e.Id.Equal(oidFreshest):
			r.freshest = freshest(e.Value)
		case e.Id.Equal(oidIssuingPoint):
			r.idp = e.Value
			if err := r.scope(e.Value); err != nil {
				return nil, err
			}
		case e.Critical:
			return nil, fmt.Errorf("a critical extension that is not known: %s", e.Id)
		}
	}
	for _, e := range raw.RevokedCertificateEntries {
		if slices.ContainsFunc(e.Extensions, func(x pkix.Extension) bool { return x.Id.Equal(oidIssuer) }) {
			return nil, errIndirect // RFC 5280 §5.3.3
		}
		if slices.ContainsFunc(e.Extensions, func(x pkix.Extension) bool { return x.Critical }) {
			return nil, errors.New("an entry with a critical extension that is not known")
		}
		if e.ReasonCode == reasonRemoved {
			r.removed[string(e.SerialNumber.Bytes())] = struct{}{}
			continue
		}
		r.serials[string(e.SerialNumber.Bytes())] = struct{}{}
	}
	if r.base == nil && len(r.removed) > 0 {
		return nil, errors.New("a full list with entries that only delta lists have")
	}
	raw.RevokedCertificateEntries = nil
	if raw.NextUpdate.IsZero() {
		return nil, errors.New("a list without an end")
	}
	return r, nil
}

// scope reads which certificates the list answers for (RFC 5280 §5.2.5).
func (r *revocations) scope(der []byte) error {
	in := cryptobyte.String(der)
	var seq cryptobyte.String
	if !in.ReadASN1(&seq, cryptobyte_asn1.SEQUENCE) || !in.Empty() {
		return errors.New("scope of the list cannot be read")
	}
	for !seq.Empty() {
		var value cryptobyte.String
		var tag cryptobyte_asn1.Tag
		if !seq.ReadAnyASN1(&value, &tag) {
			return errors.New("scope of the list cannot be read")
		}
		yes := len(value) == 1 && value[0] != 0
		switch tag {
		case cryptobyte_asn1.Tag(0).ContextSpecific().Constructed():
			r.points = pointURIs(value)
		case cryptobyte_asn1.Tag(1).ContextSpecific():
			r.onlyUsers = yes
		case cryptobyte_asn1.Tag(2).ContextSpecific():
			r.onlyCAs = yes
		case cryptobyte_asn1.Tag(4).ContextSpecific():
			if yes {
				return errIndirect
			}
		default: // some reasons only, attribute certificates
			return errors.New("a list for some reasons only: have the authority publish one for all of them (RFC 5280 §5.2.5), or use OCSP")
		}
	}
	return nil
}

// pointURIs returns the URIs of a DistributionPointName (RFC 5280 §4.2.1.13); one
// without any gives a list that fits nothing.
func pointURIs(in cryptobyte.String) []string {
	uris := []string{}
	var names, value cryptobyte.String
	if !in.ReadASN1(&names, cryptobyte_asn1.Tag(0).ContextSpecific().Constructed()) {
		return uris
	}
	for !names.Empty() {
		var tag cryptobyte_asn1.Tag
		if !names.ReadAnyASN1(&value, &tag) {
			return uris
		}
		if tag == cryptobyte_asn1.Tag(6).ContextSpecific() {
			uris = append(uris, string(value))
		}
	}
	return uris
}

// answersFor reports whether r, at the time now, says for a certificate of issuer
// whether it was revoked.
func (r *revocations) answersFor(c, issuer *x509.Certificate, now time.Time) error {
	if r.onlyUsers && c.IsCA || r.onlyCAs && !c.IsCA {
		return errors.New("a list of other certificates")
	}
	// Authorities may divide a list: the part must be that of the certificate
	// (RFC 5280 §6.3.3).
	if r.points != nil && !slices.ContainsFunc(r.points, func(p string) bool { return slices.Contains(c.CRLDistributionPoints, p) }) {
		return errors.New("a part of a list, for other certificates")
	}
	if !bytes.Equal(r.raw.RawIssuer, issuer.RawSubject) {
		return errors.New("a list of another authority")
	}
	if !now.Before(r.next) {
		return fmt.Errorf("ended at %s", r.next.UTC().Format(time.RFC3339))
	}
	// The signature over a large list costs time, and stays what it is.
	key := sha256.Sum256(issuer.Raw)
	if ok, known := r.checkedBy.Load(key); known {
		if ok == nil {
			return nil
		}
		return ok.(error)
	}
	if err := r.raw.CheckSignatureFrom(issuer); err != nil {
		err = fmt.Errorf("signature: %w", err)
		r.checkedBy.Store(key, err)
		return err
	}
	r.checkedBy.Store(key, nil)
	return nil
}

// ListStatus is how it stands with one revocation list.
type ListStatus struct {
	Place string
	Count int       // certificates in it
	Read  time.Time // when it was fetched; zero: never
	Next  time.Time // when it ends
	Err   error     // how the last request ended
	Delta bool      // it only adds to a full list
}

// Lists says how it stands with the lists that were needed so far, and with those
// that are configured after Check.
func (m *Mapper) Lists() []ListStatus {
	m.lists.mu.Lock()
	known := maps.Clone(m.lists.known)
	m.lists.mu.Unlock()
	var all []ListStatus
	for _, place := range slices.Sorted(maps.Keys(known)) {
		e := known[place]
		s := ListStatus{Place: place, Read: e.readAt()}
		var crl *revocations
		if crl, _, s.Err = e.state(); crl != nil {
			s.Count, s.Next, s.Delta = len(crl.serials), crl.next, crl.base != nil
		}
		all = append(all, s)
	}
	return all
}

// orDelta is err, or that a list is no delta list.
func orDelta(err error) error {
	if err == nil {
		return errors.New("it is a full list")
	}
	return err
}

// Check fetches the lists that are configured, and the delta lists that they name. The
// errors are those of lists without which logins fail, and of delta lists, without which
// a revocation counts later.
func (m *Mapper) Check(ctx context.Context) (lists, deltas error) {
	var missing, late []error
	if m.c.Revocation == Off {
		return nil, nil
	}
	for _, place := range m.c.CRL {
		crl, err := m.lists.get(ctx, place)
		if err != nil {
			missing = append(missing, fmt.Errorf("list %s: %w", place, err))
			continue
		}
		for _, p := range crl.freshest {
			if !isHTTP(p) {
				continue
			}
			if d, err := m.lists.getWithin(ctx, p, deltaTime); err != nil || d.base == nil {
				late = append(late, fmt.Errorf("delta list %s of %s: %w", p, place, orDelta(err)))
			}
		}
	}
	return errors.Join(missing...), errors.Join(late...)
}
