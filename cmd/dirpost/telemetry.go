package main

import (
	"bufio"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"net/textproto"
	"os"
	"strings"

	"dirpost/internal/event"
	"dirpost/internal/tracing"
)

// TelemetrySection is [telemetry].
type TelemetrySection struct {
	Endpoint  string  `toml:"endpoint"`
	Sample    float64 `toml:"sample"`
	Headers   Secret  `toml:"headers"`
	CA        string  `toml:"ca"`
	Addresses bool    `toml:"addresses"`
}

// config is the section as the tracing package has it, without what stands in files.
func (s TelemetrySection) config() tracing.Config {
	c := tracing.Config{Endpoint: s.Endpoint, Sample: s.Sample, Personal: s.Addresses}
	if s.Headers.String() != "" {
		c.Header = http.Header{"Authorization": nil} // to be read: what holds for any holds
	}
	return c
}

// validate checks what can be checked without looking into files.
func (s TelemetrySection) validate() error {
	if s.Endpoint == "" {
		if s.Headers.String() != "" || s.CA != "" || s.Addresses {
			return errors.New("telemetry.endpoint: nothing is sent without it, so the rest of the section says nothing")
		}
		return nil
	}
	if err := s.config().Validate(); err != nil {
		return fmt.Errorf("telemetry.%w", err)
	}
	return nil
}

// read is config with what stands in files.
func (s TelemetrySection) read() (tracing.Config, error) {
	c := s.config()
	text, err := s.Headers.Resolve()
	if err != nil {
		return c, fmt.Errorf("telemetry.headers: %w", err)
	}
	if c.Header, err = parseHeaders(text); err != nil {
		return c, fmt.Errorf("telemetry.headers: %w", err)
	}
	if s.CA == "" {
		return c, nil
	}
	pem, err := os.ReadFile(s.CA)
	if err != nil {
		return c, fmt.Errorf("telemetry.ca: %w", err)
	}
	c.Roots = x509.NewCertPool()
	if !c.Roots.AppendCertsFromPEM(pem) {
		return c, fmt.Errorf("telemetry.ca: %s has no certificate in PEM", s.CA)
	}
	return c, nil
}

// parseHeaders reads lines "Name: value". Its errors do not repeat them.
func parseHeaders(text string) (http.Header, error) {
	h := http.Header{}
	lines := bufio.NewScanner(strings.NewReader(text))
	for n := 1; lines.Scan(); n++ {
		line := strings.TrimSpace(lines.Text())
		if line == "" {
			continue
		}
		name, value, ok := strings.Cut(line, ":")
		if !ok || name == "" || strings.ContainsAny(name, " \t") || strings.ContainsAny(value, "\r\x00") {
			return nil, fmt.Errorf("line %d: write as Name: value", n)
		}
		h.Add(textproto.CanonicalMIMEHeaderKey(name), strings.TrimSpace(value))
	}
	if err := lines.Err(); err != nil {
		return nil, errors.New("a line is too long")
	}
	return h, nil
}

// trace puts a tracer in front of next, if the configuration wants traces.
func (n *node) trace(next event.Sink) (event.Sink, error) {
	if n.file.Telemetry.Endpoint == "" {
		return next, nil
	}
	c, err := n.file.Telemetry.read()
	if err != nil {
		return nil, err
	}
	c.Version, c.Node = version(), n.name()
	t, err := tracing.New(c, next, n.log)
	if err != nil {
		return nil, fmt.Errorf("telemetry.%w", err)
	}
	n.register(t.Collectors()...)
	n.closers = append(n.closers, t.Close)
	n.back = append(n.back, part{"traces", t.Run})
	return t, nil
}
