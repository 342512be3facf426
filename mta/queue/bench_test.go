package queue

import (
	"fmt"
	"testing"

	"dirpost/internal/testenv"
)

func BenchmarkEnqueue(b *testing.B) {
	for _, n := range []int{1, 20, 5000} {
		b.Run(fmt.Sprintf("recipients=%d", n), func(b *testing.B) {
			q := New(testenv.Database(b), Config{})
			var rcpts []Recipient
			for i := range n {
				rcpts = append(rcpts, to(b, fmt.Sprintf("u%d@d%d.example", i, i%200))...)
			}
			b.ReportAllocs()
			for b.Loop() {
				enqueue(b, q, rcpts...)
			}
			b.ReportMetric(float64(n*b.N)/b.Elapsed().Seconds(), "rcpt/s")
		})
	}
}

func BenchmarkClaimSettle(b *testing.B) {
	q := New(testenv.Database(b), Config{})
	for i := range b.N/20 + 1 {
		enqueue(b, q, to(b, func() (s []string) {
			for j := range 20 {
				s = append(s, fmt.Sprintf("u%d@d%d.example", i, (i+j)%200))
			}
			return s
		}()...)...)
	}
	b.ReportAllocs()
	b.ResetTimer()
	for n := 0; n < b.N; {
		attempts := claim(b, q, Claim{})
		if len(attempts) == 0 {
			b.Fatalf("nothing left after %d", n)
		}
		settleAll(b, q, Done, 0, attempts...)
		n += len(attempts)
	}
}
