package intake

import (
	"errors"
	"io"
	"strings"
	"testing"

	"dirpost/directory"
	"dirpost/internal/envelope"
)

// TestSizeLimits: what is too large for the recipient or the sender is refused, by
// what the client says (RFC 1870) or, where it says nothing, by what comes.
func TestSizeLimits(t *testing.T) {
	t.Parallel()
	h := newHouse(t,
		person("alice", func(e *directory.Entry) { e.MaxSend = 3000 }),
		person("bob", func(e *directory.Entry) { e.MaxReceive = 1000 }),
		person("carol", nil))
	client := &envelope.Client{Helo: "client.example", Protocol: "ESMTP"}
	rcpt := func(name string, size int64, from string) (*Transaction, error) {
		id := h.as("alice")
		if from == "" {
			id = nil
		}
		tx, err := h.Start(client, id, MailParams{Size: size})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(tx.Abort)
		return tx, tx.AddRecipient(t.Context(), envelope.Recipient{Address: h.Directory.Snapshot().ByKey(directory.Key("test:" + name)).Primary})
	}
	for _, tt := range []struct {
		name, to string
		size     int64
		from     string
		too      bool
	}{
		{"fits", "bob", 1000, "", false},
		{"too large for the recipient", "bob", 1001, "", true},
		{"no limit", "carol", 1001, "", false},
		{"too large for the sender", "carol", 3001, "alice", true},
		{"fits the sender", "carol", 3000, "alice", false},
		{"not said", "bob", 0, "", false},
	} {
		if _, err := rcpt(tt.to, tt.size, tt.from); errors.Is(err, envelope.ErrTooBig) != tt.too || !tt.too && err != nil {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
	text := "Subject: x\r\n\r\n" + strings.Repeat("0123456789\r\n", 200)
	for name, too := range map[string]bool{"bob": true, "carol": false} {
		tx, err := rcpt(name, 0, "")
		if err != nil {
			t.Fatal(err)
		}
		tx.Begin(t.Context())
		if _, err := tx.Write([]byte(text)); err != nil {
			t.Fatal(err)
		}
		if _, err = tx.Commit(t.Context()); errors.Is(err, envelope.ErrTooBig) != too {
			t.Errorf("2,400 octets for %s, not said before: %v", name, err)
		}
	}
}

// TestQuotaSend: whose mailbox is too full may send nothing.
func TestQuotaSend(t *testing.T) {
	t.Parallel()
	h := newHouse(t, person("alice", func(e *directory.Entry) { e.QuotaSend = 500 }), person("bob", nil))
	to := []string{"bob@corp.example"}
	if _, err := h.send(h.as("alice"), "alice@corp.example", to, "From: alice@corp.example\r\nSubject: x\r\n\r\nx\r\n"); err != nil {
		t.Fatal(err)
	}
	if _, err := h.send(nil, "", []string{"alice@corp.example"}, "Subject: x\r\n\r\n"+strings.Repeat("0123456789\r\n", 100)); err != nil {
		t.Fatal(err)
	}
	if _, err := h.send(h.as("alice"), "alice@corp.example", to, "From: alice@corp.example\r\nSubject: x\r\n\r\nx\r\n"); !errors.Is(err, envelope.ErrOverQuota) {
		t.Errorf("above it: %v", err)
	}
}

// Who is refused at RCPT gets no copy because another is accepted after it.
func TestRefusedBeforeAccepted(t *testing.T) {
	full := person("full", func(e *directory.Entry) { e.Quota = 5000 })
	held := person("held", func(e *directory.Entry) { e.Delivery = directory.StateHeld })
	list := &directory.Entry{Key: "test:list", DN: "cn=list", Kind: directory.KindList, Primary: address(t, "list@corp.example"),
		Delivery: directory.StateActive, Policy: directory.ListOpen, Members: []string{"cn=bob", "cn=held"}}
	h := newHouse(t, person("bob", nil), full, held, list)
	if _, err := h.send(nil, "ann@example.net", []string{"full@corp.example"}, plain); err != nil {
		t.Fatal(err)
	}
	tx, err := h.Start(&envelope.Client{Session: "s"}, nil, MailParams{ReversePath: envelope.ReversePathOf(address(t, "ann@example.net")), Size: 10000})
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Abort()
	if err := tx.AddRecipient(t.Context(), envelope.Recipient{Address: address(t, "full@corp.example")}); status(err) != "4.2.2" {
		t.Fatalf("full mailbox: %v", err)
	}
	if err := tx.AddRecipient(t.Context(), envelope.Recipient{Address: address(t, "list@corp.example")}); err != nil {
		t.Fatal(err)
	}
	tx.Begin(t.Context())
	io.WriteString(tx, strings.Replace(plain, "<1@", "<2@", 1))
	if acc, err := tx.Commit(t.Context()); err != nil || acc.Delivered != 1 {
		t.Fatalf("%+v, %v", acc, err)
	}
	if b, f := len(h.inbox("bob")), len(h.inbox("full")); b != 1 || f != 1 {
		t.Errorf("bob has %d and the full mailbox %d messages, want 1 each", b, f)
	}
}
