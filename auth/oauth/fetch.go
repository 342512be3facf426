package oauth

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"
)

const (
	requestTime = 5 * time.Second // for one request, all of it
	maxKeySet   = 512 << 10
	maxAnswer   = 64 << 10
)

// errMissing reports that there is no such document.
var errMissing = errors.New("404 Not Found")

// newClient returns the client for requests to one issuer. It follows no redirect:
// whoever can make an issuer redirect would choose the keys. It uses no proxy.
func newClient(c Issuer) *http.Client {
	return &http.Client{
		Timeout:       requestTime,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: &http.Transport{
			DialContext:            (&net.Dialer{Timeout: requestTime}).DialContext,
			TLSClientConfig:        &tls.Config{RootCAs: c.Roots, MinVersion: tls.VersionTLS12},
			TLSHandshakeTimeout:    requestTime,
			ResponseHeaderTimeout:  requestTime,
			MaxResponseHeaderBytes: 64 << 10,
			MaxConnsPerHost:        8,
			IdleConnTimeout:        time.Minute,
			DisableCompression:     true, // what is bounded is what is sent
			ForceAttemptHTTP2:      true,
		},
	}
}

// get fetches a document of at most most octets.
func get(ctx context.Context, client *http.Client, address string, most int64) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", "application/json")
	return do(client, req, most)
}

// postForm asks with a form, as one client of the issuer (RFC 6749 §2.3.1).
func postForm(ctx context.Context, client *http.Client, address, id, secret string, form url.Values) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, address, strings.NewReader(form.Encode()))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", "application/json")
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.SetBasicAuth(url.QueryEscape(id), url.QueryEscape(secret))
	return do(client, req, maxAnswer)
}

func do(client *http.Client, req *http.Request, most int64) ([]byte, error) {
	resp, err := client.Do(req)
	if err != nil {
		return nil, err // it names the URL, which has no secret
	}
	defer resp.Body.Close()
	switch {
	case resp.StatusCode == http.StatusNotFound:
		return nil, fmt.Errorf("%s: %w", req.URL.Redacted(), errMissing)
	case resp.StatusCode >= 300 && resp.StatusCode < 400:
		return nil, fmt.Errorf("%s redirects, which is not followed: configure where it leads to, if you trust that", req.URL.Redacted())
	case resp.StatusCode != http.StatusOK:
		return nil, fmt.Errorf("%s: %.60s", req.URL.Redacted(), resp.Status)
	}
	b, err := io.ReadAll(io.LimitReader(resp.Body, most+1))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", req.URL.Redacted(), err)
	}
	if int64(len(b)) > most {
		return nil, fmt.Errorf("%s: more than %d octets", req.URL.Redacted(), most)
	}
	return b, nil
}

// readFile reads a file of at most most octets.
func readFile(path string, most int64) ([]byte, error) {
	f, err := os.Open(filepath.Clean(path))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, most+1))
	if err != nil {
		return nil, err
	}
	if int64(len(b)) > most {
		return nil, fmt.Errorf("%s: more than %d octets", path, most)
	}
	return b, nil
}
