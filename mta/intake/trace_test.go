package intake

import (
	"strings"
	"testing"
	"time"

	"dirpost/directory"
	"dirpost/internal/envelope"
)

func address(t *testing.T, s string) envelope.Address {
	t.Helper()
	a, err := envelope.ParseAddress(s)
	if err != nil {
		t.Fatalf("%s: %v", s, err)
	}
	return a
}

func TestReceived(t *testing.T) {
	at := time.Date(2026, 11, 21, 9, 8, 7, 0, time.UTC)
	bob := envelope.Recipient{Address: address(t, "bob@corp.example")}
	carol := envelope.Recipient{Address: address(t, "carol@corp.example")}
	for _, tt := range []struct {
		name   string
		client envelope.Client
		rcpt   []envelope.Recipient
		want   string
	}{
		{"one recipient is named", envelope.Client{Addr: "192.0.2.1", Name: "mx.example.net", Helo: "mx.example.net", Protocol: "ESMTPS", TLS: "TLS1.3 TLS_AES_128_GCM_SHA256"},
			[]envelope.Recipient{bob},
			"Received: from mx.example.net (mx.example.net [192.0.2.1])\r\n\t(TLS1.3 TLS_AES_128_GCM_SHA256)\r\n\tby mail.corp.example with ESMTPS id 000000000001z\r\n\tfor <bob@corp.example>;\r\n\tSat, 21 Nov 2026 09:08:07 +0000\r\n"},
		{"several are not", envelope.Client{Addr: "2001:db8::1", Helo: "x", Protocol: "SMTP"}, []envelope.Recipient{bob, carol},
			"Received: from x ([IPv6:2001:db8::1])\r\n\tby mail.corp.example with SMTP id 000000000001z;\r\n\tSat, 21 Nov 2026 09:08:07 +0000\r\n"},
		{"a HELO cannot write fields", envelope.Client{Addr: "192.0.2.1", Helo: "x)\r\nBcc: y (", Protocol: "SMTP"}, nil,
			"Received: from x???Bcc:?y?? ([192.0.2.1])\r\n\tby mail.corp.example with SMTP id 000000000001z;\r\n\tSat, 21 Nov 2026 09:08:07 +0000\r\n"},
	} {
		id, err := envelope.ParseQueueID("000000000001z")
		if err != nil {
			t.Fatal(err)
		}
		if got := string(received("mail.corp.example", &tt.client, id, tt.rcpt, at)); got != tt.want {
			t.Errorf("%s:\ngot  %q\nwant %q", tt.name, got, tt.want)
		}
	}
}

func TestCopyFields(t *testing.T) {
	got := string(copyFields(envelope.ReversePath{}, address(t, "bob@corp.example")))
	if want := "Return-Path: <>\r\nDelivered-To: bob@corp.example\r\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if strings.Count(got, "\r\n") != 2 {
		t.Error("not two lines")
	}
}

func TestMailboxAddress(t *testing.T) {
	bob := &directory.Entry{Primary: address(t, "bob@corp.example"), Aliases: []envelope.Address{address(t, "builder@corp.example")}}
	for _, tt := range []struct{ given, detail, want string }{
		{"Bob@corp.example", "", "Bob@corp.example"},
		{"builder@corp.example", "", "builder@corp.example"},
		{"bob+lists@corp.example", "lists", "bob+lists@corp.example"},
		{"builder+lists@corp.example", "lists", "builder+lists@corp.example"},
		{"sales@corp.example", "", "bob@corp.example"},
	} {
		r := directory.LocalRecipient{Entry: bob, Recipient: envelope.Recipient{Address: address(t, tt.given)}, Detail: tt.detail}
		if got := mailboxAddress(r).String(); got != tt.want {
			t.Errorf("%s (detail %q) is delivered to %s, want %s", tt.given, tt.detail, got, tt.want)
		}
	}
}
