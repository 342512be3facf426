package auth

import (
	"context"
	"strings"
	"testing"
	"time"

	"dirpost/directory"

	dto "github.com/prometheus/client_model/go"
)

// One line and one count for each decision, and no secret in either.
func TestAudit(t *testing.T) {
	t.Parallel()
	b, _, _, log := newBridge(Config{FailureTime: time.Nanosecond, Remember: time.Hour})
	for _, pass := range []string{"right", "right", secret} {
		_, _ = b.Login(t.Context(), client, "alice", pass)
	}
	_, _ = b.Login(t.Context(), client, "away", secret)
	_, _ = b.Login(t.Context(), client, "hal", "right")
	clear := client
	clear.TLS = false
	_, _ = b.Login(t.Context(), clear, "alice", secret)
	want := [][]string{
		{"level=INFO", "msg=login", "session=s1", "client=192.0.2.7", "door=inside", "protocol=imap", "mech=LOGIN", "authcid=alice", "person=corp:alice", "proof=password", "how=bind", "outcome=accepted", "ms=0"},
		{"how=memory", "outcome=accepted"},
		{`msg="login refused"`, "level=INFO", "outcome=refused", "code=535", "reason=password"},
		{"level=WARN", "outcome=failed", "code=454", "reason=directory"},
		{"level=INFO", "outcome=refused", "reason=hours"},
		{"outcome=refused", "code=538", "reason=policy", "tls=false"},
	}
	if len(log.lines) != len(want) {
		t.Fatalf("%d lines: %q", len(log.lines), log.lines)
	}
	for i, parts := range want {
		for _, p := range parts {
			if !strings.Contains(log.lines[i], p) {
				t.Errorf("line %d does not say %s: %s", i, p, log.lines[i])
			}
		}
		if strings.Contains(log.lines[i], secret) {
			t.Errorf("line %d tells the password: %s", i, log.lines[i])
		}
	}
	for _, tt := range []struct {
		labels []string
		want   float64
	}{
		{[]string{"imap", "LOGIN", "accepted", ""}, 2},
		{[]string{"imap", "LOGIN", "refused", "password"}, 1},
		{[]string{"imap", "LOGIN", "failed", "directory"}, 1},
		{[]string{"imap", "LOGIN", "refused", "hours"}, 1},
		{[]string{"imap", "LOGIN", "refused", "policy"}, 1},
	} {
		var m dto.Metric
		if err := b.metrics.logins.WithLabelValues(tt.labels...).Write(&m); err != nil || m.GetCounter().GetValue() != tt.want {
			t.Errorf("%q counted %v times, want %v (%v)", tt.labels, m.GetCounter().GetValue(), tt.want, err)
		}
	}
}

// noticing is a directory that has something to say of right passwords.
type noticing struct{ Verifier }

func (n noticing) VerifyWithNotice(ctx context.Context, e *directory.Entry, password string) (*directory.Notice, error) {
	return &directory.Notice{ExpiresIn: 3 * time.Hour, Grace: 2}, n.Verify(ctx, e, password)
}

func TestNotice(t *testing.T) {
	t.Parallel()
	b, v, _, log := newBridge(Config{FailureTime: time.Nanosecond})
	b.parts.Verifiers = map[string]Verifier{"corp": noticing{v}}
	id, err := b.Login(t.Context(), client, "alice", "right")
	if err != nil || id.Notice == nil || id.Notice.ExpiresIn != 3*time.Hour {
		t.Fatalf("%+v, %v", id, err)
	}
	if line := log.lines[0]; !strings.Contains(line, "expires_in=3h0m0s") || !strings.Contains(line, "grace=2") {
		t.Errorf("audit: %s", line)
	}
	_, _ = b.Login(t.Context(), client, "alice", secret)
	if line := log.lines[1]; strings.Contains(line, "expires_in") {
		t.Errorf("audit: %s", line)
	}
}
