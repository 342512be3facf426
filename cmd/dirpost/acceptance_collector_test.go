//go:build acceptance

package main

import (
	"encoding/json"
	"fmt"
	"net"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"

	"dirpost/internal/tracing"
)

// The receiver of OpenTelemetry's collector takes what a node sends, and reads in it
// what we mean.
func TestAcceptanceCollector(t *testing.T) {
	program, err := filepath.Abs("../../.cache/otelcol")
	if err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("go", "build", "-C", "../../tools/otelcol", "-o", program, ".").CombinedOutput(); err != nil {
		t.Fatalf("build the collector: %v: %s", err, out)
	}
	address := freeAddress(t)
	var out lockedBuffer
	collector := exec.Command(program, address)
	collector.Stdout, collector.Stderr = &out, &out
	collector.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := collector.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = collector.Process.Kill() })

	s := newSystem(t, "")
	s.addConfig(fmt.Sprintf("[telemetry]\nendpoint = \"http://%s\"\naddresses = true\n", address))
	s.eventually("the collector listens", func() bool {
		conn, err := net.Dial("tcp", address)
		if err == nil {
			_ = conn.Close()
		}
		return err == nil
	})
	stop := s.start()
	if err := s.deliver("friend@partner.example", []string{"bob@corp.example"}, plain); err != nil {
		t.Fatal(err)
	}
	id := regexp.MustCompile(`msg="message accepted" room=mta/intake queue_id=(\w+)`).FindStringSubmatch(s.logs.String())
	if id == nil {
		t.Fatalf("no message in the log: %s", s.logs.String())
	}
	stop()
	if err := collector.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := collector.Wait(); err != nil {
		t.Errorf("the collector ends with %v", err)
	}
	names, text := collected(t, out.String(), tracing.TraceID(id[1]))
	if want := []string{"commit", "content", "delivery", "message", "plan"}; !slices.Equal(names, want) {
		t.Errorf("the collector has the spans %q, want %q", names, want)
	}
	for _, want := range []string{`"stringValue":"dirpost"`, `"dirpost.queue_id"`, `"friend@partner.example"`} {
		if !strings.Contains(text, want) {
			t.Errorf("the collector has no %s: %s", want, text)
		}
	}
	if strings.Contains(s.logs.String(), "traces cannot be sent") {
		t.Errorf("the node complains: %s", s.logs.String())
	}
}

// collected returns the names of the spans of a trace, sorted, and all of the text.
func collected(t *testing.T, out, trace string) (names []string, text string) {
	t.Helper()
	for line := range strings.Lines(out) {
		var request struct {
			ResourceSpans []struct {
				ScopeSpans []struct {
					Spans []struct{ TraceID, Name string }
				}
			}
		}
		if err := json.Unmarshal([]byte(line), &request); err != nil {
			t.Errorf("%v: %s", err, line)
		}
		for _, r := range request.ResourceSpans {
			for _, scope := range r.ScopeSpans {
				for _, span := range scope.Spans {
					if span.TraceID == trace {
						names = append(names, span.Name)
					}
				}
			}
		}
	}
	slices.Sort(names)
	return names, out
}
