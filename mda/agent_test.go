package mda

import (
	"log/slog"
	"testing"

	"dirpost/directory"
	"dirpost/internal/blob"
	"dirpost/internal/envelope"
	"dirpost/internal/message"
	"dirpost/internal/store"
	"dirpost/internal/testenv"
)

func TestPlan(t *testing.T) {
	db := testenv.Database(t)
	s := store.New(db, blob.New(db), nil, slog.New(slog.DiscardHandler))
	bob, err := envelope.ParseAddress("bob@corp.example")
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name   string
		cfg    Config
		kind   directory.Kind
		detail string
		want   string
		as     store.AccountKind
		header string
	}{
		{"judged junk", DefaultConfig(), directory.KindPerson, "Archive", "Junk", store.KindPerson, message.JunkField + ": helo\r\n\r\n"},
		{"no detail", DefaultConfig(), directory.KindPerson, "", "INBOX", store.KindPerson, ""},
		{"detail of a mailbox (RFC 5233)", DefaultConfig(), directory.KindPerson, "Archive", "Archive", store.KindPerson, ""},
		{"detail of Sent: strangers put nothing there", DefaultConfig(), directory.KindPerson, "Sent", "INBOX", store.KindPerson, ""},
		{"detail of Trash: nothing is hidden", DefaultConfig(), directory.KindPerson, "Trash", "INBOX", store.KindPerson, ""},
		{"detail of none: senders create no mailboxes", DefaultConfig(), directory.KindPerson, "news", "INBOX", store.KindPerson, ""},
		{"detail of a bad name", DefaultConfig(), directory.KindPerson, "a//b\x01*", "INBOX", store.KindPerson, ""},
		{"detail ignored", Config{Subaddress: "inbox"}, directory.KindPerson, "Archive", "INBOX", store.KindPerson, ""},
		{"shared mailbox", DefaultConfig(), directory.KindShared, "", "INBOX", store.KindShared, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if err := tt.cfg.Validate(); err != nil {
				t.Fatal(err)
			}
			e := &directory.Entry{Key: directory.Key("test:" + tt.name), Kind: tt.kind, Primary: bob}
			d, err := NewAgent(tt.cfg, s).Plan(t.Context(), directory.LocalRecipient{Entry: e, Recipient: envelope.Recipient{Address: bob}, Detail: tt.detail, Quota: 7}, &message.Parsed{Header: message.ParseHeader([]byte(tt.header))})
			if err != nil {
				t.Fatal(err)
			}
			if len(d.Targets) != 1 || d.Targets[0].Mailbox != tt.want {
				t.Errorf("targets %+v, want %s", d.Targets, tt.want)
			}
			if d.Account.Kind != tt.as || d.Account.Key != string(e.Key) || d.Quota != 7 || d.Recipient != bob {
				t.Errorf("delivery %+v", d)
			}
		})
	}
}

func TestConfigValidate(t *testing.T) {
	if err := (Config{Subaddress: "maybe"}).Validate(); err == nil {
		t.Error("subaddress = maybe was accepted")
	}
}
