package directory

import (
	"fmt"
	"runtime"
	"sync"
	"testing"
	"time"

	"dirpost/internal/envelope"
)

// large is a directory of 100,000 people, many of any other size.
var large = sync.OnceValue(func() *Snapshot { return many(100_000) })

// many is a directory of so many people and a tenth as many groups of ten, each in
// one bigger one.
func many(people int) *Snapshot {
	l := NewLive(NewSnapshot([]string{"corp.example"}, nil))
	var changes []Change
	add := func(e *Entry) {
		changes = append(changes, Change{e.Key, e})
		if len(changes) == 1000 {
			l.Apply(1, changes)
			changes = nil
		}
	}
	for i := range people {
		add(entry(KindPerson, fmt.Sprintf("user%06d", i), func(e *Entry) {
			e.DisplayName = fmt.Sprintf("User Number %d", i)
			e.Aliases = addrs(fmt.Sprintf("first.last%d@corp.example", i), fmt.Sprintf("u%d@corp.example", i))
			e.DN = fmt.Sprintf("uid=user%06d,ou=people,dc=corp,dc=example", i)
		}))
	}
	for i := range people / 10 {
		add(entry(KindList, fmt.Sprintf("list%05d", i), func(e *Entry) {
			e.Policy = ListOpen
			for j := range 10 {
				e.Members = append(e.Members, fmt.Sprintf("uid=user%06d,ou=people,dc=corp,dc=example", i*10+j))
			}
		}))
	}
	add(entry(KindList, "big", func(e *Entry) {
		e.Policy = ListOpen
		for i := range min(500, people/10) {
			e.Members = append(e.Members, dn(fmt.Sprintf("list%05d", i)))
		}
	}))
	l.Apply(1, changes)
	return l.Snapshot()
}

func BenchmarkResolve(b *testing.B) {
	s := large()
	list := make([]envelope.Address, 1000)
	for i := range list {
		list[i] = addr(fmt.Sprintf("First.Last%d@corp.example", i*97%100_000))
	}
	b.ReportAllocs()
	b.ResetTimer()
	for i := range b.N {
		if r := s.Resolve(list[i%len(list)]); r.Home != HomeHere {
			b.Fatal(r)
		}
	}
}

func BenchmarkByLogin(b *testing.B) {
	s := large()
	b.ReportAllocs()
	b.ResetTimer()
	for range b.N {
		if s.ByLogin("user012345") == nil {
			b.Fatal("nobody")
		}
	}
}

// BenchmarkExpand expands a list of 5,000 people in 500 lists.
func BenchmarkExpand(b *testing.B) {
	s := large()
	rcpts := []envelope.Recipient{{Address: addr("big@corp.example")}}
	b.ReportAllocs()
	b.ResetTimer()
	for range b.N {
		if x := s.Expand(rcpts, Terms{}); len(x.Local) != 5000 {
			b.Fatal(len(x.Local))
		}
	}
}

// BenchmarkApply is one change in directories of several sizes: it costs the same
// in all of them.
func BenchmarkApply(b *testing.B) {
	for _, people := range []int{1_000, 10_000, 100_000, 1_000_000} {
		b.Run(fmt.Sprint(people), func(b *testing.B) {
			s := large()
			if people != 100_000 {
				s = many(people)
			}
			l := NewLive(s)
			e := l.Snapshot().ByLogin("user000123")
			b.ReportAllocs()
			b.ResetTimer()
			for i := range b.N {
				c := *e
				c.packed, c.Quota = "", int64(i+1)
				l.Apply(int64(i), []Change{{c.Key, &c}})
			}
		})
	}
}

// BenchmarkMillion is a directory of 1,000,000 people and 100,000 lists: what it
// holds, what the process needed at most while it grew, and how long one
// collection of garbage takes in it.
func BenchmarkMillion(b *testing.B) {
	for range b.N {
		s := many(1_000_000)
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		b.ReportMetric(float64(m.Sys)/(1<<20), "MiB/most")
		begun := time.Now()
		runtime.GC()
		b.ReportMetric(float64(time.Since(begun))/float64(time.Millisecond), "ms/collection")
		runtime.ReadMemStats(&m)
		b.ReportMetric(float64(m.HeapAlloc)/(1<<20), "MiB/kept")
		runtime.KeepAlive(s)
	}
}

// BenchmarkMemory reports what a directory of 110,000 entries holds.
func BenchmarkMemory(b *testing.B) {
	s := large()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	b.ReportMetric(float64(m.HeapAlloc)/float64(s.Len()), "B/entry")
	b.ReportMetric(float64(m.HeapObjects)/float64(s.Len()), "objects/entry")
}

// BenchmarkExpandDynamic expands a list defined by a filter that 5,000 of 100,000
// people match, with a change of a person between two messages.
func BenchmarkExpandDynamic(b *testing.B) {
	l := NewLive(large())
	var changes []Change
	for i := range 5000 {
		e := *l.Snapshot().ByLogin(fmt.Sprintf("user%06d", i))
		e.packed, e.Facts = "", []string{"department=Sales"}
		changes = append(changes, Change{e.Key, &e})
	}
	g := entry(KindList, "dynamic", func(e *Entry) {
		e.Policy, e.Queries = ListOpen, []string{"ldap:///dc=corp,dc=example??sub?(department=sales)"}
	})
	l.Apply(2, append(changes, Change{g.Key, g}))
	rcpts := []envelope.Recipient{{Address: addr("dynamic@corp.example")}}
	expand := func(b *testing.B) {
		if x := l.Snapshot().Expand(rcpts, Terms{}); len(x.Local) != 5000 {
			b.Fatal(len(x.Local))
		}
	}
	b.Run("first", func(b *testing.B) {
		b.ReportAllocs()
		for range b.N {
			l.Snapshot().found = &findings{}
			expand(b)
		}
	})
	b.Run("then", func(b *testing.B) {
		b.ReportAllocs()
		for i := range b.N {
			e := *changes[0].Entry
			e.packed, e.Quota = "", int64(i+1)
			l.Apply(int64(i), []Change{{e.Key, &e}})
			expand(b)
		}
	})
}

// BenchmarkMayOpen asks for a right through a group of 500 groups.
func BenchmarkMayOpen(b *testing.B) {
	l := NewLive(large())
	m := entry(KindShared, "office", func(e *Entry) { e.Access = dns("big") })
	l.Apply(2, []Change{{m.Key, m}})
	s := l.Snapshot()
	e, m := s.ByLogin("user000042"), s.ByKey(m.Key)
	b.ReportAllocs()
	for range b.N {
		if !s.MayOpen(e, m) {
			b.Fatal("no right")
		}
	}
}
