package store_test

import (
	"bufio"
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"dirpost/internal/blob"
	"dirpost/internal/envelope"
	"dirpost/internal/postgres"
	"dirpost/internal/store"
	"dirpost/internal/testenv"
)

// crashURL is the variable that makes TestDeliverUntilKilled deliver.
const crashURL = "DIRPOST_CRASH_URL"

// crashClients is how many units the killed process has under way.
const crashClients = 8

// TestDeliverUntilKilled is the process that TestCrash kills: it delivers, and
// writes a line for each commit that it was told of. A unit that fails is
// committed again until it succeeds, as a client would.
func TestDeliverUntilKilled(t *testing.T) {
	url := os.Getenv(crashURL)
	if url == "" {
		return // not the process that is to be killed
	}
	db, err := postgres.Open(t.Context(), postgres.Config{URL: url}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	w := &world{Store: store.New(db, blob.New(db), nil, slog.New(slog.DiscardHandler)), db: db, blobs: blob.New(db), t: t}
	accounts := []store.Account{w.account("alice"), w.account("bob"), w.account("carol")}
	var wg sync.WaitGroup
	for i := range crashClients {
		wg.Go(func() {
			for n := i; ; n++ {
				deliverUntilDone(w, accounts, n)
			}
		})
	}
	wg.Wait()
}

const crashAlsoSQL = `
insert into crash_also (queue_id)
values ($1)
    on conflict do nothing`

// deliverUntilDone commits one unit: mostly of one account, some of two, some
// with a large body, some with more in the transaction.
func deliverUntilDone(w *world, accounts []store.Account, n int) {
	ctx := context.Background()
	body := fmt.Sprintf("body %d\r\n", n)
	if n%7 == 0 {
		body = strings.Repeat(body, 5000)
	}
	u := store.Unit{Content: &store.Content{
		QueueID: envelope.QueueID(w.db.NewID()), InternalDate: w.db.Now(), Header: []byte("Subject: crash\r\n\r\n"),
	}}
	u.Deliveries = append(u.Deliveries, to(accounts[n%3], "INBOX"))
	if n%5 == 0 {
		u.Deliveries = append(u.Deliveries, to(accounts[(n+1)%3], "Archive"))
		u.Also = func(ctx context.Context, tx postgres.Tx) error {
			_, err := tx.Exec(ctx, crashAlsoSQL, int64(u.Content.QueueID))
			return err
		}
	}
	for ; ; time.Sleep(10 * time.Millisecond) { // while the database recovers
		bw := w.blobs.NewWriter(ctx)
		if _, err := bw.Write([]byte(body)); err != nil {
			continue
		}
		b, err := bw.Finish(ctx, false)
		if err != nil {
			continue
		}
		u.Content.Body = b
		out, err := w.Commit(ctx, u)
		if err != nil {
			continue
		}
		var line strings.Builder
		for _, d := range out {
			for _, c := range d.Copies {
				fmt.Fprintf(&line, "committed %d %d %d %d\n", u.Content.QueueID, d.Account, c.Mailbox, c.UID)
			}
		}
		os.Stdout.WriteString(line.String()) // one write: a whole line or none
		return
	}
}

// placed is one acknowledged copy.
type placed struct{ queue, account, mailbox, uid int64 }

// Processes that deliver are killed, and the database under them crashes: every
// delivery that was acknowledged is there exactly once, under the UID that was
// told; what is there beyond them was under way; counters and UIDs are right.
func TestCrash(t *testing.T) {
	t.Parallel()
	rounds, each := 2, 150
	if os.Getenv("DIRPOST_SOAK") != "" {
		rounds, each = 10, 3000
	}
	server := testenv.NewCrashPostgres(t)
	db := testenv.OpenDatabase(t, server.URL())
	if _, err := db.Exec(t.Context(), postgres.Background, `create table crash_also (queue_id bigint primary key)`); err != nil {
		t.Fatal(err)
	}
	acknowledged := map[placed]bool{}
	kills := 0
	for range rounds {
		p := startDelivering(t, server.URL())
		p.read(t, acknowledged, each)
		server.Crash(t)
		p.read(t, acknowledged, each)
		p.kill(t, acknowledged)
		kills++
	}
	db.Close()
	db = testenv.OpenDatabase(t, server.URL())
	verifyCrash(t, db, acknowledged, kills)
}

// delivering is a process that delivers.
type delivering struct {
	cmd *exec.Cmd
	out *bufio.Scanner
}

func startDelivering(t *testing.T, url string) *delivering {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestDeliverUntilKilled$")
	cmd.Env = append(os.Environ(), crashURL+"="+url)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return &delivering{cmd, bufio.NewScanner(out)}
}

// read reads n acknowledgements, or all that are left for n < 0.
func (p *delivering) read(t *testing.T, acknowledged map[placed]bool, n int) {
	t.Helper()
	for n != 0 && p.out.Scan() {
		var a placed
		if _, err := fmt.Sscanf(p.out.Text(), "committed %d %d %d %d", &a.queue, &a.account, &a.mailbox, &a.uid); err != nil {
			continue
		}
		if acknowledged[a] {
			t.Errorf("%+v was acknowledged twice", a)
		}
		acknowledged[a] = true
		n--
	}
	if n > 0 {
		t.Fatalf("the delivering process ended by itself: %v", p.out.Err())
	}
}

func (p *delivering) kill(t *testing.T, acknowledged map[placed]bool) {
	t.Helper()
	if err := p.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	p.read(t, acknowledged, -1)
	_ = p.cmd.Wait() // it was killed
}

func verifyCrash(t *testing.T, db *postgres.DB, acknowledged map[placed]bool, kills int) {
	t.Helper()
	rows, err := db.Query(t.Context(), postgres.Background, `
select message_id, account_id, mailbox_id, uid from mailbox_message`)
	if err != nil {
		t.Fatal(err)
	}
	type row struct{ Queue, Account, Mailbox, UID int64 }
	found, err := postgres.CollectRows[row](rows)
	if err != nil {
		t.Fatal(err)
	}
	there := map[placed]bool{}
	copies := map[[2]int64]int{}
	for _, r := range found {
		there[placed{r.Queue, r.Account, r.Mailbox, r.UID}] = true
		copies[[2]int64{r.Queue, r.Account}]++
	}
	for a := range acknowledged {
		if !there[a] {
			t.Errorf("acknowledged and lost: %+v", a)
		}
	}
	for k, n := range copies {
		if n > 1 {
			t.Errorf("message %d is %d times in account %d", k[0], n, k[1])
		}
	}
	// A unit is at most two copies.
	if extra := len(found) - len(acknowledged); extra > kills*crashClients*2 {
		t.Errorf("%d copies beyond the acknowledged ones, %d were under way at most", extra, kills*crashClients*2)
	}
	var torn int
	err = db.QueryRow(t.Context(), postgres.Background, `
select count(*)
  from (select message_id from mailbox_message group by message_id having count(*) = 2) m
  full join crash_also c on c.queue_id = m.message_id
 where c.queue_id is null or m.message_id is null`).Scan(&torn)
	if err != nil || torn > 0 {
		t.Errorf("%d units were committed in part, %v", torn, err)
	}
	var dangling int
	err = db.QueryRow(t.Context(), postgres.Background, `
select count(*)
  from message m
 where m.blob_id is not null
   and not exists (select from blob_chunk c where c.blob_id = m.blob_id)`).Scan(&dangling)
	if err != nil || dangling > 0 {
		t.Errorf("%d messages without their body, %v", dangling, err)
	}
	consistent(t, db)
	t.Logf("%d copies acknowledged, %d found", len(acknowledged), len(found))
}
