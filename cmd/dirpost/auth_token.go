package main

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"time"

	"dirpost/auth"
	"dirpost/auth/oauth"
)

// OAuthSection is one of [[auth.oauth]].
type OAuthSection struct {
	Issuer      string   `toml:"issuer"`
	Audience    []string `toml:"audience"`
	Claim       string   `toml:"claim"`
	Match       string   `toml:"match"`
	Directories []string `toml:"directories"`
	Scope       []string `toml:"scope"`
	Discovery   string   `toml:"discovery"`
	Keys        string   `toml:"keys"`
	CA          string   `toml:"ca"`
	Algorithms  []string `toml:"algorithms"`
	Typed       bool     `toml:"typed"`
	Skew        Duration `toml:"skew"`
	EndSessions bool     `toml:"end_sessions"`

	Introspection string   `toml:"introspection"`
	ClientID      string   `toml:"client_id"`
	ClientSecret  Secret   `toml:"client_secret"`
	Remember      Duration `toml:"remember"`
}

// config is what the verifier of tokens is told, without what stands in files.
func (s OAuthSection) config(directories []string) oauth.Issuer {
	c := oauth.Issuer{
		Issuer: s.Issuer, Audience: s.Audience, Claim: s.Claim, Match: oauth.Match(s.Match), Directories: s.Directories, Scope: s.Scope,
		Discovery: s.Discovery, Keys: s.Keys, Algorithms: s.Algorithms, Typed: s.Typed, Skew: time.Duration(s.Skew), EndSessions: s.EndSessions,
		Introspection: s.Introspection, ClientID: s.ClientID, Remember: time.Duration(s.Remember),
	}
	if c.Directories == nil {
		c.Directories = directories
	}
	return c
}

// validateIssuers checks what [[auth.oauth]] says, without its files.
func (f *File) validateIssuers() []error {
	var errs []error
	all := f.issuers()
	for n, c := range all {
		if err := c.Validate(); err != nil {
			errs = append(errs, fmt.Errorf("auth.oauth %d: %w", n+1, err))
		}
		errs = append(errs, f.knownDirectories(fmt.Sprintf("auth.oauth %d", n+1), c.Directories)...)
	}
	if len(errs) == 0 {
		if _, err := oauth.New(all); err != nil {
			errs = append(errs, fmt.Errorf("auth.oauth: %w", err))
		}
	}
	return errs
}

// knownDirectories checks that these are names of directories.
func (f *File) knownDirectories(key string, names []string) []error {
	var errs []error
	for _, name := range names {
		if _, ok := f.Directory[name]; !ok {
			errs = append(errs, fmt.Errorf("%s: directories: there is no [directory.%s]", key, name))
		}
	}
	return errs
}

func (f *File) issuers() []oauth.Issuer {
	all := make([]oauth.Issuer, len(f.Auth.OAuth))
	for n, s := range f.Auth.OAuth {
		all[n] = s.config(f.names())
	}
	return all
}

// tokens returns the verifier of tokens with what stands in files, nil if there is
// no issuer.
func (f *File) tokens() (*oauth.Verifier, error) {
	if len(f.Auth.OAuth) == 0 {
		return nil, nil
	}
	all := f.issuers()
	for n, s := range f.Auth.OAuth {
		var err error
		if all[n].ClientSecret, err = s.ClientSecret.Resolve(); err != nil {
			return nil, fmt.Errorf("oauth %d: %w", n+1, err)
		}
		if s.CA == "" {
			continue
		}
		b, err := os.ReadFile(s.CA)
		if err != nil {
			return nil, fmt.Errorf("oauth %d: ca: %w", n+1, err)
		}
		all[n].Roots = x509.NewCertPool()
		if !all[n].Roots.AppendCertsFromPEM(b) {
			return nil, fmt.Errorf("oauth %d: ca: no certificate in %s: want PEM", n+1, s.CA)
		}
	}
	v, err := oauth.New(all)
	if err != nil {
		return nil, fmt.Errorf("oauth: %w", err)
	}
	return v, nil
}

// addTokens makes the bridge take tokens, if there is an issuer.
func (n *node) addTokens(parts *auth.Parts) error {
	v, err := n.file.tokens()
	if v == nil || err != nil {
		return err
	}
	n.register(v.Collectors()...)
	n.back = append(n.back, part{"issuers", v.Run})
	parts.Tokens = v
	return nil
}

// issuers asks each issuer for its keys.
func (d *doctor) issuers(ctx context.Context) {
	v, err := d.file.tokens()
	if err != nil {
		d.bad("issuers", "see [[auth.oauth]] and docs/oauth.md", err)
		return
	}
	if v == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	for _, s := range v.Check(ctx) {
		subject := "issuer " + s.Issuer
		switch {
		case errors.Is(s.Err, context.DeadlineExceeded):
			d.bad(subject, "is it running, and may this host connect to it?", s.Err)
		case s.Err != nil:
			d.bad(subject, "its tokens are refused for the time being; docs/oauth.md names what must be reachable", s.Err)
		case s.Keys == 0:
			d.ok(subject, "answers about tokens")
		default:
			d.ok(subject, "%d keys", s.Keys)
		}
	}
}
