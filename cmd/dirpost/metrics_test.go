package main

import (
	"encoding/json"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
)

// TestMetrics: what a node and parts of it that are off here report is what
// docs/monitoring.md lists, and alerts, dashboard and pages ask for nothing else.
func TestMetrics(t *testing.T) {
	t.Parallel()
	s := newSystem(t, "")
	s.addConfig("[telemetry]\nendpoint = \"http://127.0.0.1:9\"\n")
	s.start()
	if err := s.submit("alice", "alice@corp.example", []string{"bob@corp.example"}, "From: alice@corp.example\r\nSubject: x\r\n\r\nx\r\n"); err != nil {
		t.Fatal(err)
	}
	answer, text := s.ask("http", "GET", "/metrics", "")
	if answer.StatusCode != 200 || !strings.Contains(text, `dirpost_smtpd_messages_total{role="msa"} 1`) {
		t.Fatalf("/metrics: %s", answer.Status)
	}
	names := described(s.node.metrics)
	if len(names) < 40 {
		t.Errorf("only %d names were found", len(names))
	}
	maps.Copy(names, written(t))

	page, err := os.ReadFile("../../docs/monitoring.md")
	if err != nil {
		t.Fatal(err)
	}
	for n := range names {
		if !strings.Contains(string(page), "\n| `"+n+"` |") {
			t.Errorf("docs/monitoring.md does not list %s", n)
		}
	}
	asked := 0
	for file, text := range askers(t) {
		for _, n := range metricName.FindAllString(text, -1) {
			for _, suffix := range []string{"_bucket", "_sum", "_count"} {
				n = strings.TrimSuffix(n, suffix)
			}
			if asked++; !names[n] {
				t.Errorf("%s asks for %s, which nothing reports", file, n)
			}
		}
	}
	if asked < 100 {
		t.Errorf("only %d names were asked for", asked)
	}
}

// metricName finds names of metrics, and not those of roles of the database.
var metricName = regexp.MustCompile(`\bdirpost_(?:auth|build|bus|directory|imapd|intake|lmtpd|logging|mra|oauth|pop3d|postgres|qmgr|queue|quota|smtpd|tlsconf|tracing|verify|web)_[a-z0-9_]*[a-z0-9]`)

// described are the names of all metrics of a registry, those that have no value yet
// among them.
func described(r *prometheus.Registry) map[string]bool {
	all := make(chan *prometheus.Desc)
	go func() { r.Describe(all); close(all) }()
	names := map[string]bool{}
	name := regexp.MustCompile(`fqName: "(dirpost_[^"]+)"`)
	for d := range all {
		if m := name.FindStringSubmatch(d.String()); m != nil {
			names[m[1]] = true
		}
	}
	return names
}

// written are the names that stand in the program: some parts are off in most nodes.
func written(t *testing.T) map[string]bool {
	t.Helper()
	out, err := exec.Command("git", "-C", "../..", "ls-files", "--", "*.go").Output()
	if err != nil {
		t.Fatal(err)
	}
	names := map[string]bool{}
	name := regexp.MustCompile(`(?:Name:\s*|NewDesc\()"(dirpost_[a-z0-9_]+[a-z0-9])"`)
	for _, file := range strings.Fields(string(out)) {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		b, err := os.ReadFile(filepath.Join("../..", file))
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range name.FindAllStringSubmatch(string(b), -1) {
			names[m[1]] = true
		}
	}
	return names
}

// askers are the texts that name metrics, by file.
func askers(t *testing.T) map[string]string {
	t.Helper()
	texts := map[string]string{}
	files, err := filepath.Glob("../../docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range append(files, "../../deploy/monitoring/alerts.yml", "../../deploy/monitoring/grafana-dashboard.json") {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		texts[file] = string(b)
	}
	return texts
}

// TestDashboard: the dashboard can be imported, each panel asks something and no two
// have the same place.
func TestDashboard(t *testing.T) {
	t.Parallel()
	b, err := os.ReadFile("../../deploy/monitoring/grafana-dashboard.json")
	if err != nil {
		t.Fatal(err)
	}
	type place struct{ X, Y int }
	var d struct {
		Panels []struct {
			ID          int
			Title       string
			Description string
			GridPos     place
			Targets     []struct{ Expr, LegendFormat, RefID string }
		}
	}
	if err := json.Unmarshal(b, &d); err != nil {
		t.Fatal(err)
	}
	var ids []int
	var places []place
	for _, p := range d.Panels {
		if p.Title == "" || len(p.Targets) == 0 || slices.Contains(ids, p.ID) || slices.Contains(places, p.GridPos) {
			t.Errorf("panel %d, %q: no title, nothing asked, or a number or place that another has", p.ID, p.Title)
		}
		ids, places = append(ids, p.ID), append(places, p.GridPos)
		for _, target := range p.Targets {
			if target.Expr == "" {
				t.Errorf("panel %q asks nothing", p.Title)
			}
		}
	}
	if len(ids) < 20 {
		t.Errorf("only %d panels", len(ids))
	}
}
