package mtasts

import (
	"regexp"
	"testing"
	"time"
)

// The grammar of RFC 8461 §3.1 and §3.2.
var (
	file   = regexp.MustCompile(`^version: STSv1\r\nmode: (enforce|testing|none)\r\n(mx: (\*\.)?[a-z0-9.-]+\r\n)+max_age: [0-9]{1,10}\r\n$`)
	record = regexp.MustCompile(`^v=STSv1; id=[A-Za-z0-9]{1,32};$`)
)

func TestPolicy(t *testing.T) {
	t.Parallel()
	p := Policy{Mode: Testing, MX: []string{"mail.example.com", "*.backup.example.com"}, MaxAge: 7 * 24 * time.Hour}
	want := "version: STSv1\r\nmode: testing\r\nmx: mail.example.com\r\nmx: *.backup.example.com\r\nmax_age: 604800\r\n"
	if got := p.String(); got != want || !file.MatchString(got) {
		t.Errorf("the policy is\n%swant\n%s", got, want)
	}
	if !record.MatchString(p.Record()) {
		t.Errorf("the record is %q", p.Record())
	}
	enforced := p
	enforced.Mode = Enforce
	if p.ID() == enforced.ID() {
		t.Error("another policy has the same id")
	}
}
