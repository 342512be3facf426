package oauth

import (
	"context"
	"crypto/sha256"
	"fmt"
	"net/http"
	"net/url"
	"sync"
	"time"
)

const (
	maxRemembered = 20_000           // answers of one issuer
	rememberNo    = 10 * time.Second // for how long "not active" counts
	maxQuestions  = 16               // at once
)

// introspector asks an issuer about tokens (RFC 7662).
type introspector struct {
	c      Issuer
	client *http.Client
	turns  chan struct{}

	mu      sync.Mutex // guards answers
	answers map[[sha256.Size]byte]answer
}

// answer is what the issuer said about one token; nil: that it is not active.
type answer struct {
	claims claims
	until  time.Time
}

func newIntrospector(c Issuer, client *http.Client) *introspector {
	return &introspector{c: c, client: client, turns: make(chan struct{}, maxQuestions), answers: map[[sha256.Size]byte]answer{}}
}

// ask returns what the issuer says about a token. A *Refusal means that it is not
// active.
func (x *introspector) ask(ctx context.Context, token string, now time.Time) (claims, error) {
	key := sha256.Sum256([]byte(token))
	a, ok := x.remembered(key, now)
	if !ok {
		var err error
		if a, err = x.request(ctx, token, now); err != nil {
			return nil, fmt.Errorf("ask the issuer about a token: %w", err)
		}
		x.remember(key, a, now)
	}
	if a.claims == nil {
		return nil, &Refusal{Class: "inactive", Status: statusInvalid, Detail: "not active, says the issuer"}
	}
	return a.claims, nil
}

func (x *introspector) remembered(key [sha256.Size]byte, now time.Time) (answer, bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	a, ok := x.answers[key]
	return a, ok && now.Before(a.until)
}

// remember keeps an answer. When there is no room, those go that no longer count,
// and then any.
func (x *introspector) remember(key [sha256.Size]byte, a answer, now time.Time) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if len(x.answers) >= maxRemembered {
		for k, old := range x.answers {
			if !now.Before(old.until) {
				delete(x.answers, k)
			}
		}
		for k := range x.answers {
			if len(x.answers) < maxRemembered {
				break
			}
			delete(x.answers, k)
		}
	}
	x.answers[key] = a
}

func (x *introspector) request(ctx context.Context, token string, now time.Time) (answer, error) {
	select {
	case x.turns <- struct{}{}:
		defer func() { <-x.turns }()
	case <-ctx.Done():
		return answer{}, ctx.Err()
	}
	ctx, cancel := context.WithTimeout(ctx, requestTime)
	defer cancel()
	b, err := postForm(ctx, x.client, x.c.Introspection, x.c.ClientID, x.c.ClientSecret,
		url.Values{"token": {token}, "token_type_hint": {"access_token"}})
	if err != nil {
		return answer{}, err
	}
	c, err := parseClaims(b)
	if err != nil || !c.has("active") {
		return answer{}, fmt.Errorf("%s: no answer of RFC 7662", x.c.Introspection)
	}
	if !c.yes("active") {
		return answer{until: now.Add(rememberNo)}, nil
	}
	a := answer{claims: c, until: now.Add(x.c.Remember)}
	if exp, ok := c.time("exp"); ok && !exp.IsZero() && exp.Before(a.until) {
		a.until = exp
	}
	return a, nil
}

// check asks about a token that nobody has issued.
func (x *introspector) check(ctx context.Context) error {
	_, err := x.request(ctx, "dirpost-check", time.Now())
	return err
}
