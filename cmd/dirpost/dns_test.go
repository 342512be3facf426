package main

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"dirpost/internal/testenv"
)

// What `dns records` prints is what `dns check` wants, and everything that is not so
// is told.
func TestDNSCheck(t *testing.T) {
	t.Parallel()
	s := newSystem(t, "")
	command := func(args ...string) (string, int) {
		t.Helper()
		var out strings.Builder
		code := run(t.Context(), append([]string{"dirpost", "--config", s.config}, args...), streams{nil, &out, &out})
		return out.String(), code
	}
	for _, selector := range []string{"one", "two"} {
		if out, code := command("dkim", "create", "corp.example", "--selector", selector); code != 0 {
			t.Fatal(out)
		}
	}
	zone, code := command("dns", "records", "--address", "192.0.2.25", "--address", "2001:db8::25")
	if code != 0 {
		t.Fatal(zone)
	}
	var records []string
	for line := range strings.Lines(zone) {
		// The comment that is a record is that of DANE.
		if line = strings.TrimPrefix(strings.TrimSpace(line), "; _25"); line != "" && line[0] != ';' {
			if strings.HasPrefix(line, "._tcp") {
				line = "_25" + line
			}
			records = append(records, line)
		}
	}
	right := testenv.DNS(t, records...)
	if out, code := command("dns", "check", "--inside", right.Addr, "--outside", right.Addr); code != 0 || strings.Contains(out, "publish:") {
		t.Errorf("the DNS has what we print, and the check ends with %d:\n%s", code, out)
	}

	for _, c := range []struct {
		name    string
		without string // records whose line contains it are not there
		instead string // but this is
		record  string // name and type that is found fault with
		state   string
		text    string
		code    int
		also    int // further records that cannot be right then
	}{
		{"no MX", "\tMX\t", "", "corp.example. MX", "missing", "", 1, 1},
		{"mail goes elsewhere", "\tMX\t", "corp.example. IN MX 10 mail.example.net.", "corp.example. MX", "wrong", "there is 10 mail.example.net", 1, 1},
		{"no SPF", "spf1", "", "corp.example. TXT", "missing", "", 1, 0},
		{"SPF of others", "spf1", `corp.example. IN TXT "v=spf1 ip4:198.51.100.1 -all"`, "corp.example. TXT", "wrong", `is judged "fail" by "v=spf1 ip4:198.51.100.1 -all"`, 1, 0},
		{"SPF in other words", "spf1", `corp.example. IN TXT "v=spf1 a:mail.corp.example ~all"`, "", "", "", 0, 0},
		{"two of SPF", "nothing", `corp.example. IN TXT "v=spf1 +all"`, "corp.example. TXT", "wrong", "there are 2 records", 1, 0},
		{"another key", "two._domainkey", `two._domainkey.corp.example. IN TXT "v=DKIM1; k=rsa; p=AAAA"`, "two._domainkey.corp.example. TXT", "wrong", "p=AAAA", 1, 0},
		{"another policy of DMARC", "_dmarc", `_dmarc.corp.example. IN TXT "v=DMARC1; p=reject"`, "", "", "", 0, 0},
		{"no name for the address", "192.in-addr", "", "25.2.0.192.in-addr.arpa. PTR", "missing", "", 1, 0},
		{"another name for the address", "ip6.arpa", "5.2.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa. IN PTR host.example.net.",
			"5.2.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa. PTR", "wrong", "host.example.net", 1, 0},
		{"no address", "\tmail.corp.example.\tIN\tA", "", "mail.corp.example. A", "missing", "", 1, 4},
		{"the old policy of MTA-STS", "_mta-sts", `_mta-sts.corp.example. IN TXT "v=STSv1; id=20200101;"`, "_mta-sts.corp.example. TXT", "wrong", "id=20200101", 2, 0},
		{"addresses in place of an alias", "autoconfig", "autoconfig.corp.example. IN A 192.0.2.25", "", "", "", 0, 0},
		{"Outlook elsewhere", "autodiscover.corp.example.\tIN\tCNAME", "autodiscover.corp.example. IN CNAME outlook.example.net.", "autodiscover.corp.example. CNAME", "missing", "", 2, 0},
		{"no IMAP", "_imaps", "", "_imaps._tcp.corp.example. SRV", "missing", "", 2, 0},
		{"another port", "_imaps", "_imaps._tcp.corp.example. IN SRV 0 1 9930 mail.corp.example.", "_imaps._tcp.corp.example. SRV", "wrong", "0 1 9930", 2, 0},
		{"no DANE", "TLSA", "", "", "", "", 0, 0},
		{"DANE with an old key", "TLSA", "_25._tcp.mail.corp.example. IN TLSA 3 1 1 " + strings.Repeat("00", 32), "_25._tcp.mail.corp.example. TLSA", "wrong", "3 1 1 0000", 1, 0},
	} {
		var there []string
		for _, r := range records {
			if !strings.Contains("\t"+r, c.without) {
				there = append(there, r)
			}
		}
		if c.instead != "" {
			there = append(there, c.instead)
		}
		outside := testenv.DNS(t, there...)
		out, code := command("dns", "check", "--address", "192.0.2.25", "--address", "2001:db8::25", "--inside", right.Addr, "--outside", outside.Addr, "--json")
		var wrong []dnsFinding
		for line := range strings.Lines(out) {
			var f dnsFinding
			if err := json.Unmarshal([]byte(line), &f); err != nil {
				t.Fatalf("%s: %v: %s", c.name, err, line)
			}
			if f.Inside.State != dnsRight {
				t.Errorf("%s: inside %s %s is %+v", c.name, f.Name, f.Type, f.Inside)
			}
			if f.Outside.State != dnsRight && f.Outside.State != dnsAbsent {
				wrong = append(wrong, f)
			}
		}
		got := ""
		for _, f := range wrong {
			got += fmt.Sprintf("%s %s %s %s\n", f.Name, f.Type, f.Outside.State, f.Outside.Text)
		}
		fits := len(wrong) == 0 && c.record == "" ||
			len(wrong) == 1+c.also && strings.HasPrefix(got, c.record+" "+c.state) && strings.Contains(got, c.text)
		if code != c.code || !fits {
			t.Errorf("%s: exit %d and\n%swant %d and %q, %q, %q", c.name, code, got, c.code, c.record, c.state, c.text)
		}
	}

	empty := testenv.DNS(t)
	out, code := command("dns", "check", "--inside", empty.Addr)
	for _, want := range []string{"Asked inside only", "mail.corp.example. A: missing", "publish: corp.example. IN MX 10 mail.corp.example."} {
		if code != 1 || !strings.Contains(out, want) {
			t.Errorf("with nothing published the check ends with %d and does not say %q:\n%s", code, want, out)
		}
	}
	out, _ = command("dns", "check", "--address", "192.0.2.25", "--inside", empty.Addr, "--outside", right.Addr)
	if want := "right outside, but inside missing"; !strings.Contains(out, want) {
		t.Errorf("where only the world has the records, the check does not say %q:\n%s", want, out)
	}
}

// The policy of MTA-STS is served for our domains, over HTTPS.
func TestSTSPolicy(t *testing.T) {
	t.Parallel()
	s := newSystem(t, `sts = "enforce"`)
	s.start()
	for _, c := range []struct {
		listener, host string
		code           int
	}{{"https", "mta-sts.corp.example", 200}, {"https", "mta-sts.corp.example:443", 200}, {"https", "mta-sts.example.net", 404}, {"https", "corp.example", 404}, {"http", "mta-sts.corp.example", 308}} {
		answer, text := s.ask(c.listener, "GET", "/.well-known/mta-sts.txt", "", "Host", c.host)
		want := "version: STSv1\r\nmode: enforce\r\nmx: mail.corp.example\r\nmax_age: 604800\r\n"
		if answer.StatusCode != c.code || c.code == 200 && text != want {
			t.Errorf("%s of %s: %s\n%s", c.listener, c.host, answer.Status, text)
		}
	}
}
