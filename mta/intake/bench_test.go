package intake

import (
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"dirpost/directory"
	"dirpost/internal/blob"
	"dirpost/internal/envelope"
	"dirpost/internal/event"
	"dirpost/internal/store"
	"dirpost/internal/testenv"
)

// familyCPU is the CPU time of this process and all below it, Postgres among
// them.
func familyCPU(tb testing.TB) time.Duration {
	tb.Helper()
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	parent, ticks := map[int]int{}, map[int]int64{}
	for _, name := range stats {
		b, err := os.ReadFile(name)
		if err != nil {
			continue
		}
		pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(name)))
		f := strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:]))
		parent[pid], _ = strconv.Atoi(f[1])
		for _, s := range f[11:15] {
			n, _ := strconv.ParseInt(s, 10, 64)
			ticks[pid] += n
		}
	}
	var sum int64
	for pid := range parent {
		for up := pid; up > 1; up = parent[up] {
			if up == os.Getpid() {
				sum += ticks[pid]
				break
			}
		}
	}
	return time.Duration(sum) * 10 * time.Millisecond
}

// BenchmarkAccept is a message from Start to the durable Commit: 4 KiB, one
// recipient out of 100. cpu-µs/msg counts Postgres too.
func BenchmarkAccept(b *testing.B) {
	var people []*directory.Entry
	for i := range 100 {
		people = append(people, person(fmt.Sprintf("u%02d", i), nil))
	}
	db := testenv.OpenDatabase(b, testenv.DurableDatabaseURL(b))
	blobs, log := blob.New(db), slog.New(slog.DiscardHandler)
	s := store.New(db, blobs, nil, log)
	d := New(DefaultConfig("mail.corp.example"), Deps{DB: db, Store: s, Blobs: blobs, Queue: &rows{}, Planner: inboxes{s},
		Directory: directory.NewLive(directory.NewSnapshot([]string{"corp.example"}, people)), Events: event.Discard, Log: log})
	from, _ := envelope.ParseAddress("ann@example.net")
	body := strings.Repeat("The quick brown fox jumps over the lazy dog, and so on 1234.\r\n", 60)
	var n atomic.Int64
	one := func() error {
		i := n.Add(1)
		tx, err := d.Start(&envelope.Client{Addr: "192.0.2.1", Helo: "h", Protocol: "ESMTP"}, nil, MailParams{ReversePath: envelope.ReversePathOf(from)})
		if err != nil {
			return err
		}
		if err := tx.AddRecipient(b.Context(), envelope.Recipient{Address: people[i%100].Primary}); err != nil {
			return err
		}
		tx.Begin(b.Context())
		fmt.Fprintf(tx, "From: Ann <ann@example.net>\r\nTo: u@corp.example\r\nSubject: bench %d\r\nMessage-ID: <%d@example.net>\r\nMIME-Version: 1.0\r\nContent-Type: text/plain\r\n\r\n", i, i)
		io.WriteString(tx, body)
		_, err = tx.Commit(b.Context())
		return err
	}
	for range 100 {
		if err := one(); err != nil {
			b.Fatal(err)
		}
	}
	for _, sessions := range []int{1, 8, 32} {
		b.Run(fmt.Sprintf("sessions=%d", sessions), func(b *testing.B) {
			b.ReportAllocs()
			before := familyCPU(b)
			var wg sync.WaitGroup
			var left atomic.Int64
			left.Store(int64(b.N))
			b.ResetTimer()
			for range sessions {
				wg.Go(func() {
					for left.Add(-1) >= 0 {
						if err := one(); err != nil {
							b.Error(err)
							return
						}
					}
				})
			}
			wg.Wait()
			b.StopTimer()
			b.ReportMetric(float64((familyCPU(b)-before).Microseconds())/float64(b.N), "cpu-µs/msg")
		})
	}
}
