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

// landlock says whether the node that runs has given up access to files.
func (d *doctor) landlock(ctx context.Context) {
	const subject = "landlock"
	kernel := landlockVersion()
	if d.file.System.Landlock == landlockOff {
		d.ok(subject, "is off by the configuration (system.landlock)")
		return
	}
	without := "a node could read every file that its user may: a kernel with it (lsm=landlock on its command line), or allow its calls in the unit"
	text, err := readMetrics(ctx, d.file)
	v, known := metric(text, landlockMetric)
	switch {
	case err == nil && known && v > 0:
		d.ok(subject, "version %d restricts the node that runs here", int(v))
	case err == nil && known && kernel > 0:
		d.warn(subject, "its log says why; does the unit allow its calls ('systemctl cat dirpost')?", "the kernel has it, and does not restrict the node that runs here: it could read every file that its user may")
	case kernel == 0:
		d.warn(subject, without, "the kernel has none, or does not let us use it")
	default:
		d.ok(subject, "the kernel has version %d; whether the node that runs uses it was not seen (%v)", kernel, err)
	}
}
