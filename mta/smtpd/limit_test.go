package smtpd

import (
	"bufio"
	"net"
	"net/netip"
	"strings"
	"testing"
)

// One client cannot take all connections of the submission port; what it closes
// it may open again.
func TestMaxPerClient(t *testing.T) {
	t.Parallel()
	addr := newServer(t, MSA, func(c *Config, _ *Deps) { c.MaxPerClient = 2 }).listen(t)
	connect := func() (net.Conn, string) {
		t.Helper()
		nc, err := net.Dial("tcp", addr)
		must(t, err)
		t.Cleanup(func() { _ = nc.Close() })
		line, err := bufio.NewReader(nc).ReadString('\n')
		must(t, err)
		return nc, line
	}
	first, _ := connect()
	connect()
	if _, line := connect(); !strings.HasPrefix(line, "421 4.7.0 ") {
		t.Errorf("the third is greeted %q", line)
	}
	_ = first.Close()
	for {
		if _, line := connect(); strings.HasPrefix(line, "220 ") {
			return // as soon as the server has seen that the first is gone
		}
	}
}

func TestClientKey(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"192.0.2.1": "192.0.2.1", "::ffff:192.0.2.1": "192.0.2.1", "2001:db8:1:2:3:4:5:6": "2001:db8:1:2::", "fe80::1%eth0": "fe80::",
	} {
		if got := clientKey(netip.MustParseAddr(in)).String(); got != want {
			t.Errorf("%s: %s, want %s", in, got, want)
		}
	}
}
