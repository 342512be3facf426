package ldap

import (
	"encoding/binary"
	"fmt"
	"hash/maphash"
	"net"
	"slices"
	"strings"
	"testing"

	"dirpost/internal/resolver"
	"dirpost/internal/testenv"

	"github.com/miekg/dns"
)

func resolverFor(t testing.TB, s *testenv.DNSServer) *resolver.Resolver {
	t.Helper()
	r, err := resolver.New(resolver.Config{Servers: []string{s.Addr}})
	must(t, err)
	return r
}

// logonResponse is the answer of a domain controller to a netlogon ping, without
// compression of names.
func logonResponse(n netlogon) []byte {
	b := make([]byte, 24)
	binary.LittleEndian.PutUint16(b, 23)
	binary.LittleEndian.PutUint32(b[4:], n.flags)
	for _, name := range []string{n.forest, n.domain, n.host, n.netbios, "DC", "", n.site, n.clientSite} {
		for _, label := range strings.Split(name, ".") {
			if label != "" {
				b = append(append(b, byte(len(label))), label...)
			}
		}
		b = append(b, 0)
	}
	return b
}

// entryWith is the message that carries it.
func entryWith(id int32, value []byte) []byte {
	return tlv(tagSequence, tlv(tagInteger, binary.BigEndian.AppendUint32(nil, uint32(id))),
		tlv(tagEntry, tlv(tagOctets), tlv(tagSequence, tlv(tagSequence, tlv(tagOctets, []byte("Netlogon")), tlv(tagSet, tlv(tagOctets, value))))))
}

// controller answers netlogon pings on a port of its own with n, as answers to
// the number that was asked with. Answers to others go first.
func controller(t testing.TB, n netlogon) (port string) {
	t.Helper()
	c, err := net.ListenPacket("udp", "127.0.0.1:0")
	must(t, err)
	t.Cleanup(func() { _ = c.Close() })
	go func() {
		buf := make([]byte, 2048)
		for {
			size, from, err := c.ReadFrom(buf)
			if err != nil {
				return
			}
			message, _, _ := readTLV(buf[:size], tagSequence)
			number, _, _ := readTLV(message, tagInteger)
			id := int32(binary.BigEndian.Uint32(number))
			stranger := n
			stranger.domain, stranger.clientSite = "other.example", "Elsewhere"
			for _, answer := range [][]byte{{0x30}, entryWith(id+1, logonResponse(stranger)), entryWith(id, logonResponse(stranger)), entryWith(id, logonResponse(n))} {
				_, _ = c.WriteTo(answer, from)
			}
		}
	}()
	_, port, err = net.SplitHostPort(c.LocalAddr().String())
	must(t, err)
	return port
}

// TestDiscover: the servers of our site come first, read-only ones last, and who
// does not answer is there all the same.
func TestDiscover(t *testing.T) {
	t.Parallel()
	answer := netlogon{flags: flagWritable, forest: "Forest.example", domain: "corp.example", netbios: "CORP", site: "Berlin", clientSite: "Bonn"}
	berlin := controller(t, answer)
	answer.site = "Bonn"
	bonn := controller(t, answer)
	answer.flags = flagGC
	rodc := controller(t, answer)
	answer.flags, answer.site = flagPDC|flagWritable|flagGC, "Berlin"
	pdc := controller(t, answer)
	srv := func(name string, priority, weight int, port, host string) string {
		return fmt.Sprintf("%s.corp.example. 60 IN SRV %d %d %s %s.corp.example.", name, priority, weight, port, host)
	}
	const dc = "_ldap._tcp.dc._msdcs"
	s := testenv.DNS(t,
		srv(dc, 0, 100, berlin, "Berlin1"), srv(dc, 10, 100, bonn, "bonn1"), srv(dc, 0, 100, rodc, "rodc"), srv(dc, 5, 100, "9", "silent"),
		srv(dc, 20, 0, "9", "covers"), srv(dc, 0, 0, "9", "nowhere"),
		srv("_ldap._tcp.pdc._msdcs", 0, 100, pdc, "pdc"),
		srv("_ldap._tcp.Bonn._sites.dc._msdcs", 0, 100, "9", "covers"),
		"berlin1.corp.example. 60 IN A 127.0.0.1", "bonn1.corp.example. 60 IN A 127.0.0.1", "rodc.corp.example. 60 IN A 127.0.0.1",
		"silent.corp.example. 60 IN A 127.0.0.1", "covers.corp.example. 60 IN A 127.0.0.1", "pdc.corp.example. 60 IN A 127.0.0.1")
	d, err := Discover(t.Context(), resolverFor(t, s), "CORP.example.")
	must(t, err)
	if d.Name != "corp.example" || d.Forest != "forest.example" || d.NetBIOS != "CORP" || d.Site != "Bonn" || !d.IsAD {
		t.Errorf("%+v", d)
	}
	var got []string
	for _, c := range d.Controllers {
		host, _, _ := strings.Cut(c.Host, ".")
		got = append(got, fmt.Sprintf("%s near:%t pdc:%t answered:%t %s writable:%t gc:%t %d", host, c.Near, c.PDC, c.Answered, c.Site, c.Writable, c.GlobalCatalog, len(c.Addresses)))
	}
	want := []string{
		"bonn1 near:true pdc:false answered:true Bonn writable:true gc:false 1",
		"covers near:true pdc:false answered:false  writable:false gc:false 1",
		"berlin1 near:false pdc:false answered:true Berlin writable:true gc:false 1",
		"pdc near:false pdc:true answered:true Berlin writable:true gc:true 1",
		"nowhere near:false pdc:false answered:false  writable:false gc:false 0",
		"silent near:false pdc:false answered:false  writable:false gc:false 1",
		"rodc near:true pdc:false answered:true Bonn writable:false gc:true 1",
	}
	slices.Sort(got[2:5]) // by dice: all but "nowhere" have the same weight
	slices.Sort(want[2:5])
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// TestDiscoverWithout: a domain without domain controllers, and what is said
// where nothing is found.
func TestDiscoverWithout(t *testing.T) {
	t.Parallel()
	s := testenv.DNS(t,
		"_ldap._tcp.open.example. 60 IN SRV 10 1 389 ldap2.open.example.", "_ldap._tcp.open.example. 60 IN SRV 0 1 3389 ldap1.open.example.",
		"ldap1.open.example. 60 IN A 127.0.0.1", "ldap2.open.example. 60 IN A 127.0.0.1",
		"_ldap._tcp.none.example. 60 IN SRV 0 0 0 .",
		"_ldap._tcp.dark.example. 60 IN SRV 0 0 389 ldap.dark.example.", "dark.example. 60 IN A 127.0.0.1")
	s.Fail("_ldap._tcp.dc._msdcs.broken.example", dns.RcodeServerFailure)
	r := resolverFor(t, s)
	d, err := Discover(t.Context(), r, "open.example")
	must(t, err)
	if d.IsAD || len(d.Controllers) != 2 || d.Controllers[0].Host != "ldap1.open.example" || d.Controllers[0].Port != 3389 || d.Controllers[0].isReadOnly() {
		t.Errorf("%+v", d)
	}
	for domain, want := range map[string]string{
		"gone.example":   "the DNS has neither _ldap._tcp.dc._msdcs.gone.example nor _ldap._tcp.gone.example",
		"none.example":   "offers none",
		"dark.example":   "knows no address",
		"broken.example": "DNS not available",
	} {
		if _, err := Discover(t.Context(), r, domain); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", domain, err, want)
		}
	}
}

// TestDice: servers of one priority share the clients by weight, and a client
// stays with its choice.
func TestDice(t *testing.T) {
	t.Parallel()
	firsts := map[string]int{}
	for range 2000 {
		seed := maphash.MakeSeed()
		d := &Domain{Controllers: []Controller{{Host: "a", Weight: 30}, {Host: "b", Weight: 10}, {Host: "c"}}}
		d.sort(seed)
		again := &Domain{Controllers: []Controller{{Host: "c"}, {Host: "b", Weight: 10}, {Host: "a", Weight: 30}}}
		if again.sort(seed); again.hosts() != d.hosts() {
			t.Fatalf("%s, then %s", d.hosts(), again.hosts())
		}
		firsts[d.Controllers[0].Host]++
	}
	if a, b, c := firsts["a"], firsts["b"], firsts["c"]; a < 1350 || a > 1650 || b < 380 || b > 620 || c > 30 {
		t.Errorf("first: %v", firsts)
	}
}

// TestADDiscover: a real domain controller answers the ping.
func TestADDiscover(t *testing.T) {
	t.Parallel()
	ad := testenv.AD(t)
	s := testenv.DNS(t, "_ldap._tcp.dc._msdcs.corp.example. 60 IN SRV 0 100 389 "+ad.Host+".", ad.Host+". 60 IN A "+ad.Address)
	d, err := Discover(t.Context(), resolverFor(t, s), "corp.example")
	must(t, err)
	c := d.Controllers[0]
	if d.NetBIOS != ad.Domain || d.Forest != "corp.example" || d.Site != "Default-First-Site-Name" || !c.Near || !c.PDC || !c.Writable || !c.GlobalCatalog || !c.Answered {
		t.Errorf("%+v", d)
	}
}

// FuzzNetlogon: no datagram does harm, and what was written is read.
func FuzzNetlogon(f *testing.F) {
	n := netlogon{forest: "forest.example", domain: "corp.example", host: "dc1.corp.example", netbios: "CORP", site: "Bonn", clientSite: "Bonn"}
	f.Add(entryWith(7, logonResponse(n)))
	f.Add(entryWith(7, append(make([]byte, 24), 3, 'a', 'b', 'c', 0, 0xc0, 24, 0xc0, 24, 0xc0, 24, 0xc0, 24, 0, 0xc0, 24, 0xc0, 24)))
	f.Add([]byte{0x30, 0x84, 0xff, 0xff, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, b []byte) {
		got, err := parseNetlogon(b, 7)
		if err != nil {
			return
		}
		for _, name := range []string{got.forest, got.domain, got.host, got.netbios, got.site, got.clientSite} {
			if len(name) > maxName {
				t.Errorf("name of %d octets", len(name))
			}
		}
		if strings.ContainsAny(got.forest+got.domain+got.host+got.netbios+got.site+got.clientSite, ".") {
			return // a dot in a label, or several labels
		}
		again, err := parseNetlogon(entryWith(7, logonResponse(got)), 7)
		if err != nil || again != got {
			t.Errorf("%+v is read again as %+v, %v", got, again, err)
		}
	})
}
