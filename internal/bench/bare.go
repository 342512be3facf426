package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"dirpost/internal/blob"
	"dirpost/internal/envelope"
	"dirpost/internal/message"
	"dirpost/internal/postgres"
	"dirpost/internal/store"
)

// bare compares inbound mail with the same rows written by a Go loop: the same
// statements, columns, batching and pool, without SMTP, the door, the directory
// and the parser. What is missing to one is their price.
func (b *bench) bare() error {
	for _, t := range b.targets {
		if t.database == "" {
			continue
		}
		for _, l := range []load{
			{sessions: 1, messages: 3000, size: 4096, rcpts: 1},
			{sessions: 1, messages: 3000, size: 4096, rcpts: 1, way: pipelined},
			{sessions: 1, messages: 3000, size: 4096, rcpts: 1, way: chunked},
			{sessions: 8, messages: 2000, size: 4096, rcpts: 1},
			{sessions: 32, messages: 2000, size: 4096, rcpts: 1},
		} {
			if !strings.Contains(fmt.Sprintf("%d sessions, %v", l.sessions, l.way), b.match) {
				continue
			}
			l.messages = max(l.sessions, int(float64(l.messages)*b.factor))
			l.users, l.first = b.users, 1
			if err := b.bareCells(t, l); err != nil {
				return fmt.Errorf("%s: %w", t.name, err)
			}
		}
	}
	return nil
}

// bareCells runs both in turn.
func (b *bench) bareCells(t *target, l load) error {
	w, err := newBareWriter(t, l)
	if err != nil {
		return err
	}
	defer w.db.Close()
	if _, err := w.run(l); err != nil { // statements prepared, connections open
		return err
	}
	var in, bare []float64
	var inCPU, bareCPU []time.Duration
	for range b.rounds {
		c, err := b.inboundCell(t, l)
		if err != nil {
			return err
		}
		o, err := w.cell(l)
		if err != nil {
			return err
		}
		in, bare = append(in, c.answered), append(bare, o.rate) // nobody looks at what bare has written
		inCPU, bareCPU = append(inCPU, c.cpu), append(bareCPU, o.cpu)
	}
	i, o, ic, oc := median(in), median(bare), median(inCPU), median(bareCPU)
	fmt.Fprintf(b.out, "of bare SQL, 4 KiB, %d sessions, %v\t%s\t%.0f of %.0f msg/s\t%.0f %%\t%.3f of %.3f ms CPU\t%.0f %%\t\n",
		l.sessions, l.way, t.name, i, o, 100*i/o, float64(oc)/1e6, float64(ic)/1e6, 100*float64(oc)/float64(ic))
	b.out.Flush()
	return nil
}

// bareWriter writes messages to the store of a target.
type bareWriter struct {
	db       *postgres.DB
	store    *store.Store
	pids     []int // of the target, which the database belongs to, and our own
	accounts []store.AccountID
	contents []store.Content
}

const accountsSQL = `
select account_id
  from account_key
 order by account_id
 limit $1`

func newBareWriter(t *target, l load) (*bareWriter, error) {
	ctx, log := context.Background(), slog.New(slog.DiscardHandler)
	db, err := postgres.Open(ctx, postgres.Config{URL: t.database}, log)
	if err != nil {
		return nil, err
	}
	blobs := blob.New(db)
	w := &bareWriter{db: db, store: store.New(db, blobs, nil, log), pids: append(slices.Clone(t.pids), os.Getpid())}
	rows, err := db.Query(ctx, postgres.Background, accountsSQL, l.users)
	if err == nil {
		var all []struct{ ID store.AccountID }
		all, err = postgres.CollectRows[struct{ ID store.AccountID }](rows)
		for _, a := range all {
			w.accounts = append(w.accounts, a.ID)
		}
	}
	if err == nil && len(w.accounts) == 0 {
		err = fmt.Errorf("no accounts in the database yet")
	}
	for n := 0; err == nil && n < 64; n++ {
		err = w.add(ctx, blobs, text(t.domain, "bare", n, l.size))
	}
	if err != nil {
		db.Close()
		return nil, err
	}
	return w, nil
}

// add prepares a message as the door does.
func (w *bareWriter) add(ctx context.Context, blobs *blob.Store, msg []byte) error {
	scanner := message.NewScanner(message.DefaultLimits())
	body := blobs.NewWriter(ctx)
	if _, err := body.Write(scanner.Scan(msg)); err != nil {
		return err
	}
	parsed := scanner.Close()
	stored, err := body.Finish(ctx, false)
	if err != nil {
		return err
	}
	w.contents = append(w.contents, store.Content{
		Header: parsed.Header.Bytes(), Body: stored, InternalDate: w.db.Now(),
		Envelope: parsed.Header.Envelope(nil), Structure: message.EncodeStructure(parsed.Root), Index: store.Index(message.IndexOf(parsed.Header)),
	})
	return nil
}

// cell is run with what it has cost, the database and this process together.
func (w *bareWriter) cell(l load) (cell, error) {
	before, err := family(w.pids)
	if err != nil {
		return cell{}, err
	}
	rate, err := w.run(l)
	if err != nil {
		return cell{}, err
	}
	after, err := family(w.pids)
	return cell{rate: rate, cpu: (after - before) / time.Duration(l.messages)}, err
}

// run writes l and returns messages per second.
func (w *bareWriter) run(l load) (float64, error) {
	var next atomic.Int64
	var wg sync.WaitGroup
	errs := make(chan error, l.sessions)
	begin := time.Now()
	for range l.sessions {
		wg.Go(func() {
			for {
				i := int(next.Add(1)) - 1
				if i >= l.messages {
					return
				}
				if err := w.write(i); err != nil {
					errs <- err
					return
				}
			}
		})
	}
	wg.Wait()
	select {
	case err := <-errs:
		return 0, err
	default:
		return float64(l.messages) / time.Since(begin).Seconds(), nil
	}
}

func (w *bareWriter) write(i int) error {
	c := w.contents[i%len(w.contents)]
	c.QueueID = envelope.QueueID(w.db.NewID())
	d := store.Delivery{Account: store.Account{ID: w.accounts[i%len(w.accounts)]}, Targets: []store.Target{{Mailbox: "INBOX"}},
		Prepend: []byte("Return-Path: <load@example.net>\r\nDelivered-To: u00001@corp.example\r\n")}
	for n := range d.Repeat {
		d.Repeat[n] = byte(uint64(c.QueueID) >> (n % 8 * 8))
	}
	_, err := w.store.Commit(context.Background(), store.Unit{Content: &c, Deliveries: []store.Delivery{d}})
	return err
}
