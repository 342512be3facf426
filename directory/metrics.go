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
		gauge("ambiguous_addresses", "Addresses whose mail is deferred since several entries have them and nobody can tell who had them first.",
			func(s *Snapshot) float64 { return float64(s.AmbiguousAddresses()) }),
		gauge("ambiguous_logins", "Login names that let nobody in since several entries have them.",
			func(s *Snapshot) float64 { return float64(s.AmbiguousLogins()) }),
		gauge("gone_entries", "People who have left the directory and whose mail is kept.", func(s *Snapshot) float64 {
			n := 0
			for _, t := range s.tally {
				n += t.Gone
			}
			return float64(n)
		}),
	}
}

// Collectors are the metrics of the directories one by one, to be registered by the
// caller.
func (f *Feeder) Collectors() []prometheus.Collector {
	return []prometheus.Collector{sources{f}, f.panics}
}

// sources are the metrics that each directory has.
type sources struct{ f *Feeder }

var (
	brakedDesc = prometheus.NewDesc("dirpost_directory_braked_entries", "Entries that are kept as they were since too many would vanish or lose their address at once.", []string{"directory"}, nil)
	sourceDesc = prometheus.NewDesc("dirpost_directory_source_age_seconds", "Time since a directory last had nothing that the snapshot lacks; NaN while that is not known.", []string{"directory"}, nil)
)

// Describe implements prometheus.Collector.
func (c sources) Describe(out chan<- *prometheus.Desc) {
	out <- brakedDesc
	out <- sourceDesc
}

// Collect implements prometheus.Collector.
func (c sources) Collect(out chan<- prometheus.Metric) {
	states := c.f.states.Load()
	if states == nil {
		return
	}
	for _, s := range *states {
		age := math.NaN()
		if s.Complete && s.Age != nil {
			age = max(0, *s.Age)
		}
		out <- prometheus.MustNewConstMetric(brakedDesc, prometheus.GaugeValue, float64(s.Braked), s.Name)
		out <- prometheus.MustNewConstMetric(sourceDesc, prometheus.GaugeValue, age, s.Name)
	}
}
