package permit

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"dirpost/internal/testenv"
)

// BenchmarkTakeSettle is what a login costs beside its bind: two requests, in
// exchanges that many share.
func BenchmarkTakeSettle(b *testing.B) {
	for _, clients := range []int{1, 16} {
		b.Run(fmt.Sprintf("clients=%d", clients), func(b *testing.B) {
			db := testenv.OpenDatabase(b, testenv.DurableDatabaseURL(b))
			n := newNode(b, db, newDomain(5), testConfig(), testKey)
			var next atomic.Int64
			b.ReportAllocs()
			var wg sync.WaitGroup
			per := b.N/clients + 1
			b.ResetTimer()
			for range clients {
				e := entry(fmt.Sprint("u", next.Add(1)))
				wg.Go(func() {
					for range per {
						p, err := n.Take(b.Context(), Login{Entry: e, Password: "right", Client: home})
						if err != nil {
							b.Error(err)
							return
						}
						p.Settle(Right)
					}
				})
			}
			wg.Wait()
		})
	}
}

// BenchmarkRefused is what a guess costs that nobody is asked about.
func BenchmarkRefused(b *testing.B) {
	d := newDomain(5)
	n := newNode(b, testenv.Database(b), d, testConfig(), testKey)
	e := entry("alice")
	n.exhausted.add(e.Key, time.Now().Add(time.Hour))
	b.ReportAllocs()
	for i := range b.N {
		_, _ = n.Take(b.Context(), Login{Entry: e, Password: fmt.Sprint(i), Client: away})
	}
}
