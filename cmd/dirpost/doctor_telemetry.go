package main

import (
	"context"

	"dirpost/internal/tracing"
)

// telemetry asks the collector of traces, if there is one. Mail does not wait for it.
func (d *doctor) telemetry(ctx context.Context) {
	const subject = "traces"
	s := d.file.Telemetry
	if s.Endpoint == "" {
		return
	}
	c, err := s.read()
	if err != nil {
		d.bad(subject, "correct [telemetry]", err)
		return
	}
	c.Version = version()
	if err := tracing.Probe(ctx, c); err != nil {
		d.warn(subject, "mail goes on, and traces are lost: look at the collector, telemetry.headers and telemetry.ca", "%s: %v", s.Endpoint, err)
		return
	}
	d.ok(subject, "%s takes them", s.Endpoint)
}
