package store_test

import (
	"context"
	"testing"

	"dirpost/internal/store"
)

func BenchmarkTune(b *testing.B) {
	w := newWorld(b)
	mail := letters(w)
	var all []store.Account
	for i := range 200 {
		all = append(all, w.account(string(rune('a'+i))))
	}
	before := w.processorTime()
	b.ResetTimer()
	for i := range b.N {
		d := to(all[i%200], "INBOX")
		d.Repeat = [16]byte{byte(i), byte(i >> 8), byte(i >> 16), 1}
		if _, err := w.Commit(context.Background(), store.Unit{Content: w.fresh(mail[i%len(mail)]), Deliveries: []store.Delivery{d}}); err != nil {
			b.Fatal(err)
		}
	}
	b.StopTimer()
	w.report(b, before, b.N)
}
