//go:build acceptance

package main

import "testing"

// Prometheus's own tool reads the alerts and the configuration.
func TestAcceptanceMonitoring(t *testing.T) {
	output(t, "promtool", "check", "rules", "../../deploy/monitoring/alerts.yml")
	output(t, "promtool", "check", "config", "../../deploy/monitoring/prometheus.yml")
}
