package acme

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"time"

	"golang.org/x/crypto/acme"
)

// orderTime bounds one order, from the first question to the certificate; the lease
// is longer.
const orderTime = 4 * time.Minute

// ask gets a certificate for a name (RFC 8555 §7.4).
func (m *Manager) ask(ctx context.Context, o *owed) ([]*x509.Certificate, error) {
	ctx, cancel := context.WithTimeout(ctx, orderTime)
	defer cancel()
	client, err := m.client(ctx)
	if err != nil {
		return nil, err
	}
	order, err := client.AuthorizeOrder(ctx, acme.DomainIDs(o.name))
	if err != nil {
		return nil, fmt.Errorf("order: %w", err)
	}
	for _, url := range order.AuthzURLs {
		if err := m.authorize(ctx, client, o.name, url); err != nil {
			return nil, err
		}
	}
	if order, err = client.WaitOrder(ctx, order.URI); err != nil {
		return nil, fmt.Errorf("order: %w", err)
	}
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{DNSNames: []string{o.name}}, o.key)
	if err != nil {
		return nil, err
	}
	ders, _, err := client.CreateOrderCert(ctx, order.FinalizeURL, csr, true)
	if err != nil {
		return nil, fmt.Errorf("certificate: %w", err)
	}
	var chain []*x509.Certificate
	for _, der := range ders {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, fmt.Errorf("certificate: %w", err)
		}
		chain = append(chain, c)
	}
	if len(chain) == 0 {
		return nil, errors.New("certificate: the authority has sent none")
	}
	if err := chain[0].VerifyHostname(o.name); err != nil {
		return nil, fmt.Errorf("certificate: %w", err)
	}
	return chain, nil
}

// client is an account with the authority.
func (m *Manager) client(ctx context.Context) (*acme.Client, error) {
	key, err := m.accountKey(ctx)
	if err != nil {
		return nil, err
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.TLSClientConfig = &tls.Config{RootCAs: m.config.Roots}
	client := &acme.Client{Key: key, DirectoryURL: m.config.Directory, UserAgent: "dirpost", HTTPClient: &http.Client{Transport: transport, Timeout: time.Minute}}
	account := &acme.Account{}
	if m.config.Contact != "" {
		account.Contact = []string{"mailto:" + m.config.Contact}
	}
	if m.config.KeyID != "" {
		account.ExternalAccountBinding = &acme.ExternalAccountBinding{KID: m.config.KeyID, Key: m.config.MAC}
	}
	// Whoever writes the authority's URL into the configuration agrees to its terms.
	if _, err = client.Register(ctx, account, acme.AcceptTOS); err != nil && !errors.Is(err, acme.ErrAccountAlreadyExists) {
		return nil, fmt.Errorf("account: %w", err)
	}
	return client, nil
}

// authorize shows that a name is ours.
func (m *Manager) authorize(ctx context.Context, client *acme.Client, name, url string) error {
	a, err := client.GetAuthorization(ctx, url)
	if err != nil {
		return fmt.Errorf("authorization: %w", err)
	}
	if a.Status == acme.StatusValid {
		return nil
	}
	var challenge *acme.Challenge
	for _, c := range a.Challenges {
		if c.Type == m.config.Kind {
			challenge = c
		}
	}
	if challenge == nil {
		return fmt.Errorf("authorization: the authority offers no %s", m.config.Kind)
	}
	answer, err := client.HTTP01ChallengeResponse(challenge.Token) // the key authorization, which is the same for all kinds
	if err != nil {
		return err
	}
	// Any node may be asked, so it is committed before the authority hears of it.
	if err := m.putChallenge(ctx, challenge.Token, name, answer); err != nil {
		return err
	}
	defer func() {
		// The answer has no use any more; what is left here is purged within the hour.
		_ = m.dropChallenge(context.WithoutCancel(ctx), challenge.Token)
	}()
	if _, err := client.Accept(ctx, challenge); err != nil {
		return fmt.Errorf("challenge: %w", err)
	}
	if _, err := client.WaitAuthorization(ctx, a.URI); err != nil {
		return fmt.Errorf("authorization: %w", explain(err))
	}
	return nil
}

// explain is what the authority has found wrong, which the library keeps below a
// general error.
func explain(err error) error {
	var failed *acme.AuthorizationError
	if errors.As(err, &failed) && len(failed.Errors) > 0 {
		return errors.Join(failed.Errors...)
	}
	return err
}
