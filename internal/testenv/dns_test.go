package testenv_test

import (
	"testing"
	"time"

	"dirpost/internal/testenv"

	"github.com/miekg/dns"
)

func TestDNS(t *testing.T) {
	t.Parallel()
	s := testenv.DNS(t,
		"example.org. IN MX 10 mx.example.org.",
		"mx.example.org. IN A 192.0.2.1",
		"www.example.org. IN CNAME mx.example.org.",
	)
	s.Fail("broken.example", dns.RcodeServerFailure)
	s.Fail("silent.example", testenv.NoAnswer)
	for _, c := range []struct {
		name    string
		qtype   uint16
		rcode   int
		answers int
	}{
		{"Example.ORG.", dns.TypeMX, dns.RcodeSuccess, 1},
		{"example.org.", dns.TypeA, dns.RcodeSuccess, 0},
		{"www.example.org.", dns.TypeA, dns.RcodeSuccess, 2},
		{"org.", dns.TypeA, dns.RcodeSuccess, 0}, // an empty non-terminal
		{"nobody.example.org.", dns.TypeA, dns.RcodeNameError, 0},
		{"broken.example.", dns.TypeMX, dns.RcodeServerFailure, 0},
	} {
		for _, net := range []string{"udp", "tcp"} {
			client := dns.Client{Net: net, Timeout: 5 * time.Second}
			got, _, err := client.Exchange(new(dns.Msg).SetQuestion(c.name, c.qtype), s.Addr)
			if err != nil {
				t.Errorf("%s %s: %v", net, c.name, err)
			} else if got.Rcode != c.rcode || len(got.Answer) != c.answers {
				t.Errorf("%s %s: %v", net, c.name, got)
			}
		}
	}
	client := dns.Client{Timeout: 50 * time.Millisecond}
	if got, _, err := client.Exchange(new(dns.Msg).SetQuestion("silent.example.", dns.TypeA), s.Addr); err == nil {
		t.Errorf("a silent server answers: %v", got)
	}
}
