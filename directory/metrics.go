package directory

import (
	"math"

	"github.com/prometheus/client_golang/prometheus"
)

// Collectors are the metrics of the snapshot, to be registered by the caller.
func (l *Live) Collectors() []prometheus.Collector {
	gauge := func(name, help string, f func(*Snapshot) float64) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Namespace: "dirpost", Subsystem: "directory", Name: name, Help: help},
			func() float64 { return f(l.Snapshot()) })
	}
	return []prometheus.Collector{
		gauge("entries", "Entries in the snapshot.", func(s *Snapshot) float64 { return float64(s.Len()) }),
		gauge("version", "Version of the last change in the snapshot.", func(s *Snapshot) float64 { return float64(s.Version()) }),
		gauge("age_seconds", "Time since the directories last had nothing that the snapshot lacks; NaN while that is not known.", func(s *Snapshot) float64 {
			age, known := s.Age()
			if !known {
				return math.NaN()
			}
			return age.Seconds()
		}),
		gauge("stale", "1 while unknown addresses are deferred since the directory was not heard of.", func(s *Snapshot) float64 {
			if !s.Ready() || s.Stale() {
				return 1
			}
			return 0
		}),
	}
}
