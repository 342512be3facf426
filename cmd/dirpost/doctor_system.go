package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// maxMetrics bounds what is read of the metrics of a node.
const maxMetrics = 16 << 20

// errNoHTTP reports that no listener of this node tells its metrics.
var errNoHTTP = errors.New("there is no [[listener]] with the protocol http")

// readMetrics reads the metrics of the node that runs on this host. Its certificate
// is for a name that may lead elsewhere, so it is not looked at: nothing secret goes
// there.
func readMetrics(ctx context.Context, f *File) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	err := errNoHTTP
	for i := range f.Listener {
		l := &f.Listener[i]
		if l.Protocol != "http" {
			continue
		}
		var text string
		if text, err = l.readMetrics(ctx); err == nil {
			return text, nil
		}
	}
	return "", err
}

func (l *ListenerSection) readMetrics(ctx context.Context) (string, error) {
	scheme := "http"
	if l.TLS == "implicit" {
		scheme = "https"
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, scheme+"://"+l.here()+"/metrics", nil)
	if err != nil {
		return "", err
	}
	client := http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DisableKeepAlives: true}}
	res, err := client.Do(req)
	if err != nil {
		return "", err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return "", fmt.Errorf("%s: %s", req.URL, res.Status)
	}
	b, err := io.ReadAll(io.LimitReader(res.Body, maxMetrics))
	return string(b), err
}

// metric is the value of a metric without labels.
func metric(text, name string) (float64, bool) {
	for line := range strings.Lines(text) {
		if value, ok := strings.CutPrefix(line, name+" "); ok {
			v, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
			return v, err == nil
		}
	}
	return 0, false
}
