package main

import (
	"slices"
	"strings"
	"testing"

	"dirpost/internal/blob"
	"dirpost/internal/envelope"
	"dirpost/internal/message"
	"dirpost/internal/postgres"
	"dirpost/internal/store"
	"dirpost/internal/testenv"
)

// firstSchema is the last migration of the first version.
const firstSchema = 70

// A database of the first version, with mail in it, is brought up to this one, and
// the mail is there.
func TestUpgrade(t *testing.T) {
	t.Parallel()
	before := newSystem(t, "")
	before.start()
	before.eventually("the directory is read", func() bool { return before.node.live.Snapshot().Ready() })
	alice := before.node.live.Snapshot().ByLogin("alice")

	url := testenv.DurablePostgresURL(t)
	all, err := postgres.Migrations()
	if err != nil {
		t.Fatal(err)
	}
	first := slices.DeleteFunc(slices.Clone(all), func(m postgres.Migration) bool { return m.Number > firstSchema })
	roles := postgres.Roles{Serve: "dirpost_serve", Read: "dirpost_read"}
	if err := postgres.MigrateTo(t.Context(), url, first, roles, testLog(t)); err != nil {
		t.Fatal(err)
	}
	db := testenv.OpenDatabase(t, url)
	blobs := blob.New(db)
	st := store.New(db, blobs, nil, testLog(t))
	account, err := st.Account(t.Context(), string(alice.Key), store.KindPerson)
	if err != nil {
		t.Fatal(err)
	}
	msg := "From: old@example.net\r\nTo: alice@corp.example\r\nSubject: from before\r\n\r\nIt was there first.\r\n"
	scanner := message.NewScanner(message.DefaultLimits())
	body := blobs.NewWriter(t.Context())
	if _, err := body.Write(scanner.Scan([]byte(msg))); err != nil {
		t.Fatal(err)
	}
	parsed := scanner.Close()
	stored, err := body.Finish(t.Context(), false)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := st.Commit(t.Context(), store.Unit{
		Content: &store.Content{Header: parsed.Header.Bytes(), Body: stored, InternalDate: db.Now(), QueueID: envelope.QueueID(db.NewID()),
			Envelope: parsed.Header.Envelope(nil), Structure: message.EncodeStructure(parsed.Root), Index: store.Index(message.IndexOf(parsed.Header))},
		Deliveries: []store.Delivery{{Account: account, Targets: []store.Target{{Mailbox: "INBOX"}}}},
	}); err != nil {
		t.Fatal(err)
	}

	if err := postgres.Migrate(t.Context(), url, roles, testLog(t)); err != nil {
		t.Fatal(err)
	}
	after := newSystemIn(t, strings.Replace(url, "postgres://postgres@", "postgres://dirpost_serve@", 1), "", before.slapd)
	after.confirm()
	after.start()
	if got := after.await("alice", "INBOX", 1)[0]; !strings.Contains(got, "It was there first.") {
		t.Errorf("the message from before the upgrade is\n%s", got)
	}
	if err := after.deliver("new@example.net", []string{"alice@corp.example"}, "Subject: after\r\n\r\nx\r\n"); err != nil {
		t.Errorf("delivery after the upgrade: %v", err)
	}
	after.await("alice", "INBOX", 2)
}
