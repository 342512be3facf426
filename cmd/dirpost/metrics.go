package main

import (
	"context"
	"fmt"
	"net/netip"
	"sync"
	"time"

	"dirpost/internal/postgres"
	"dirpost/mta/queue"

	"github.com/prometheus/client_golang/prometheus"
)

// WebSection is [web].
type WebSection struct {
	MetricsClients []string `toml:"metrics_clients"`
}

// metricsClients are the networks that may read /metrics, and the details of
// /healthz; none: this host.
func (s *WebSection) metricsClients() (all []netip.Prefix, _ error) {
	for _, text := range s.MetricsClients {
		p, err := parseNetwork(text)
		if err != nil {
			return nil, fmt.Errorf("%q is no address or network such as 192.0.2.0/24", text)
		}
		all = append(all, p)
	}
	return all, nil
}

// buildInfo is always 1: its label says what runs.
func buildInfo() prometheus.Collector {
	g := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "dirpost_build_info", Help: "The version that runs, as label; always 1."}, []string{"version"})
	g.WithLabelValues(version()).Set(1)
	return g
}

// poolMetrics are those of the connections to the database.
type poolMetrics struct {
	db                              *postgres.DB
	open, limit, acquired, acquires *prometheus.Desc
}

func newPoolMetrics(db *postgres.DB) *poolMetrics {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("dirpost_postgres_"+name, help, append([]string{"pool"}, labels...), nil)
	}
	return &poolMetrics{
		db:       db,
		open:     desc("connections", "Open connections to the database by pool and state: in_use, idle.", "state"),
		limit:    desc("connections_max", "Connections that the pool may have."),
		acquired: desc("acquired_total", "Times that a connection was taken from the pool."),
		acquires: desc("acquire_seconds_total", "Time that was waited for a connection. Divided by acquired_total it is the mean wait."),
	}
}

// Describe implements prometheus.Collector.
func (m *poolMetrics) Describe(c chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{m.open, m.limit, m.acquired, m.acquires} {
		c <- d
	}
}

// Collect implements prometheus.Collector.
func (m *poolMetrics) Collect(c chan<- prometheus.Metric) {
	for _, s := range m.db.Stats() {
		pool := s.Class.String()
		c <- prometheus.MustNewConstMetric(m.open, prometheus.GaugeValue, float64(s.InUse), pool, "in_use")
		c <- prometheus.MustNewConstMetric(m.open, prometheus.GaugeValue, float64(s.Open-s.InUse), pool, "idle")
		c <- prometheus.MustNewConstMetric(m.limit, prometheus.GaugeValue, float64(s.Max), pool)
		c <- prometheus.MustNewConstMetric(m.acquired, prometheus.CounterValue, float64(s.Acquired), pool)
		c <- prometheus.MustNewConstMetric(m.acquires, prometheus.CounterValue, s.AcquiredAfter.Seconds(), pool)
	}
}

// queueMetrics are those of the queue, which is the same for all nodes: counted when
// somebody asks, and at most every 15 s.
type queueMetrics struct {
	queue              *queue.Queue
	now                func() time.Time
	recipients, oldest *prometheus.Desc

	mu   sync.Mutex // guards what follows, and is held while the database counts
	at   time.Time
	last []queue.Count
}

func newQueueMetrics(q *queue.Queue, now func() time.Time) *queueMetrics {
	return &queueMetrics{
		queue: q, now: now,
		recipients: prometheus.NewDesc("dirpost_queue_recipients", "Recipients in the queue by state. Every node reports the same.", []string{"state"}, nil),
		oldest:     prometheus.NewDesc("dirpost_queue_oldest_seconds", "Age of the oldest message of a state.", []string{"state"}, nil),
	}
}

// queueCountTime bounds the counting; a queue of a million takes a second.
const queueCountTime = 5 * time.Second

// Describe implements prometheus.Collector.
func (m *queueMetrics) Describe(c chan<- *prometheus.Desc) {
	c <- m.recipients
	c <- m.oldest
}

// Collect implements prometheus.Collector. With the database away there is nothing to
// tell.
func (m *queueMetrics) Collect(c chan<- prometheus.Metric) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if time.Since(m.at) > 15*time.Second {
		ctx, cancel := context.WithTimeout(context.Background(), queueCountTime)
		defer cancel()
		counts, err := m.queue.Counts(ctx)
		if err != nil {
			return
		}
		m.at, m.last = time.Now(), counts
	}
	for _, n := range m.last {
		c <- prometheus.MustNewConstMetric(m.recipients, prometheus.GaugeValue, float64(n.Recipients), n.State.String())
		if !n.Oldest.IsZero() {
			c <- prometheus.MustNewConstMetric(m.oldest, prometheus.GaugeValue, m.now().Sub(n.Oldest).Seconds(), n.State.String())
		}
	}
}
