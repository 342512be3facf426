package permit

import "github.com/prometheus/client_golang/prometheus"

// metrics of a Counter.
type metrics struct {
	permits  *prometheus.CounterVec // outcome: granted, or the reason of a refusal
	settled  *prometheus.CounterVec // verdict
	home     prometheus.Counter
	slowed   prometheus.Counter
	attack   prometheus.Gauge
	seconds  prometheus.Histogram
	requests prometheus.Counter
}

func newMetrics() metrics {
	return metrics{
		permits: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "dirpost_auth_permits_total", Help: "Passwords for which a permit was asked, by what came of it.",
		}, []string{"outcome"}),
		settled: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "dirpost_auth_permits_settled_total", Help: "Permits that were settled, by what the directory said.",
		}, []string{"verdict"}),
		home: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "dirpost_auth_permits_familiar_total", Help: "Permits for people who come from where they were before.",
		}),
		slowed: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "dirpost_auth_permits_slowed_total", Help: "Logins of strangers that were held up in an attack.",
		}),
		attack: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "dirpost_auth_permits_attack", Help: "1 while strangers are slowed because unusually many logins fail.",
		}),
		seconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "dirpost_auth_permits_exchange_seconds", Help: "How long the database took for one exchange of permits.",
			Buckets: prometheus.ExponentialBuckets(0.0002, 3, 9),
		}),
		requests: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "dirpost_auth_permits_requests_total", Help: "Requests to the counter in the database; many share one exchange.",
		}),
	}
}

// Collectors are the metrics of the counter, to be registered by the caller.
func (c *Counter) Collectors() []prometheus.Collector {
	m := c.metrics
	return []prometheus.Collector{m.permits, m.settled, m.home, m.slowed, m.attack, m.seconds, m.requests}
}
