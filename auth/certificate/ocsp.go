package certificate

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"sync"
	"time"

	"golang.org/x/crypto/ocsp"
)

const (
	maxAnswer    = 64 << 10         // octets of one answer
	maxAnswers   = 50_000           // that are kept
	keepAnswer   = 10 * time.Minute // at most, and no longer than it is valid
	answerSkew   = 5 * time.Minute  // by which the clocks may differ
	maxAnswerAge = 7 * 24 * time.Hour
	awayFor      = 15 * time.Second
	maxAway      = 64 // responders
)

// responders are asked by OCSP (RFC 6960).
type responders struct {
	client *http.Client
	now    func() time.Time

	mu      sync.Mutex // guards what follows
	answers map[[sha256.Size]byte]verdict
	away    map[string]time.Time // responders that did not answer, and until when they are not asked
}

// verdict is what a responder said about a certificate.
type verdict struct {
	revoked bool
	until   time.Time
}

func newResponders(client *http.Client, now func() time.Time) *responders {
	return &responders{client: client, now: now, answers: map[[sha256.Size]byte]verdict{}, away: map[string]time.Time{}}
}

// ask reports whether c was revoked, as the responder at address says. An error
// means that it does not know, or could not be asked.
func (r *responders) ask(ctx context.Context, address string, c, issuer *x509.Certificate) (bool, error) {
	key := sha256.Sum256(slices.Concat(issuer.Raw, c.Raw))
	r.mu.Lock()
	v, ok := r.answers[key]
	away := r.now().Before(r.away[address])
	r.mu.Unlock()
	switch {
	case ok && r.now().Before(v.until):
		return v.revoked, nil
	case away: // one login waits for it, and not all of them
		return false, fmt.Errorf("responder %s: did not answer a moment ago", address)
	}
	ctx, cancel := context.WithTimeout(ctx, requestTime)
	defer cancel()
	b, err := r.request(ctx, address, c, issuer)
	if err == nil {
		if v, err = r.judge(b, c, issuer); err != nil {
			return false, fmt.Errorf("responder %s: %w", address, err)
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if err != nil {
		if len(r.away) >= maxAway {
			clear(r.away)
		}
		r.away[address] = r.now().Add(awayFor)
		return false, fmt.Errorf("responder %s: %w", address, err)
	}
	if len(r.answers) >= maxAnswers {
		clear(r.answers)
	}
	r.answers[key] = v
	return v.revoked, nil
}

func (r *responders) request(ctx context.Context, address string, c, issuer *x509.Certificate) ([]byte, error) {
	question, err := ocsp.CreateRequest(c, issuer, nil)
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, address, bytes.NewReader(question))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/ocsp-request")
	req.Header.Set("Accept", "application/ocsp-response")
	resp, err := r.client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, errors.New(resp.Status)
	}
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	if err != nil {
		return nil, err
	}
	if len(b) > maxAnswer {
		return nil, fmt.Errorf("more than %d octets", maxAnswer)
	}
	return b, nil
}

// judge reads an answer (RFC 6960 §4.2.2).
func (r *responders) judge(b []byte, c, issuer *x509.Certificate) (verdict, error) {
	a, err := ocsp.ParseResponseForCert(b, c, issuer)
	if err != nil {
		return verdict{}, err
	}
	now := r.now()
	// Any certificate of the authority could sign for itself otherwise
	// (RFC 6960 §4.2.2.2).
	if d := a.Certificate; d != nil && !bytes.Equal(d.Raw, issuer.Raw) {
		if !slices.Contains(d.ExtKeyUsage, x509.ExtKeyUsageOCSPSigning) || now.Before(d.NotBefore) || now.After(d.NotAfter) {
			return verdict{}, errors.New("signed by a certificate that is not for OCSP")
		}
	}
	switch {
	case a.ThisUpdate.After(now.Add(answerSkew)):
		return verdict{}, errors.New("answer of a time to come: compare the clocks")
	case !a.NextUpdate.IsZero() && !now.Before(a.NextUpdate.Add(answerSkew)),
		a.NextUpdate.IsZero() && now.Sub(a.ThisUpdate) > maxAnswerAge:
		return verdict{}, errors.New("old answer")
	case a.Status == ocsp.Unknown:
		return verdict{}, errors.New("it does not know the certificate")
	}
	v := verdict{revoked: a.Status == ocsp.Revoked, until: now.Add(keepAnswer)}
	if !a.NextUpdate.IsZero() && a.NextUpdate.Before(v.until) {
		v.until = a.NextUpdate
	}
	return v, nil
}
