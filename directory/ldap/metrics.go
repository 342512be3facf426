package ldap

import "github.com/prometheus/client_golang/prometheus"

// Collectors are the metrics of the servers of one directory, to be registered by
// the caller: dirpost_directory_server_up is 1 while a server answers and 0 while
// it is put aside; one that nobody needed yet has none.
func (c *Client) Collectors() []prometheus.Collector {
	return []prometheus.Collector{&serverCollector{c, prometheus.NewDesc("dirpost_directory_server_up",
		"1 while a server of the directory answers, 0 while it is put aside.", []string{"server", "use"}, prometheus.Labels{"directory": c.cfg.Name})}}
}

// serverCollector gathers what Servers says: with Config.Discover there are others
// today than yesterday.
type serverCollector struct {
	client *Client
	up     *prometheus.Desc
}

// Describe implements prometheus.Collector.
func (s *serverCollector) Describe(out chan<- *prometheus.Desc) { out <- s.up }

// Collect implements prometheus.Collector.
func (s *serverCollector) Collect(out chan<- prometheus.Metric) {
	for _, one := range s.client.Servers() {
		switch one.State {
		case ServerUp:
			out <- prometheus.MustNewConstMetric(s.up, prometheus.GaugeValue, 1, one.URL, one.Use)
		case ServerDown:
			out <- prometheus.MustNewConstMetric(s.up, prometheus.GaugeValue, 0, one.URL, one.Use)
		}
	}
}
