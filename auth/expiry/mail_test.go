package expiry

import (
	"strings"
	"testing"
	"time"

	"dirpost/internal/envelope"
)

func TestMark(t *testing.T) {
	t.Parallel()
	j, err := New(Config{Days: []int{14, 7, 3, 1}}, Deps{})
	if err != nil {
		t.Fatal(err)
	}
	for hours, want := range map[int]int{1: 1, 24: 1, 25: 3, 72: 3, 73: 7, 24 * 7: 7, 24*7 + 1: 14, 24 * 14: 14} {
		if got := j.mark(time.Duration(hours) * time.Hour); got != want {
			t.Errorf("%d hours before: %d, want %d", hours, got, want)
		}
	}
	for _, bad := range []Config{{Days: []int{0}}, {Days: []int{366}}, {URL: "http://mail.example/"}, {URL: "mail.example"}} {
		if _, err := New(bad, Deps{}); err == nil {
			t.Errorf("%+v is valid", bad)
		}
	}
}

func TestWarning(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 12, 1, 8, 0, 0, 0, time.UTC)
	w := &warning{cfg: Config{Hostname: "mail.corp.example", From: envelope.Address{Local: "postmaster", Domain: "corp.example"}},
		to: envelope.Address{Local: "王伟", Domain: "corp.example"}, now: now, id: 1}
	for hours, want := range map[float64]string{0.2: "in less than an hour", 1: "in an hour", 5: "in 5 hours", 24: "in 24 hours", 71: "in 3 days", 14 * 24: "in 14 days"} {
		w.at = now.Add(time.Duration(hours * float64(time.Hour)))
		if got := w.left(); got != want {
			t.Errorf("%v hours: %q, want %q", hours, got, want)
		}
	}
	w.at = now.Add(14 * 24 * time.Hour)
	var b strings.Builder
	if _, err := w.WriteTo(&b); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"Subject: Your password expires in 14 days\r\n", "Auto-Submitted: auto-generated\r\n", "To: 王伟@corp.example\r\n", "Message-ID: <", "as you do at your place of work"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("no %q in\n%s", want, b.String())
		}
	}
	if strings.Contains(strings.ReplaceAll(b.String(), "\r\n", ""), "\n") {
		t.Error("a bare LF")
	}
}
