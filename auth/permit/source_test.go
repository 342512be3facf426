package permit

import (
	"net/netip"
	"testing"
	"time"
)

func TestClientsBounded(t *testing.T) {
	t.Parallel()
	g := NewClients(3, time.Hour)
	for i := range maxClients + 5000 {
		g.Failed(t.Context(), netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), "")
	}
	if len(g.sources.buckets) > maxClients {
		t.Errorf("%d clients kept", len(g.sources.buckets))
	}
	a, b := netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("2001:db8::2:3")
	if network(a) != network(b) || network(netip.MustParseAddr("::ffff:192.0.2.1")) != network(netip.MustParseAddr("192.0.2.1")) {
		t.Error("networks differ")
	}
}
