//go:build acceptance

package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"dirpost/internal/blob"
	"dirpost/internal/bus"
	"dirpost/internal/postgres"
	"dirpost/internal/store"
	"dirpost/internal/testenv"
	"dirpost/mta/queue"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapclient"
)

// A soak is a load of everything for a time, and what was promised to whom.
type soak struct {
	t       *testing.T
	s       *system
	ctx     context.Context
	mu      sync.Mutex // guards inside, outside
	inside  []string   // Message-IDs that were acknowledged for carol
	outside []string   // and for the outside
}

// TestAcceptanceSoak: mail comes in, goes out, is read, flagged, copied, moved
// and deleted for DIRPOST_SOAK (20 s without it; make soak: 10 min). In the end
// every acknowledged message is found exactly once, and the tables agree with
// each other.
func TestAcceptanceSoak(t *testing.T) {
	length := 20 * time.Second
	if v := os.Getenv("DIRPOST_SOAK"); v != "" {
		d, err := time.ParseDuration(v)
		if err != nil {
			t.Fatalf("DIRPOST_SOAK: %v", err)
		}
		length = d
	}
	peer := testenv.SMTP(t, testenv.SMTPRefusal{}, nil)
	s := newSystem(t, fmt.Sprintf("smarthost = %q\nsmarthost_tls = \"none\"", peer.Addr))
	node := s.process()
	s.awaitServing(t)
	ctx, cancel := context.WithTimeout(t.Context(), length)
	defer cancel()
	k := &soak{t: t, s: s, ctx: ctx}
	var load sync.WaitGroup
	load.Go(func() { k.deliver(0, 200) })
	load.Go(func() { k.deliver(1, 3000) })
	load.Go(func() { k.deliver(2, 400_000) })
	load.Go(k.submit)
	load.Go(func() { k.use(1) })
	load.Go(func() { k.use(2) })
	load.Wait()
	t.Logf("%d messages inside, %d to outside, %d KiB resident", len(k.inside), len(k.outside), resident(t, node.Process.Pid))

	got := k.found(s.login("carol"), "INBOX")
	exactlyOnce(t, "carol", k.inside, got)
	deadline := time.Now().Add(2 * time.Minute)
	for len(peer.Messages()) < len(k.outside) && time.Now().Before(deadline) {
		time.Sleep(50 * time.Millisecond) // until the queue is empty
	}
	got = make(map[string]int)
	for _, m := range peer.Messages() {
		got[soakID.FindString(m.Data)]++
	}
	exactlyOnce(t, "the outside", k.outside, got)
	if err := node.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	_ = node.Wait()
	k.consistent()
}

var soakID = regexp.MustCompile(`<soak-\d+-\d+@[a-z.]+>`)

// found reads all messages of a mailbox to their ends, and counts them by their
// Message-ID. It keeps no body: a quick machine has taken 20 GB of them.
func (k *soak) found(c *imapclient.Client, mailbox string) map[string]int {
	k.t.Helper()
	if _, err := c.Select(mailbox, &imap.SelectOptions{ReadOnly: true}).Wait(); err != nil {
		k.t.Fatalf("select %s: %v", mailbox, err)
	}
	var all imap.SeqSet
	all.AddRange(1, 0)
	fetch := c.Fetch(all, &imap.FetchOptions{BodySection: []*imap.FetchItemBodySection{{Peek: true}}})
	got := make(map[string]int)
	head := make([]byte, 8<<10)
	for m := fetch.Next(); m != nil; m = fetch.Next() {
		for item := m.Next(); item != nil; item = m.Next() {
			body, ok := item.(imapclient.FetchItemDataBodySection)
			if !ok {
				continue
			}
			n, err := io.ReadFull(body.Literal, head)
			if err == nil {
				_, err = io.Copy(io.Discard, body.Literal)
			}
			if err != nil && err != io.ErrUnexpectedEOF {
				k.t.Fatalf("read a message of %s: %v", mailbox, err)
			}
			got[soakID.FindString(string(head[:n]))]++
		}
	}
	if err := fetch.Close(); err != nil {
		k.t.Fatalf("fetch %s: %v", mailbox, err)
	}
	return got
}

// exactlyOnce compares what was acknowledged with what was found.
func exactlyOnce(t *testing.T, who string, acknowledged []string, got map[string]int) {
	t.Helper()
	lost, doubled := 0, 0
	for _, id := range acknowledged {
		if got[id] == 0 {
			lost++
		}
	}
	for _, n := range got {
		if n > 1 {
			doubled++
		}
	}
	if lost+doubled > 0 || len(got) != len(acknowledged) {
		t.Errorf("%s: %d acknowledged, %d found, %d lost, %d doubled", who, len(acknowledged), len(got), lost, doubled)
	}
}

// deliver brings mail of a size to port 25, for carol and for a list.
func (k *soak) deliver(client, size int) {
	for i := 0; k.ctx.Err() == nil; i++ {
		id := fmt.Sprintf("<soak-%d-%d@partner.example>", client, i)
		msg := fmt.Sprintf("From: friend@partner.example\r\nSubject: soak %d\r\nMessage-ID: %s\r\n\r\n%s", i, id, strings.Repeat(fmt.Sprintf("line of %d by %d\r\n", i, client), size/18))
		if err := k.s.deliver("friend@partner.example", []string{"carol@corp.example", "bob@corp.example", "wangwei@corp.example"}, msg); err != nil {
			k.t.Errorf("deliver: %v", err)
			return
		}
		k.mu.Lock()
		k.inside = append(k.inside, id)
		k.mu.Unlock()
	}
}

// submit sends mail to outside.
func (k *soak) submit() {
	for i := 0; k.ctx.Err() == nil; i++ {
		id := fmt.Sprintf("<soak-9-%d@corp.example>", i)
		msg := fmt.Sprintf("From: alice@corp.example\r\nSubject: soak %d\r\nMessage-ID: %s\r\n\r\n%s", i, id, strings.Repeat("out\r\n", 1+i%20*500))
		if err := k.s.submit("alice", "alice@corp.example", []string{"friend@elsewhere.example"}, msg); err != nil {
			k.t.Errorf("submit: %v", err)
			return
		}
		k.mu.Lock()
		k.outside = append(k.outside, id)
		k.mu.Unlock()
	}
}

// use is a client that keeps bob's mailboxes moving; another may have been
// faster, so what is gone is no mistake.
func (k *soak) use(seed uint64) {
	c, err := k.s.tryLogin("bob")
	if err != nil {
		k.t.Errorf("log in: %v", err)
		return
	}
	random := rand.New(rand.NewPCG(seed, seed))
	for k.ctx.Err() == nil {
		if err := k.step(c, random); err != nil {
			k.t.Errorf("use: %v", err)
			return
		}
	}
}

// step does one thing.
func (k *soak) step(c *imapclient.Client, random *rand.Rand) error {
	mailbox := []string{"INBOX", "Archive", "Trash"}[random.IntN(3)]
	if _, err := c.Select(mailbox, nil).Wait(); err != nil {
		return fmt.Errorf("select %s: %w", mailbox, err)
	}
	found, err := c.UIDSearch(&imap.SearchCriteria{}, nil).Wait()
	if err != nil {
		return fmt.Errorf("search: %w", err)
	}
	var some imap.UIDSet
	for _, uid := range found.AllUIDs() {
		if random.IntN(5) == 0 {
			some.AddNum(uid)
		}
	}
	if len(some) == 0 {
		return nil
	}
	flags := [][]imap.Flag{{imap.FlagSeen}, {imap.FlagFlagged, "$Work"}, {imap.FlagDeleted}, {imap.FlagSeen, imap.FlagAnswered}}[random.IntN(4)]
	switch random.IntN(6) {
	case 0, 1:
		op := []imap.StoreFlagsOp{imap.StoreFlagsAdd, imap.StoreFlagsDel, imap.StoreFlagsSet}[random.IntN(3)]
		err = c.Store(some, &imap.StoreFlags{Op: op, Flags: flags, Silent: random.IntN(2) == 0}, nil).Close()
	case 2:
		_, err = c.Copy(some, "Archive").Wait()
	case 3:
		_, err = c.Move(some, "Trash").Wait()
	case 4:
		if err = c.Store(some, &imap.StoreFlags{Op: imap.StoreFlagsAdd, Flags: []imap.Flag{imap.FlagDeleted}, Silent: true}, nil).Close(); err == nil {
			err = c.Expunge().Close()
		}
	case 5:
		text := fmt.Sprintf("Subject: draft\r\n\r\n%s", strings.Repeat("x\r\n", random.IntN(20_000)))
		w := c.Append("Archive", int64(len(text)), nil)
		if _, err = w.Write([]byte(text)); err == nil {
			if err = w.Close(); err == nil {
				_, err = w.Wait()
			}
		}
	}
	return err
}

// invariants are questions whose answer is 0.
var invariants = []struct{ name, sql string }{
	{"mailbox counters that differ from their rows", `
select count(*)
  from mailbox b
  left join lateral (
    select count(*) as n, coalesce(sum(size), 0) as bytes, count(*) filter (where flags & $1 = 0) as unseen,
           count(*) filter (where flags & $2 <> 0) as deleted, coalesce(max(uid), 0) as uid, coalesce(max(modseq), 0) as modseq
      from mailbox_message m
     where m.account_id = b.account_id and m.mailbox_id = b.mailbox_id) r on true
 where (b.messages, b.bytes, b.unseen, b.deleted) is distinct from (r.n, r.bytes, r.unseen, r.deleted)
    or r.uid >= b.uidnext or r.modseq > b.modseq`},
	{"account counters that differ from their rows", `
select count(*)
  from account a
  left join lateral (select count(*) as n, coalesce(sum(size), 0) as bytes from mailbox_message m where m.account_id = a.account_id) r on true
 where (a.used_messages, a.used_bytes) is distinct from (r.n, r.bytes) and $1::bigint + $2::bigint > 0`},
	{"entries without their message", `
select count(*)
  from mailbox_message x
 where not exists (select from message m where m.account_id = x.account_id and m.message_id = x.message_id) and $1::bigint + $2::bigint > 0`},
	{"messages without their body", `
select count(*)
  from message m
 where m.blob_id is not null and not exists (select from blob_chunk c where c.blob_id = m.blob_id) and $1::bigint + $2::bigint > 0`},
	{"queue rows that are left", `select count(*) from outq where $1::bigint + $2::bigint > 0`},
}

// orphans are questions whose answer is 0 after a purge of everything.
var orphans = []struct{ name, sql string }{
	{"messages in no mailbox", `
select count(*) from message m
 where not exists (select from mailbox_message x where x.account_id = m.account_id and x.message_id = m.message_id) and $1::bigint + $2::bigint > 0`},
	{"blobs of no message", `
select count(*) from blob b
 where not exists (select from message m where m.blob_id = b.blob_id) and not exists (select from outq_msg q where q.blob_id = b.blob_id) and $1::bigint + $2::bigint > 0`},
	{"chunks of no blob", `select count(*) from blob_chunk c where not exists (select from blob b where b.blob_id = c.blob_id) and $1::bigint + $2::bigint > 0`},
	{"uploads that broke off", `select count(*) from blob_upload where $1::bigint + $2::bigint > 0`},
}

// aged makes everything as old as no grace forgives.
var aged = []string{
	`update expunged set expunged_at = expunged_at - interval '1 year'`,
	`update blob set last_use = last_use - 31536000`,
	`update blob_upload set started_at = started_at - 31536000`,
}

// consistent asks the tables, before and after a purge without grace, and
// compares the views of a new node with them.
func (k *soak) consistent() {
	k.t.Helper()
	// As the owner: the server itself may not make rows older.
	url := strings.Replace(k.s.file.Database.URL, "postgres://dirpost_serve@", "postgres://postgres@", 1)
	db := testenv.OpenDatabase(k.t, url)
	log := slog.New(slog.DiscardHandler)
	blobs := blob.New(db)
	st := store.New(db, blobs, bus.New(db, log), log)
	var none store.Keywords
	seen, _ := none.Lookup(imap.FlagSeen)
	deleted, _ := none.Lookup(imap.FlagDeleted)
	ask := func(questions []struct{ name, sql string }) {
		for _, q := range questions {
			var n int
			if err := db.QueryRow(k.t.Context(), postgres.Background, q.sql, int64(seen), int64(deleted)).Scan(&n); err != nil {
				k.t.Errorf("%s: %v", q.name, err)
			} else if n != 0 {
				k.t.Errorf("%s: %d", q.name, n)
			}
		}
	}
	ask(invariants)
	k.views(db, st)
	for _, sql := range aged {
		if _, err := db.Exec(k.t.Context(), postgres.Background, sql); err != nil {
			k.t.Fatal(err)
		}
	}
	res, err := st.Purge(k.t.Context(), store.Retention{Undelete: time.Hour, Log: time.Hour, Closed: time.Hour}, queue.New(db, queue.Config{}).References)
	if err != nil {
		k.t.Fatal(err)
	}
	k.t.Logf("purged: %+v", res)
	ask(invariants)
	ask(orphans)
	k.views(db, st)
}

// views compares the view of each mailbox with its rows.
func (k *soak) views(db *postgres.DB, st *store.Store) {
	k.t.Helper()
	rows, err := db.Query(k.t.Context(), postgres.Background, "select account_id, mailbox_id, uid, modseq, flags from mailbox_message order by account_id, mailbox_id, uid")
	if err != nil {
		k.t.Fatal(err)
	}
	type row struct{ Account, Mailbox, UID, ModSeq, Flags int64 }
	all, err := postgres.CollectRows[row](rows)
	if err != nil {
		k.t.Fatal(err)
	}
	byMailbox := make(map[[2]int64][]row)
	for _, r := range all {
		key := [2]int64{r.Account, r.Mailbox}
		byMailbox[key] = append(byMailbox[key], r)
	}
	for key, want := range byMailbox {
		v, err := st.Open(k.t.Context(), store.AccountID(key[0]), store.MailboxID(key[1]))
		if err != nil {
			k.t.Fatal(err)
		}
		if v.Len() != len(want) {
			k.t.Errorf("view of mailbox %v: %d messages, want %d", key, v.Len(), len(want))
			continue
		}
		for i, r := range want {
			if int64(v.UIDAt(i)) != r.UID || int64(v.ModSeq(i)) != r.ModSeq || int64(v.Flags(i)) != r.Flags {
				k.t.Errorf("view of mailbox %v at %d: uid %d modseq %d flags %x, want %+v", key, i, v.UIDAt(i), v.ModSeq(i), v.Flags(i), r)
				break
			}
		}
	}
	k.t.Logf("%d views with %d messages equal their tables", len(byMailbox), len(all))
}
