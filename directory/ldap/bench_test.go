package ldap

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"runtime/debug"
	"runtime/metrics"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-ldap/ldap/v3"

	"dirpost/directory"
	"dirpost/internal/bus"
	"dirpost/internal/store"
	"dirpost/internal/testenv"
)

// benchNode is one node with a pool and a bus of its own, as in production.
func benchNode(b *testing.B, url string, c *Client) *directory.Live {
	b.Helper()
	db, log := testenv.OpenDatabase(b, url), slog.New(slog.DiscardHandler)
	hints := bus.New(db, log)
	rules := directory.Rules{Domains: []string{"corp.example"}, Brakes: map[string]directory.Brake{"corp": {Share: 1, Least: 1_000_000}}}
	live := directory.Open(rules)
	var sources []directory.Source
	if c != nil {
		sources = append(sources, c.Source(log))
	}
	f := directory.NewFeeder(db, live, sources, hints, "bench", log)
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		_ = hints.Run(ctx, func(context.Context, map[store.MailboxKey]store.ModSeq) (map[store.MailboxKey]store.ModSeq, error) {
			return nil, nil
		})
	})
	wg.Go(func() { _ = f.Run(ctx) })
	b.Cleanup(func() { cancel(); wg.Wait() })
	untilLive(b, live, func(s *directory.Snapshot) bool { return s.Ready() && !s.Stale() })
	return live
}

// untilLive waits until the snapshot is as it should be.
func untilLive(b *testing.B, live *directory.Live, ok func(*directory.Snapshot) bool) {
	b.Helper()
	changed := make(chan struct{}, 1)
	defer live.Watch(func(*directory.Snapshot, []directory.Key) {
		select {
		case changed <- struct{}{}:
		default:
		}
	})()
	limit := time.NewTimer(10 * time.Minute)
	defer limit.Stop()
	for !ok(live.Snapshot()) {
		select {
		case <-changed:
		case <-limit.C:
			b.Fatal("never")
		}
	}
}

// BenchmarkPropagation is how long it takes from the moment when the server has
// answered a change until it is in effect on both of two nodes, one of which
// feeds and the other follows through Postgres. A change comes whenever it likes.
func BenchmarkPropagation(b *testing.B) {
	b.Run("slapd", func(b *testing.B) {
		s := testenv.Slapd(b)
		propagation(b, config(b, s), admin(b, s), "uid=alice,ou=people,"+s.Base)
	})
	b.Run("ad", func(b *testing.B) {
		u := newADUnit(b)
		propagation(b, u.cfg, u.Conn, u.person("alice"))
	})
}

func propagation(b *testing.B, cfg Config, admin *ldap.Conn, dn string) {
	const changes = 200
	url := testenv.DatabaseURL(b)
	nodes := []*directory.Live{benchNode(b, url, client(b, cfg)), benchNode(b, url, nil)}
	var took []time.Duration
	b.ResetTimer()
	for i := range b.N {
		for j := range changes {
			address := fmt.Sprintf("m%d.%d@corp.example", i, j)
			time.Sleep(rand.N(100 * time.Millisecond))
			req := ldap.NewModifyRequest(dn, nil)
			req.Replace("mail", []string{address})
			must(b, admin.Modify(req))
			done := time.Now()
			for _, live := range nodes {
				untilLive(b, live, func(s *directory.Snapshot) bool { return s.ByAddress(addr(address)) != nil })
			}
			took = append(took, time.Since(done))
		}
	}
	reportTimes(b, took)
}

// reportTimes reports the median, the 99th percentile and the longest.
func reportTimes(b *testing.B, took []time.Duration) {
	slices.Sort(took)
	ms := func(share float64) float64 {
		return float64(took[int(share*float64(len(took)-1))]) / float64(time.Millisecond)
	}
	b.ReportMetric(ms(0.5), "ms/p50")
	b.ReportMetric(ms(0.99), "ms/p99")
	b.ReportMetric(ms(1), "ms/max")
	b.ReportMetric(0, "ns/op")
}

// BenchmarkDeletion is BenchmarkPropagation for deletions in Active Directory, of
// which nobody tells an ordinary account. One comes every half second or so, and most
// of them not alone.
func BenchmarkDeletion(b *testing.B) {
	const people = 100
	u := newADUnit(b)
	url := testenv.DatabaseURL(b)
	var took []time.Duration
	for i := range b.N {
		var dns []string
		for j := range people {
			dns = append(dns, u.person(fmt.Sprintf("p%d.%d", i, j)))
		}
		nodes := []*directory.Live{benchNode(b, url, client(b, u.cfg)), benchNode(b, url, nil)}
		b.ResetTimer()
		for j, dn := range dns {
			time.Sleep(rand.N(time.Second))
			if j+1 < people && j%3 > 0 { // a change that explains a move of the number
				modify(b, u.Conn, dns[people-1], "description", fmt.Sprint(j))
			}
			u.del(dn)
			done := time.Now()
			for _, live := range nodes {
				untilLive(b, live, func(s *directory.Snapshot) bool { return !isThere(s.ByDN(dn)) })
			}
			took = append(took, time.Since(done))
		}
	}
	reportTimes(b, took)
}

// BenchmarkDeletionMany is BenchmarkDeletion in a domain of many entries, by an account
// that may not see deleted ones, of members of a group that names all of them; with the
// cheaper questions and without. The first deletion, before which nothing was compared
// yet, is not counted.
func BenchmarkDeletionMany(b *testing.B) {
	const people, gone = 10_000, 20
	u := newADUnit(b)
	var dns []string
	for i := range people {
		dn := fmt.Sprintf("CN=c%d,%s", i, u.base)
		u.add(dn, map[string][]string{"objectClass": {"contact"}, "mail": {u.address(fmt.Sprintf("c%d", i))}})
		dns = append(dns, dn)
	}
	for i := 0; i < people; i += 200 {
		u.group(fmt.Sprintf("department%d", i), dns[i:i+200]...)
	}
	u.group("all", dns...)
	next := rand.Perm(people)
	for _, way := range []struct {
		name string
		many int
	}{{"links", 0}, {"identifiers", 1 << 30}} {
		b.Run(way.name, func(b *testing.B) {
			cfg := u.cfg
			cfg.manyEntries = way.many
			url := testenv.DatabaseURL(b)
			nodes := []*directory.Live{benchNode(b, url, client(b, cfg)), benchNode(b, url, nil)}
			var took []time.Duration
			for range b.N {
				for i := range gone + 1 {
					dn := dns[next[0]]
					next = next[1:]
					time.Sleep(rand.N(4 * time.Second))
					modify(b, u.Conn, dns[next[0]], "description", dn) // which can be seen
					u.del(dn)
					done := time.Now()
					for _, live := range nodes {
						untilLive(b, live, func(s *directory.Snapshot) bool { return !isThere(s.ByDN(dn)) })
					}
					if i > 0 {
						took = append(took, time.Since(done))
					}
				}
			}
			reportTimes(b, took)
		})
	}
}

// BenchmarkIdentifiers is what one comparison of the identifiers costs, in time of
// one connection for 1,000 entries.
func BenchmarkIdentifiers(b *testing.B) {
	b.Run("slapd", func(b *testing.B) {
		s := testenv.Slapd(b)
		s.Add(b, manyLDIF(s.Base, 100_000))
		cfg := config(b, s)
		cfg.Timeout = time.Minute
		identifiers(b, cfg, "entryUUID")
	})
	b.Run("ad", func(b *testing.B) {
		u := newADUnit(b)
		for i := range 2_000 {
			u.add(fmt.Sprintf("CN=c%d,%s", i, u.base), map[string][]string{"objectClass": {"contact"}, "mail": {u.address(fmt.Sprintf("c%d", i))}})
		}
		b.Run("search", func(b *testing.B) { identifiers(b, u.cfg, "objectGUID") })
		b.Run("known", func(b *testing.B) { known(b, u.cfg) })
	})
}

// known is identifiers for entries that are asked for by identifier.
func known(b *testing.B, cfg Config) {
	c := client(b, cfg)
	must(b, c.Check(b.Context()))
	conn, err := c.dialService(b.Context())
	must(b, err)
	defer conn.end()
	s := &dirsyncSession{dirsync: c.Source(quiet).(*dirsync), conn: conn}
	var list []objectGUID
	must(b, s.pages(b.Context(), conn, s.request(), func(entries []*ldap.Entry, _ bool) error {
		for _, le := range entries {
			g, err := entryGUID(le)
			if err != nil {
				return err
			}
			list = append(list, g)
		}
		return nil
	}))
	for b.Loop() {
		for some := range slices.Chunk(list, rereadSize) {
			must(b, s.reread().absent(b.Context(), some))
		}
	}
	b.ReportMetric(b.Elapsed().Seconds()*1e6/float64(b.N*len(list)), "ms/1000")
	b.ReportMetric(float64(len(list)), "entries")
}

func identifiers(b *testing.B, cfg Config, id string) {
	c := client(b, cfg)
	must(b, c.Check(b.Context()))
	conn, err := c.dialService(b.Context())
	must(b, err)
	defer conn.end()
	source := &base{client: c, log: slog.New(slog.DiscardHandler)}
	n := 0
	for b.Loop() {
		req := source.request()
		req.Attributes = []string{id}
		must(b, source.pages(b.Context(), conn, req, func(entries []*ldap.Entry, _ bool) error { n += len(entries); return nil }))
	}
	b.ReportMetric(b.Elapsed().Seconds()*1e6/float64(n), "ms/1000")
	b.ReportMetric(float64(n)/float64(b.N), "entries")
}

// BenchmarkLoad reads 100,000 people and 10,000 lists of ten from slapd, into
// Postgres and the snapshot.
func BenchmarkLoad(b *testing.B) {
	const people = 100_000
	s := testenv.Slapd(b)
	s.Add(b, manyLDIF(s.Base, people))
	cfg := config(b, s)
	cfg.Timeout = time.Minute
	debug.FreeOSMemory()
	before := memory()
	for range b.N {
		most := make(chan float64)
		stop := make(chan struct{})
		go func() { most <- highest(stop) }()
		live := benchNode(b, testenv.DatabaseURL(b), client(b, cfg))
		close(stop)
		b.ReportMetric((<-most-before)/(1<<20), "MiB/most")
		b.ReportMetric(float64(live.Snapshot().Len()), "entries")
		debug.FreeOSMemory()
		b.ReportMetric((memory()-before)/(1<<20), "MiB/kept")
	}
}

// manyLDIF is a company of n people, with a list for each ten.
func manyLDIF(base string, n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "dn: uid=user%06d,ou=people,%s\nobjectClass: inetOrgPerson\nuid: user%06[1]d\ncn: User Number %[1]d\nsn: Number %[1]d\n"+
			"mail: user%06[1]d@corp.example\nmail: first.last%[1]d@corp.example\n\n", i, base, i)
	}
	for i := range n / 10 {
		fmt.Fprintf(&b, "dn: cn=list%05d,ou=groups,%s\nobjectClass: groupOfNames\nobjectClass: dirpostList\ncn: list%05[1]d\nmail: list%05[1]d@corp.example\n", i, base)
		for j := range 10 {
			fmt.Fprintf(&b, "member: uid=user%06d,ou=people,%s\n", i*10+j, base)
		}
		b.WriteString("\n")
	}
	return b.String()
}

// memory is what the process holds of the machine's memory by way of Go, in
// octets.
func memory() float64 {
	m := []metrics.Sample{{Name: "/memory/classes/total:bytes"}, {Name: "/memory/classes/heap/released:bytes"}}
	metrics.Read(m)
	return float64(m[0].Value.Uint64() - m[1].Value.Uint64())
}

// highest is the most that memory was until stop.
func highest(stop <-chan struct{}) float64 {
	t := time.NewTicker(20 * time.Millisecond)
	defer t.Stop()
	most := memory()
	for {
		select {
		case <-t.C:
			most = max(most, memory())
		case <-stop:
			return most
		}
	}
}
