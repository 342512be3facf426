package oauth

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics count what is judged.
type metrics struct {
	tokens *prometheus.CounterVec // result: good, the class of a refusal, error
	age    *prometheus.GaugeVec   // of the keys, by issuer
	v      *Verifier
}

func newMetrics(v *Verifier) *metrics {
	return &metrics{
		tokens: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "dirpost_oauth_tokens_total", Help: "Access tokens judged, by result.",
		}, []string{"result"}),
		age: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "dirpost_oauth_keys_age_seconds", Help: "Time since the keys of an issuer were fetched.",
		}, []string{"issuer"}),
		v: v,
	}
}

func (m *metrics) count(err error) {
	result := "good"
	if err != nil {
		result = "error"
		var r *Refusal
		if errors.As(err, &r) {
			result = r.Class
		}
	}
	m.tokens.WithLabelValues(result).Inc()
}

// Describe implements prometheus.Collector.
func (m *metrics) Describe(ch chan<- *prometheus.Desc) {
	m.tokens.Describe(ch)
	m.age.Describe(ch)
}

// Collect implements prometheus.Collector.
func (m *metrics) Collect(ch chan<- prometheus.Metric) {
	for _, i := range m.v.issuers {
		if s := i.keys.state(); !s.loaded.IsZero() {
			m.age.WithLabelValues(i.c.Issuer).Set(m.v.now().Sub(s.loaded).Seconds())
		}
	}
	m.tokens.Collect(ch)
	m.age.Collect(ch)
}

// Collectors are the metrics, to be registered by the caller.
func (v *Verifier) Collectors() []prometheus.Collector { return []prometheus.Collector{v.metrics} }
