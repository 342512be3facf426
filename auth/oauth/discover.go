package oauth

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"path/filepath"
	"strings"

	"github.com/go-jose/go-jose/v4"
)

// metadata is what an issuer says about itself (RFC 8414 §2).
type metadata struct {
	Issuer string `json:"issuer"`
	// AccessTokenIssuer is what AD FS has in iss of access tokens.
	AccessTokenIssuer string `json:"access_token_issuer"`
	JWKSURI           string `json:"jwks_uri"`
}

// discovery returns the URLs where the metadata of an issuer may be, the better
// first: OpenID Connect Discovery §4, RFC 8414 §3.1.
func discovery(c Issuer) []string {
	if c.Discovery != "" {
		return []string{c.Discovery}
	}
	list := []string{strings.TrimSuffix(c.Issuer, "/") + "/.well-known/openid-configuration"}
	if u, err := url.Parse(c.Issuer); err == nil {
		u.Path = "/.well-known/oauth-authorization-server" + strings.TrimSuffix(u.Path, "/")
		list = append(list, u.String())
	}
	return list
}

// loader returns the function that fetches the keys of an issuer.
func loader(c Issuer, client *http.Client) func(context.Context) ([]jose.JSONWebKey, error) {
	return func(ctx context.Context) ([]jose.JSONWebKey, error) {
		if filepath.IsAbs(c.Keys) {
			b, err := readFile(c.Keys, maxKeySet)
			if err != nil {
				return nil, err
			}
			return parseKeySet(b)
		}
		address := c.Keys
		if address == "" {
			m, err := discover(ctx, c, client)
			if err != nil {
				return nil, err
			}
			address = m.JWKSURI
		}
		b, err := get(ctx, client, address, maxKeySet)
		if err != nil {
			return nil, err
		}
		keys, err := parseKeySet(b)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", address, err)
		}
		return keys, nil
	}
}

// discover fetches the metadata of an issuer, which must be about that issuer
// (RFC 8414 §3.3).
func discover(ctx context.Context, c Issuer, client *http.Client) (*metadata, error) {
	var b []byte
	var err error
	for _, address := range discovery(c) {
		if b, err = get(ctx, client, address, maxAnswer); !errors.Is(err, errMissing) {
			break
		}
	}
	if err != nil {
		return nil, err
	}
	var m metadata
	if err := json.Unmarshal(b, &m); err != nil {
		return nil, fmt.Errorf("metadata of %s: %w", c.Issuer, err)
	}
	if m.Issuer != c.Issuer && m.AccessTokenIssuer != c.Issuer {
		return nil, fmt.Errorf("metadata of %s are those of %.200q: write that as issuer, if it is meant", c.Issuer, m.Issuer)
	}
	if !isHTTPS(m.JWKSURI) {
		return nil, fmt.Errorf("metadata of %s: jwks_uri %.200q is no https URL", c.Issuer, m.JWKSURI)
	}
	return &m, nil
}
