package main

import (
	"bufio"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// What the alerts and the dashboard ask for is what a node that has done something
// reports, by the same names.
func TestMetrics(t *testing.T) {
	t.Parallel()
	s := newSystem(t, "")
	s.start()
	s.eventually("mail is taken", func() bool {
		return s.deliver("ann@example.net", []string{"alice@corp.example"}, "Subject: x\r\n\r\nx\r\n") == nil
	})
	if err := s.submit("alice", "alice@corp.example", []string{"bob@corp.example"}, "From: alice@corp.example\r\nSubject: x\r\n\r\nx\r\n"); err != nil {
		t.Fatal(err)
	}
	s.await("alice", "INBOX", 1)
	answer, text := s.ask("http", "GET", "/metrics", "")
	if answer.StatusCode != 200 {
		t.Fatalf("/metrics: %s", answer.Status)
	}
	has := map[string]bool{}
	for line := range strings.Lines(text) {
		if f := strings.Fields(line); len(f) > 3 && f[0] == "#" && f[1] == "TYPE" {
			has[f[2]] = true
			if f[3] == "histogram" {
				has[f[2]+"_bucket"] = true
			}
		}
	}
	// Those that count what has not happened here.
	rare := []string{"dirpost_qmgr_attempts_total", "dirpost_queue_recipients", "dirpost_queue_oldest_seconds", "dirpost_directory_braked_entries", "dirpost_pop3d_commands_total",
		"dirpost_pop3d_command_seconds_bucket", "dirpost_smtpd_refused_total"}
	name := regexp.MustCompile(`\b(dirpost|process)_[a-z0-9_]+\b`)
	asked := 0
	for _, file := range []string{"alerts.yml", "grafana-dashboard.json"} {
		f, err := os.Open(filepath.Join("../../deploy/monitoring", file))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		lines := bufio.NewScanner(f)
		for lines.Scan() {
			if !strings.Contains(lines.Text(), "expr") {
				continue
			}
			for _, n := range name.FindAllString(lines.Text(), -1) {
				if asked++; !has[n] && !slices.Contains(rare, n) {
					t.Errorf("%s asks for %s, which a node does not report", file, n)
				}
			}
		}
		if err := lines.Err(); err != nil {
			t.Fatal(err)
		}
	}
	if asked < 20 {
		t.Errorf("only %d names were found", asked)
	}
}
