package smtpd

import "github.com/prometheus/client_golang/prometheus"

// Metrics count what servers do, by role. One Metrics serves all servers of a
// node.
type Metrics struct {
	open        *prometheus.GaugeVec
	connections *prometheus.CounterVec
	messages    *prometheus.CounterVec
	octets      *prometheus.CounterVec
	refused     *prometheus.CounterVec
	panics      *prometheus.CounterVec
	accept      *prometheus.HistogramVec
}

// NewMetrics returns metrics that are at zero.
func NewMetrics() *Metrics {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: "dirpost_smtpd_" + name + "_total", Help: help}, append([]string{"role"}, labels...))
	}
	return &Metrics{
		open: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "dirpost_smtpd_connections", Help: "Open connections."}, []string{"role"}),
		connections: counter("connections", "Accepted connections."),
		messages:    counter("messages", "Messages accepted with 250."),
		octets:      counter("octets", "Octets of content received."),
		refused:     counter("refused", "Commands, messages and connections refused, by verb and class of the reply.", "verb", "class"),
		panics:      counter("panics", "Sessions that ended by a bug of ours. Alert on any."),
		accept: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "dirpost_smtpd_accept_seconds", Help: "Time from the end of a message's content until it is committed or refused.",
			Buckets: []float64{.001, .002, .005, .01, .05, .2, 1, 5, 30},
		}, []string{"role"}),
	}
}

// Collectors are the metrics, to be registered by the caller.
func (m *Metrics) Collectors() []prometheus.Collector {
	return []prometheus.Collector{m.open, m.connections, m.messages, m.octets, m.refused, m.panics, m.accept}
}

// counters are the metrics of one role, looked up once.
type counters struct {
	open                          prometheus.Gauge
	connections, messages, octets prometheus.Counter
	panics                        prometheus.Counter
	refused                       *prometheus.CounterVec // verb, class
	accept                        prometheus.Observer
}

func (m *Metrics) of(role Role) counters {
	r := role.String()
	return counters{
		open: m.open.WithLabelValues(r), connections: m.connections.WithLabelValues(r), messages: m.messages.WithLabelValues(r),
		octets: m.octets.WithLabelValues(r), panics: m.panics.WithLabelValues(r),
		refused: m.refused.MustCurryWith(prometheus.Labels{"role": r}),
		accept:  m.accept.WithLabelValues(r),
	}
}

// refuse counts a refusal. verb is one of ours or of a fixed set, never a word of
// the client.
func (c *counters) refuse(verb string, code int) {
	class := "5xx"
	if code < 500 {
		class = "4xx"
	}
	c.refused.WithLabelValues(verb, class).Inc()
}
