package route

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"dirpost/internal/envelope"
	"dirpost/internal/resolver"
	"dirpost/internal/testenv"

	"github.com/miekg/dns"
)

var zone = []string{
	"corp.example. 300 IN MX 20 mx2.corp.example.",
	"corp.example. 300 IN MX 10 mx1.corp.example.",
	"mx1.corp.example. 300 IN A 192.0.2.1",
	"mx1.corp.example. 300 IN AAAA 2001:db8::1",
	"mx2.corp.example. 300 IN A 192.0.2.2",
	"null.example. 300 IN MX 0 .",
	"plain.example. 300 IN A 192.0.2.3",
	"nothing.example. 300 IN TXT \"no host\"",
	"dangling.example. 300 IN MX 10 gone.dangling.example.",
	"some.example. 300 IN MX 10 gone.dangling.example.",
	"some.example. 300 IN MX 20 mx2.corp.example.",
	"unsure.example. 300 IN MX 10 gone.dangling.example.",
	"unsure.example. 300 IN MX 20 broken.example.",
	"odd.example. 300 IN MX 10 a\\032b.example.",
	"loop.example. 300 IN MX 10 mail.us.example.",
	"backup.example. 300 IN MX 10 mx1.corp.example.",
	"backup.example. 300 IN MX 20 mail.us.example.",
	"backup.example. 300 IN MX 20 mx2.corp.example.",
	"backup.example. 300 IN MX 30 plain.example.",
	"byaddress.example. 300 IN MX 10 alias.us.example.",
	"alias.us.example. 300 IN A 198.51.100.1",
	"zero.example. 300 IN A 0.0.0.0",
	"many.example. 300 IN MX 10 m.many.example.",
	"m.many.example. 300 IN A 192.0.2.11",
	"m.many.example. 300 IN A 192.0.2.12",
	"m.many.example. 300 IN A 192.0.2.13",
	"m.many.example. 300 IN A 192.0.2.14",
	"smart.example. 300 IN A 192.0.2.99",
}

func newRouter(t *testing.T, c Config, inside func(context.Context) (string, error)) *Router {
	t.Helper()
	srv := testenv.DNS(t, zone...)
	for _, name := range []string{"broken.example", "servfail.example"} {
		srv.Fail(name+".", dns.RcodeServerFailure)
	}
	dns, err := resolver.New(resolver.Config{Servers: []string{srv.Addr}, Timeout: 2 * time.Second, Attempts: 1})
	if err != nil {
		t.Fatal(err)
	}
	c.Hostname = "mail.us.example"
	c.Addresses = []netip.Addr{netip.MustParseAddr("198.51.100.1")}
	r, err := New(c, dns, inside)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func show(rt *Route, err error) string {
	if err != nil {
		var e *envelope.Error
		if !errors.As(err, &e) {
			return "unclassified: " + err.Error()
		}
		return fmt.Sprintf("%d %s", e.Status.Code, e.Status.Enhanced)
	}
	if rt.Kind == Inside {
		return "inside " + rt.Mailbox
	}
	var hops []string
	for _, h := range rt.Hops {
		hops = append(hops, h.String())
	}
	return strings.Join(hops, " ")
}

func TestRoute(t *testing.T) {
	t.Parallel()
	direct := newRouter(t, Config{}, nil)
	tests := []struct {
		name, domain, hop string
		want              string
	}{
		{"by preference", "corp.example", "", "mx1.corp.example[2001:db8::1]:25 mx1.corp.example[192.0.2.1]:25 mx2.corp.example[192.0.2.2]:25"},
		{"RFC 7505 §3: null MX", "null.example", "", "556 5.1.10"},
		{"RFC 5321 §5.1: no MX, own address", "plain.example", "", "plain.example[192.0.2.3]:25"},
		{"no such domain", "gone.example", "", "550 5.1.2"},
		{"neither MX nor address", "nothing.example", "", "550 5.4.4"},
		{"exchanger does not exist", "dangling.example", "", "550 5.4.4"},
		{"one exchanger of two does not exist", "some.example", "", "mx2.corp.example[192.0.2.2]:25"},
		{"one absent, one nobody knows about", "unsure.example", "", "451 4.4.3"},
		{"exchanger that is no host name", "odd.example", "", "550 5.4.4"},
		{"DNS fails: never the recipient's fault", "servfail.example", "", "451 4.4.3"},
		{"we are the only exchanger", "loop.example", "", "550 5.4.6"},
		{"we are a backup: only better ones", "backup.example", "", "mx1.corp.example[2001:db8::1]:25 mx1.corp.example[192.0.2.1]:25"},
		{"we are in the list under another name", "byaddress.example", "", "550 5.4.6"},
		{"address that is none", "zero.example", "", "550 5.4.4"},
		{"literal", "[192.0.2.7]", "", "[192.0.2.7][192.0.2.7]:25"},
		{"IPv6 literal", "[IPv6:2001:db8::7]", "", "[IPv6:2001:db8::7][2001:db8::7]:25"},
		{"our own literal", "[198.51.100.1]", "", "550 5.4.6"},
		{"given host", "corp.example", "plain.example", "plain.example[192.0.2.3]:25"},
		{"given host and port", "corp.example", "plain.example:2525", "plain.example[192.0.2.3]:2525"},
		{"given address", "corp.example", "192.0.2.5:24", "192.0.2.5[192.0.2.5]:24"},
		{"given IPv6 address", "corp.example", "[2001:db8::5]:24", "2001:db8::5[2001:db8::5]:24"},
		{"given host not found: our trouble", "corp.example", "gone.example", "451 4.3.5"},
		{"given host nonsense: our trouble", "corp.example", "a b:x", "451 4.3.5"},
	}
	for _, tt := range tests {
		if got := show(direct.Route(t.Context(), tt.domain, tt.hop)); got != tt.want {
			t.Errorf("%s:\n got %s\nwant %s", tt.name, got, tt.want)
		}
	}
}

func TestConfigured(t *testing.T) {
	t.Parallel()
	route := func(c Config, inside func(context.Context) (string, error), domain, hop string) string {
		return show(newRouter(t, c, inside).Route(t.Context(), domain, hop))
	}
	outbound := func(context.Context) (string, error) { return "main:outbound", nil }
	away := func(context.Context) (string, error) { return "", envelope.ErrDirectory }
	tests := []struct{ name, got, want string }{
		{"smarthost", route(Config{Smarthost: "smart.example:587"}, nil, "gone.example", ""), "smart.example[192.0.2.99]:587"},
		{"a given hop goes before the smarthost", route(Config{Smarthost: "smart.example"}, nil, "x.example", "plain.example"), "plain.example[192.0.2.3]:25"},
		{"smarthost away", route(Config{Smarthost: "broken.example"}, nil, "x.example", ""), "451 4.3.5"},
		{"no IPv6", route(Config{NoIPv6: true}, nil, "corp.example", ""), "mx1.corp.example[192.0.2.1]:25 mx2.corp.example[192.0.2.2]:25"},
		{"only IPv6", route(Config{NoIPv4: true}, nil, "corp.example", ""), "mx1.corp.example[2001:db8::1]:25"},
		{"nothing leaves", route(Config{Smarthost: "smart.example"}, outbound, "corp.example", "plain.example"), "inside main:outbound"},
		{"nothing leaves, directory away", route(Config{}, away, "corp.example", ""), "451 4.4.3"},
		{"bounded", route(Config{MaxAddresses: 3}, nil, "many.example", ""), "m.many.example[192.0.2.11]:25 m.many.example[192.0.2.12]:25 m.many.example[192.0.2.13]:25"},
	}
	for _, tt := range tests {
		if tt.got != tt.want {
			t.Errorf("%s:\n got %s\nwant %s", tt.name, tt.got, tt.want)
		}
	}
	for _, c := range []Config{{}, {Hostname: "a.example", Smarthost: "x:0"}, {Hostname: "a.example", NoIPv4: true, NoIPv6: true}} {
		if c.Validate() == nil {
			t.Errorf("%+v is taken as valid", c)
		}
	}
}

// RFC 5321 §5.1: equal preferences in random order, others in theirs.
func TestMixEquals(t *testing.T) {
	t.Parallel()
	first := map[string]bool{}
	for range 200 {
		mx := mixEquals([]resolver.MX{{Host: "a", Preference: 10}, {Host: "b", Preference: 10}, {Host: "c", Preference: 20}})
		first[mx[0].Host] = true
		if mx[2].Host != "c" {
			t.Fatalf("order %v", mx)
		}
	}
	if !first["a"] || !first["b"] {
		t.Errorf("always the same first: %v", first)
	}
}
