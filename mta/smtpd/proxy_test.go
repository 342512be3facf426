package smtpd

import (
	"bytes"
	"crypto/tls"
	"maps"
	"net"
	"net/netip"
	"testing"

	"github.com/pires/go-proxyproto"
	"github.com/prometheus/client_golang/prometheus"
)

func TestProxyHeader(t *testing.T) {
	t.Parallel()
	v2 := func(command proxyproto.ProtocolVersionAndCommand, src string) string {
		h := proxyproto.Header{Version: 2, Command: command, TransportProtocol: proxyproto.TCPv4,
			SourceAddr: net.TCPAddrFromAddrPort(netip.MustParseAddrPort(src)), DestinationAddr: net.TCPAddrFromAddrPort(netip.MustParseAddrPort("192.0.2.25:25"))}
		var b bytes.Buffer
		if _, err := h.WriteTo(&b); err != nil {
			t.Fatal(err)
		}
		return b.String()
	}
	for _, tt := range []struct {
		name, header, client string
	}{
		{"version 1", "PROXY TCP4 198.51.100.7 192.0.2.25 4711 25\r\n", "198.51.100.7"},
		{"version 1, IPv6", "PROXY TCP6 2001:db8::7 2001:db8::25 4711 25\r\n", "2001:db8::7"},
		{"version 1, unknown", "PROXY UNKNOWN\r\n", "127.0.0.1"},
		{"version 2", v2(proxyproto.PROXY, "198.51.100.7:4711"), "198.51.100.7"},
		{"version 2, local", v2(proxyproto.LOCAL, "198.51.100.7:4711"), "127.0.0.1"},
		{"none", "EHLO client.example\r\n", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := newServer(t, MX, func(c *Config, _ *Deps) { c.Proxies = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")} })
			nc, err := net.Dial("tcp", s.listen(t))
			must(t, err)
			defer nc.Close()
			c := newTalk(t, nc)
			c.send(tt.header)
			if tt.client == "" {
				if got := c.rest(); got != "" {
					t.Errorf("a client without the header is told %q", got)
				}
				return
			}
			c.hello()
			c.begin()
			c.send("text\r\n.\r\n")
			c.want("250")
			if got := s.last(t).client.Addr; got != tt.client {
				t.Errorf("client is %s, want %s", got, tt.client)
			}
		})
	}
}

// What comes in one segment with the header is neither lost nor let talk early.
func TestBehindProxyHeader(t *testing.T) {
	t.Parallel()
	const header = "PROXY TCP4 198.51.100.7 192.0.2.25 4711 25\r\n"
	proxies := []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
	t.Run("early talker", func(t *testing.T) {
		t.Parallel()
		s := newServer(t, MX, func(c *Config, _ *Deps) { c.Proxies = proxies })
		nc, err := net.Dial("tcp", s.listen(t))
		must(t, err)
		defer nc.Close()
		c := newTalk(t, nc)
		c.send(header + "EHLO client.example\r\n")
		c.want("554 5.5.0")
	})
	t.Run("implicit TLS", func(t *testing.T) {
		t.Parallel()
		s := newServer(t, MSA, func(c *Config, _ *Deps) { c.Proxies, c.ImplicitTLS = proxies, true })
		nc, err := net.Dial("tcp", s.listen(t))
		must(t, err)
		defer nc.Close()
		c := newTalk(t, tls.Client(&glued{Conn: nc, first: header}, s.clientTLS()))
		c.hello()
	})
}

// glued puts first in front of the first write.
type glued struct {
	net.Conn
	first string
}

func (g *glued) Write(p []byte) (int, error) {
	n := len(g.first)
	m, err := g.Conn.Write(append([]byte(g.first), p...))
	g.first = ""
	return max(0, m-n), err
}

// Nobody else may say who the client is.
func TestProxyHeaderOfAStranger(t *testing.T) {
	t.Parallel()
	s := newServer(t, MX, func(c *Config, _ *Deps) { c.Proxies = []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")} })
	nc, err := net.Dial("tcp", s.listen(t))
	must(t, err)
	defer nc.Close()
	c := newTalk(t, nc)
	c.want("220")
	c.do("PROXY TCP4 198.51.100.7 192.0.2.25 4711 25", "500")
}

func TestMetrics(t *testing.T) {
	t.Parallel()
	m := NewMetrics()
	s := newServer(t, MX, func(_ *Config, d *Deps) { d.Metrics = m })
	c := s.talk(t)
	c.do("XYZZY", "500")
	c.do("MAIL FROM:<sender@outside.example>", "250")
	c.do("RCPT TO:<nobody@corp.example>", "550")
	c.do("RCPT TO:<busy@corp.example>", "451")
	c.do("RSET", "250")
	c.begin()
	c.send("text\r\n.\r\n")
	c.want("250")
	r := prometheus.NewRegistry()
	r.MustRegister(m.Collectors()...)
	families, err := r.Gather()
	must(t, err)
	got := make(map[string]float64)
	for _, f := range families {
		for _, x := range f.GetMetric() {
			key := f.GetName()
			for _, l := range x.GetLabel() {
				key += " " + l.GetValue()
			}
			got[key] = x.GetCounter().GetValue() + x.GetGauge().GetValue()
		}
	}
	want := map[string]float64{
		"dirpost_smtpd_accept_seconds mx":            0, // a histogram
		"dirpost_smtpd_connections mx":               1,
		"dirpost_smtpd_connections_total mx":         1,
		"dirpost_smtpd_messages_total mx":            1,
		"dirpost_smtpd_octets_total mx":              6,
		"dirpost_smtpd_panics_total mx":              0,
		"dirpost_smtpd_refused_total 4xx mx RCPT":    1,
		"dirpost_smtpd_refused_total 5xx mx RCPT":    1,
		"dirpost_smtpd_refused_total 5xx mx unknown": 1,
	}
	if !maps.Equal(got, want) {
		t.Errorf("got  %v\nwant %v", got, want)
	}
}
