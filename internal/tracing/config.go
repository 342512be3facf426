package tracing

import (
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
)

// Config is what an administrator sets of traces.
type Config struct {
	// Endpoint is the URL of the collector, https://HOST:4318; /v1/traces is added
	// to one without a path. http:// is for what nobody need hide: neither Header nor
	// Personal, unless the collector is on this host.
	Endpoint string
	// Sample is the share of traces that are sent, from 0 to 1.
	Sample float64
	// Header are fields of each request, such as Authorization.
	Header http.Header
	// Roots are the authorities that the collector's certificate may be of; nil: the
	// system's.
	Roots *x509.CertPool
	// Personal sends addresses, login names, client addresses and texts of errors too.
	Personal bool
	// Version and Node say who sends: service.version and service.instance.id.
	Version, Node string
}

// Validate reports what cannot be meant.
func (c Config) Validate() error {
	_, err := c.url()
	if !(c.Sample >= 0 && c.Sample <= 1) {
		err = errors.Join(err, fmt.Errorf("sample: %v is no share between 0 and 1", c.Sample))
	}
	return err
}

// url is where requests go.
func (c Config) url() (*url.URL, error) {
	u, err := url.Parse(c.Endpoint)
	if err != nil || u.Host == "" || u.User != nil || u.Scheme != "https" && u.Scheme != "http" {
		return nil, errors.New("endpoint: want a URL such as https://collector.example.com:4318, without user and password")
	}
	if u.Scheme == "http" && (c.Personal || len(c.Header) > 0) && !isLoopback(u.Hostname()) {
		return nil, errors.New("endpoint: headers and personal data go by https:// only, except to this host")
	}
	if strings.Trim(u.Path, "/") == "" {
		u.Path = "/v1/traces"
	}
	return u, nil
}

func isLoopback(host string) bool {
	a, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && a.IsLoopback()
}
