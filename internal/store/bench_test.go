package store_test

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"dirpost/internal/envelope"
	"dirpost/internal/postgres"
	"dirpost/internal/store"
	"dirpost/internal/testenv"

	"github.com/emersion/go-imap/v2"
)

// newDurable is newWorld on a server that waits for the disk.
func newDurable(t testing.TB) *world {
	t.Helper()
	return worldOn(t, testenv.OpenDatabase(t, testenv.DurableDatabaseURL(t)))
}

// letters are bodies of about 4 KiB of text, each with its header and what is
// made of it, as large as real ones are.
func letters(w *world) []*store.Content {
	r := rand.New(rand.NewPCG(1, 2))
	words := strings.Fields(`the project meeting on monday we need to talk about budget and the report of last quarter please find
attached regards thanks for your mail I will come back to you customer invoice number delivery address server update security`)
	var all []*store.Content
	for i := range 64 {
		var b bytes.Buffer
		for b.Len() < 4<<10 {
			for range 10 {
				b.WriteString(words[r.IntN(len(words))])
				b.WriteByte(" ,.e"[r.IntN(4)])
			}
			fmt.Fprintf(&b, "%d\r\n", r.IntN(1e6))
		}
		c := w.content("letter", b.String())
		c.Header = fmt.Appendf(nil, "Received: from mail.example.net (mail.example.net [192.0.2.%d])\r\n\tby mx.corp.example (Dirpost) with ESMTPS id %013d\r\n\tfor <alice@corp.example>; Sat, 21 Nov 2026 10:00:00 +0000\r\n"+
			"DKIM-Signature: v=1; a=rsa-sha256; c=relaxed/relaxed; d=example.net; s=s1;\r\n\tt=1795600000; bh=%x; h=From:To:Subject:Date:Message-ID; b=%x\r\n"+
			"From: Someone Else <someone.else@example.net>\r\nTo: Alice <alice@corp.example>\r\nSubject: Report of the last quarter %d\r\nDate: Sat, 21 Nov 2026 11:00:00 +0100\r\nMessage-ID: <%x@example.net>\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n",
			i, r.Int64(), c.Body.Hash, bytes.Repeat(c.Body.Hash[:], 4), i, r.Int64())
		c.Envelope = bytes.Repeat([]byte("envelope "), 40)
		c.Structure = bytes.Repeat([]byte("part"), 20)
		c.Index = store.Index{Subject: "report of the last quarter", From: "someone else <someone.else@example.net>", Recipients: "alice <alice@corp.example>", MessageIDHash: r.Int64(), ThreadID: r.Int64()}
		all = append(all, c)
	}
	return all
}

// fresh returns a copy of c as another message.
func (w *world) fresh(c *store.Content) *store.Content {
	d := *c
	d.QueueID = envelope.QueueID(w.db.NewID())
	return &d
}

// processes counts the processor time of the server of db and of this process.
type processes struct{ server, ours time.Duration }

func (w *world) processorTime() processes {
	w.t.Helper()
	var pid int
	if err := w.db.QueryRow(context.Background(), postgres.Background, `select pg_backend_pid()`).Scan(&pid); err != nil {
		w.t.Fatal(err)
	}
	_, parent := stat(pid)
	total, _ := stat(parent)
	children, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", parent))
	for _, file := range children {
		list, _ := os.ReadFile(file)
		for _, f := range strings.Fields(string(list)) {
			n, _ := strconv.Atoi(f)
			ticks, _ := stat(n)
			total += ticks
		}
	}
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		w.t.Fatal(err)
	}
	return processes{total, time.Duration(u.Utime.Nano() + u.Stime.Nano())}
}

// stat returns the processor time of a process and of those of its children
// that have ended, and its parent.
func stat(pid int) (time.Duration, int) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, 0
	}
	f := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
	ticks := 0
	for _, i := range []int{11, 12, 13, 14} {
		n, _ := strconv.Atoi(f[i])
		ticks += n
	}
	parent, _ := strconv.Atoi(f[1])
	return time.Duration(ticks) * 10 * time.Millisecond, parent
}

// report adds processor time a message.
func (w *world) report(b *testing.B, before processes, n int) {
	after := w.processorTime()
	b.ReportMetric(float64((after.server-before.server).Microseconds())/float64(n), "pg-µs/op")
	b.ReportMetric(float64((after.ours-before.ours).Microseconds())/float64(n), "go-µs/op")
	b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "msg/s")
}

func BenchmarkDeliver(b *testing.B) {
	for _, accounts := range []int{1, 200} {
		for _, clients := range []int{1, 8, 32} {
			b.Run(fmt.Sprintf("accounts=%d/clients=%d", accounts, clients), func(b *testing.B) {
				w := newDurable(b)
				mail := letters(w)
				var all []store.Account
				for i := range accounts {
					all = append(all, w.account(fmt.Sprint(i)))
				}
				var n atomic.Int64
				var wg sync.WaitGroup
				before := w.processorTime()
				b.ReportAllocs()
				b.ResetTimer()
				for range clients {
					wg.Go(func() {
						for {
							i := int(n.Add(1)) - 1
							if i >= b.N {
								return
							}
							d := to(all[i%accounts], "INBOX")
							d.Repeat = [16]byte{byte(i), byte(i >> 8), byte(i >> 16), byte(rand.Int())}
							if _, err := w.Commit(context.Background(), store.Unit{Content: w.fresh(mail[i%len(mail)]), Deliveries: []store.Delivery{d}}); err != nil {
								b.Error(err)
								return
							}
						}
					})
				}
				wg.Wait()
				b.StopTimer()
				w.report(b, before, b.N)
			})
		}
	}
}

// A delivery into a mailbox of 100,000 messages costs what one into an empty
// mailbox costs.
func BenchmarkDeliverInto(b *testing.B) {
	w := newDurable(b)
	mail := letters(w)
	for _, size := range []int{0, 100_000} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			a := w.account(fmt.Sprint("size", size, b.N))
			if size > 0 {
				w.fill(a, store.Inbox, size)
				if _, err := w.db.Exec(b.Context(), postgres.Background, `checkpoint`); err != nil {
					b.Fatal(err)
				}
			}
			before := w.processorTime()
			b.ResetTimer()
			for i := range b.N {
				if _, err := w.Commit(b.Context(), store.Unit{Content: w.fresh(mail[i%len(mail)]), Deliveries: []store.Delivery{to(a, "INBOX")}}); err != nil {
					b.Fatal(err)
				}
			}
			b.StopTimer()
			w.report(b, before, b.N)
		})
	}
}

// The same statement from a bare loop: one connection that commits 1, 4 or 16
// messages at a time, as the lanes do for 1, 8 and 32 sessions.
func BenchmarkDeliverBare(b *testing.B) {
	for _, batch := range []int{1, 4, 16} {
		b.Run(fmt.Sprintf("batch=%d", batch), func(b *testing.B) {
			w := newDurable(b)
			mail := letters(w)
			var all []store.Account
			for i := range 200 {
				all = append(all, w.account(fmt.Sprint(i)))
			}
			before := w.processorTime()
			b.ReportAllocs()
			b.ResetTimer()
			for i := 0; i < b.N; i += batch {
				accounts, contents := make([]store.Account, batch), make([]*store.Content, batch)
				for k := range batch {
					accounts[k], contents[k] = all[(i+k)%len(all)], w.fresh(mail[(i+k)%len(mail)])
				}
				if err := w.Bare(b.Context(), accounts, contents, to(store.Account{}, "INBOX")); err != nil {
					b.Fatal(err)
				}
			}
			b.StopTimer()
			w.report(b, before, b.N)
		})
	}
}

// Opening a mailbox of 100,000 messages: for the first time on a node, again,
// and after a delivery.
func BenchmarkOpen(b *testing.B) {
	w := worldOn(b, testenv.Database(b))
	mail := letters(w)
	a := w.account("large")
	w.fill(a, store.Inbox, 100_000)
	w.open(a, store.Inbox)
	b.Run("cold", func(b *testing.B) {
		for b.Loop() {
			if _, err := worldOn(b, w.db).Open(b.Context(), a.ID, store.Inbox); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("unchanged", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			w.open(a, store.Inbox)
		}
	})
	b.Run("delivered", func(b *testing.B) {
		for b.Loop() {
			b.StopTimer()
			w.commit(w.fresh(mail[0]), to(a, "INBOX"))
			old := w.open(a, store.Inbox)
			w.commit(w.fresh(mail[0]), to(a, "INBOX"))
			b.StartTimer()
			if d := w.open(a, store.Inbox).Diff(old); len(d.New) != 1 {
				b.Fatalf("%+v", d)
			}
		}
	})
}

func BenchmarkStoreFlags(b *testing.B) {
	w := newDurable(b)
	a := w.account("large")
	w.fill(a, store.Inbox, 20_000)
	var uids []imap.UID
	for i := range 10_000 {
		uids = append(uids, imap.UID(1+2*i))
	}
	for _, n := range []int{1, 10_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			i := 0
			for b.Loop() {
				i++
				c := store.FlagChange{Add: store.FlagFlagged}
				if i%2 == 0 {
					c = store.FlagChange{Remove: store.FlagFlagged}
				}
				if _, err := w.StoreFlags(b.Context(), a.ID, store.Inbox, uids[:n], c); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
