package main

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"dirpost/internal/testenv"
	"dirpost/internal/tracing"

	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
)

// addConfig adds text to the configuration of the system.
func (s *system) addConfig(text string) {
	s.t.Helper()
	b, err := os.ReadFile(s.config)
	if err != nil {
		s.t.Fatal(err)
	}
	if err := os.WriteFile(s.config, append(b, text...), 0o600); err != nil {
		s.t.Fatal(err)
	}
	if s.file, err = readConfig(s.config); err != nil {
		s.t.Fatal(err)
	}
}

// textField is one key=value of a line of the log.
var textField = regexp.MustCompile(`([a-z_]+)=("(?:[^"\\]|\\.)*"|[^ ]*)`)

// logged returns the lines of the log so far, in either format.
func (s *system) logged() (all []map[string]string) {
	s.t.Helper()
	for line := range strings.Lines(s.logs.String()) {
		m := map[string]string{}
		if s.format == "json" {
			var values map[string]any
			d := json.NewDecoder(strings.NewReader(line))
			d.UseNumber()
			if err := d.Decode(&values); err != nil {
				s.t.Errorf("no JSON: %v in %s", err, line)
			}
			for k, v := range values {
				m[k] = fmt.Sprint(v)
			}
		} else {
			rest := textField.ReplaceAllStringFunc(strings.TrimSuffix(line, "\n"), func(f string) string {
				k, v, _ := strings.Cut(f, "=")
				m[k] = strings.Trim(v, `"`)
				return ""
			})
			if strings.TrimSpace(rest) != "" {
				s.t.Errorf("no key=value: %q in %s", rest, line)
			}
		}
		for _, key := range []string{"time", "level", "msg"} {
			if m[key] == "" {
				s.t.Errorf("no %s: %s", key, line)
			}
		}
		all = append(all, m)
	}
	return all
}

// with returns "room: msg" of the lines that have a value under a key, sorted.
func with(lines []map[string]string, key, value string) (all []string) {
	for _, l := range lines {
		if l[key] == value {
			all = append(all, l["room"]+": "+l["msg"])
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// TestOneID: in text and in JSON, one id is in all lines of a message, from port 25
// to the mailbox and from submission to the next hop; and with a collector of
// OpenTelemetry the trace of the message has the id that follows from it.
func TestOneID(t *testing.T) {
	t.Parallel()
	peer := testenv.SMTP(t, testenv.SMTPRefusal{}, nil)
	url := databaseURL(t)
	slapd := testenv.Slapd(t)
	for _, format := range []string{"text", "json"} {
		t.Run(format, func(t *testing.T) {
			collector := testenv.OTLP(t)
			s := newSystemIn(t, url, fmt.Sprintf("smarthost = %q\nsmarthost_tls = \"none\"", peer.Addr), slapd)
			s.format = format
			s.confirm()
			secret := filepath.Join(s.dir, "otlp")
			writeFile(t, secret, "Authorization: Bearer s3cret-0f-collector\n")
			s.addConfig(fmt.Sprintf("[telemetry]\nendpoint = %q\nca = %q\nheaders = \"file:%s\"\n", collector.URL, collector.CAFile, secret))
			stop := s.start()

			if err := s.deliver("friend@partner.example", []string{"bob@corp.example"}, strings.Replace(plain, "<plain@", "<"+format+"@", 1)); err != nil {
				t.Fatal(err)
			}
			if err := s.submit("alice", "alice@corp.example", []string{"carol@corp.example", "friend@elsewhere.example"}, "From: alice@corp.example\r\nSubject: out\r\n\r\nText "+format+"\r\n"); err != nil {
				t.Fatal(err)
			}
			var in, out, session string
			s.eventually("both are delivered", func() bool {
				for _, l := range s.logged() {
					switch {
					case l["msg"] == "message accepted" && l["from"] == "friend@partner.example":
						in, session = l["queue_id"], l["session"]
					case l["msg"] == "delivery" && l["to"] == "friend@elsewhere.example":
						out = l["queue_id"]
					}
				}
				return in != "" && out != "" && len(with(s.logged(), "session", session)) > 1
			})
			_, metrics := s.ask("http", "GET", "/metrics", "")
			stop()

			lines := s.logged()
			for id, want := range map[string][]string{
				in:  {"mda: delivery", "mta/intake: message accepted"},
				out: {"mda: delivery", "mta/intake: message accepted", "mta/qmgr: delivery"},
			} {
				if got := with(lines, "queue_id", id); !slices.Equal(got, want) {
					t.Errorf("%s is in %q, want %q", id, got, want)
				}
				// And nowhere under another name.
				if got, all := len(with(lines, "queue_id", id)), s.logs.String(); got == 0 || strings.Contains(all, "trace="+id) {
					t.Errorf("%s is in the log by another name", id)
				}
				if got := with(lines, "trace_id", tracing.TraceID(id)); !slices.Equal(got, want) {
					t.Errorf("its trace id is in %q, want %q", got, want)
				}
			}
			if got, want := with(lines, "session", session), []string{"mta/intake: message accepted", "mta/smtpd: session ended"}; !slices.Equal(got, want) {
				t.Errorf("the session is in %q, want %q", got, want)
			}
			if strings.Contains(s.logs.String(), "s3cret") || strings.Contains(s.logs.String(), slapd.UserPassword) {
				t.Error("a secret is in the log")
			}
			if want := `dirpost_logging_events_total{event="message accepted",room="mta/intake"} 2`; !strings.Contains(metrics, want) {
				t.Errorf("/metrics has no %s", want)
			}
			checkTraces(t, collector, in, out, session)
			if out := s.command(0, "doctor", "--only", "telemetry"); !strings.Contains(out, collector.URL+" takes them") {
				t.Errorf("the doctor: %s", out)
			}
			collector.Answer(func(w http.ResponseWriter, _ int) bool { w.WriteHeader(http.StatusForbidden); return true })
			if out := s.command(2, "doctor", "--only", "telemetry"); !strings.Contains(out, "403 Forbidden") || strings.Contains(out, "s3cret") {
				t.Errorf("the doctor, of a collector that lets nobody in: %s", out)
			}
		})
	}
}

// checkTraces checks what a collector has got, once the node has ended.
func checkTraces(t *testing.T, c *testenv.Collector, in, out, session string) {
	t.Helper()
	for _, tt := range []struct {
		what, id string
		spans    []string
	}{
		{"the message from port 25", in, []string{"commit", "content", "delivery", "message", "plan"}},
		{"the message to outside", out, []string{"commit", "connect", "content", "delivery", "message", "plan", "queue attempt", "settle"}},
		{"the session", session, []string{"message", "smtp session"}},
	} {
		trace := c.Trace(tracing.TraceID(tt.id))
		if got := slices.Sorted(maps.Keys(trace)); !slices.Equal(got, tt.spans) {
			t.Errorf("%s has the spans %q, want %q", tt.what, got, tt.spans)
		}
		known := map[string]bool{}
		for _, s := range c.Spans() {
			if hex.EncodeToString(s.TraceId) == tracing.TraceID(tt.id) {
				known[string(s.SpanId)] = true
			}
		}
		for name, s := range trace {
			if len(s.ParentSpanId) > 0 && !known[string(s.ParentSpanId)] {
				t.Errorf("%s: the parent of %s is missing", tt.what, name)
			}
		}
	}
	names := map[string]*tracepb.Span{}
	for _, s := range c.Spans() {
		names[s.Name] = s
		for _, a := range s.Attributes {
			if v := a.Value.GetStringValue(); strings.Contains(v, "@") || strings.Contains(v, "127.0.0.1") || strings.Contains(v, "alice") {
				t.Errorf("%s says %s = %q", s.Name, a.Key, v)
			}
		}
	}
	for _, name := range []string{"login", "directory feed"} {
		if names[name] == nil {
			t.Errorf("there is no span %q", name)
		}
	}
	if _, header := c.Requests(); header.Get("Authorization") != "Bearer s3cret-0f-collector" {
		t.Errorf("the header is %v", header)
	}
	if message := c.Trace(tracing.TraceID(in))["message"]; message == nil || len(message.Links) != 1 || !bytes.Equal(message.Links[0].TraceId, mustHex(t, tracing.TraceID(session))) {
		t.Errorf("the message is not linked to its session: %v", message)
	}
}

func mustHex(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
