package main

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
)

// A node that has no pages, such as one of port 25 alone, can be watched all the same.
func TestStatusListener(t *testing.T) {
	t.Parallel()
	s := newSystem(t, "")
	if out := s.command(1, "health"); !strings.Contains(out, "is 'dirpost serve' running here?") {
		t.Errorf("without a node: %s", out)
	}
	s.serve(roleDirectory) // reads the directory for all
	s.addr["status"] = freeAddress(t)
	s.change("[[listener]]", fmt.Sprintf("[[listener]]\naddress = %q\nprotocol = \"status\"\n[[listener]]", s.addr["status"]))
	s.serve(roleMX)
	s.eventually("the node says that it can serve", func() bool {
		return askHealth(t.Context(), "http://"+s.addr["status"]+"/healthz", io.Discard) == nil
	})
	if out := s.command(0, "health"); !strings.Contains(out, `"state": "ok"`) || !strings.Contains(out, `"database"`) {
		t.Errorf("health says %s", out)
	}
	for path, want := range map[string]struct {
		code int
		text string
	}{
		"/livez":   {200, "ok"},
		"/metrics": {200, "dirpost_smtpd_"},
		"/":        {404, ""},
		"/mail/config-v1.1.xml?emailaddress=alice%40corp.example": {404, ""},
	} {
		res, err := http.Get("http://" + s.addr["status"] + path)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(res.Body)
		res.Body.Close()
		if err != nil || res.StatusCode != want.code || !strings.Contains(string(body), want.text) {
			t.Errorf("%s: %s, %v, %.200s", path, res.Status, err, body)
		}
	}
}

func TestHealthURL(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		listeners []ListenerSection
		want      string
	}{
		"status first": {[]ListenerSection{{Address: "[::]:80", Protocol: "http", TLS: "off"}, {Address: "[::]:8080", Protocol: "status"}}, "http://localhost:8080/healthz"},
		"http":         {[]ListenerSection{{Address: "[::]:443", Protocol: "http", TLS: "implicit"}, {Address: "192.0.2.1:80", Protocol: "http", TLS: "off"}}, "http://192.0.2.1:80/healthz"},
		"nothing":      {[]ListenerSection{{Address: "[::]:443", Protocol: "http", TLS: "implicit"}, {Address: "[::]:25", Protocol: "smtp"}}, ""},
	} {
		if got, err := (&File{Listener: c.listeners}).healthURL(); got != c.want || (err == nil) != (c.want != "") {
			t.Errorf("%s: %q, %v, want %q", name, got, err, c.want)
		}
	}
}
