package lmtpd

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
)

// Metrics count what servers do. One Metrics serves all servers of a node.
type Metrics struct {
	messages prometheus.Counter
	refused  *prometheus.CounterVec // verb, class
	accept   prometheus.Histogram
}

// NewMetrics returns metrics that are at zero.
func NewMetrics() *Metrics {
	return &Metrics{
		messages: prometheus.NewCounter(prometheus.CounterOpts{Name: "dirpost_lmtpd_messages_total", Help: "Messages accepted for at least one recipient."}),
		refused: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "dirpost_lmtpd_refused_total", Help: "Commands, messages and recipients refused, by verb and class of the reply.",
		}, []string{"verb", "class"}),
		accept: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "dirpost_lmtpd_accept_seconds", Help: "Time from the end of a message's content until it is committed or refused.",
			Buckets: []float64{.001, .002, .005, .01, .05, .2, 1, 5, 30},
		}),
	}
}

// Collectors are the metrics, to be registered by the caller.
func (m *Metrics) Collectors() []prometheus.Collector {
	return []prometheus.Collector{m.messages, m.refused, m.accept}
}

// refuse counts a reply.
func (m *Metrics) refuse(verb string, code int) {
	m.refused.WithLabelValues(verb, fmt.Sprintf("%dxx", code/100)).Inc()
}
