package store_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"fmt"
	"strings"
	"testing"
	"time"

	"dirpost/internal/message"
	"dirpost/internal/store"

	"github.com/emersion/go-imap/v2"
)

// mail makes a Content of a whole message, as intake does.
func (w *world) mail(text string) *store.Content {
	w.t.Helper()
	text = strings.ReplaceAll(text, "\n", "\r\n")
	header, body, _ := strings.Cut(text, "\r\n\r\n")
	scanner := message.NewScanner(message.DefaultLimits())
	if _, err := scanner.Write([]byte(text)); err != nil {
		w.t.Fatal(err)
	}
	parsed := scanner.Close()
	c := w.content("", body)
	c.Header = []byte(header + "\r\n\r\n")
	c.Structure = message.EncodeStructure(parsed.Root)
	c.Envelope = parsed.Header.Envelope(nil)
	c.Index = store.Index(message.IndexOf(parsed.Header))
	return c
}

func TestSearch(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alice := w.account("alice")
	long := strings.Repeat("lorem ipsum dolor ", 30_000) // longer than a chunk and many pieces
	for i, text := range []string{
		1: "From: Bob <bob@corp.example>\nTo: alice@corp.example\nCc: sales@corp.example\nSubject: =?utf-8?B?" +
			base64.StdEncoding.EncodeToString([]byte("会议 on Fußball")) + "?=\nDate: Sat, 21 Nov 2026 23:30:00 -0800\nX-Spam: Yes\n\nHello Big World\n",
		2: "From: carol@corp.example\nSubject: Re: the   budget\nDate: Sun, 22 Nov 2026 01:00:00 +0800\nContent-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: base64\n\n" +
			base64.StdEncoding.EncodeToString([]byte("Die Straße am 紫檀 Platz\n")) + "\n",
		3: "From: dan@corp.example\nX-Spam:\n\n" + long + "needle-in\n the-haystack " + long + "\n",
		4: "From: eve@corp.example\nContent-Type: multipart/mixed; boundary=b\n\n--b\nContent-Type: text/html\n\n<p>Hel<b>lo</b> <i>html</i></p>\n--b\nContent-Type: application/octet-stream; name=report.pdf\n\nsecret\n--b--\n",
	} {
		if i == 0 {
			continue
		}
		c := w.mail(text)
		c.InternalDate = time.Date(2026, 11, 20+i, 12, 0, 0, 0, time.UTC)
		w.commit(c, to(alice, "INBOX"))
	}
	day := func(d int) time.Time { return time.Date(2026, 11, d, 0, 0, 0, 0, time.UTC) }
	key := func(name, value string) []store.HeaderKey { return []store.HeaderKey{{Name: name, Value: value}} }
	for _, c := range []struct {
		name string
		q    store.Query
		want string
	}{
		{"everything", store.Query{}, "[1 2 3 4]"},
		{"candidates", store.Query{UIDs: []imap.UID{2, 4, 9}}, "[2 4]"},
		{"no candidates", store.Query{UIDs: []imap.UID{}}, "[]"},
		{"subject in Chinese", store.Query{Header: key("Subject", "会议")}, "[1]"},
		{"one rune", store.Query{Header: key("Subject", "议")}, "[1]"},
		{"folding", store.Query{Header: key("subject", "FUSSBALL")}, "[1]"},
		{"white space", store.Query{Header: key("subject", "the budget")}, "[2]"},
		{"space behind a key", store.Query{Header: key("subject", "the ")}, "[2]"},
		{"space behind a part of a word", store.Query{Header: key("subject", "th ")}, "[]"},
		{"space before a key", store.Query{Header: key("subject", " budget")}, "[2]"},
		{"space before a part of a word", store.Query{Header: key("subject", " udget")}, "[]"},
		{"space around a key in any field", store.Query{Header: key("x-spam", " yes")}, "[]"},
		{"space behind a key in the body", store.Query{Body: []string{"big "}}, "[1]"},
		{"space behind a part of a word in the body", store.Query{Body: []string{"wor "}}, "[]"},
		{"space in the text", store.Query{Text: []string{" world"}}, "[1]"},
		{"substring of a word", store.Query{Header: key("subject", "udg")}, "[2]"},
		{"from", store.Query{Header: key("from", "corp.example")}, "[1 2 3 4]"},
		{"two keys of one field", store.Query{Header: []store.HeaderKey{{Name: "from", Value: "corp"}, {Name: "from", Value: "bob"}}}, "[1]"},
		{"to is not cc", store.Query{Header: key("to", "sales")}, "[]"},
		{"cc", store.Query{Header: key("cc", "sales")}, "[1]"},
		{"percent is no wildcard", store.Query{Header: key("from", "%")}, "[]"},
		{"any field", store.Query{Header: key("x-spam", "YES")}, "[1]"},
		{"field is there", store.Query{Header: key("x-spam", "")}, "[1 3]"},
		{"subject is there", store.Query{Header: key("subject", "")}, "[1 2]"},
		{"body", store.Query{Body: []string{"big world"}}, "[1]"},
		{"body in base64", store.Query{Body: []string{"STRASSE", "紫檀"}}, "[2]"},
		{"one key is missing", store.Query{Body: []string{"STRASSE", "big"}}, "[]"},
		{"across lines and pieces", store.Query{Body: []string{"needle-in the-haystack"}}, "[3]"},
		{"html", store.Query{Body: []string{"hello html"}}, "[4]"},
		{"markup is no text", store.Query{Body: []string{"<b>"}}, "[]"},
		{"file name", store.Query{Body: []string{"report.pdf"}}, "[4]"},
		{"attachment is no text", store.Query{Body: []string{"secret"}}, "[]"},
		{"header is no body", store.Query{Body: []string{"carol"}}, "[]"},
		{"text in the header", store.Query{Text: []string{"carol"}}, "[2]"},
		{"text in both", store.Query{Text: []string{"bob", "world"}}, "[1]"},
		{"trace fields are header", store.Query{Text: []string{"return-path"}}, "[1 2 3 4]"},
		{"larger", store.Query{Larger: 100_000}, "[3]"},
		{"smaller", store.Query{Smaller: 100_000}, "[1 2 4]"},
		{"since and before", store.Query{Since: day(22), Before: day(24)}, "[2 3]"},
		{"sent, as written", store.Query{SentSince: day(21), SentBefore: day(22)}, "[1]"},
		{"sent before", store.Query{SentBefore: day(23)}, "[1 2]"},
		{"saved", store.Query{SavedBefore: day(1)}, "[]"},
	} {
		got, err := w.Search(t.Context(), alice.ID, store.Inbox, &c.q)
		if err != nil || fmt.Sprint(got) != c.want {
			t.Errorf("%s: %v %v, want %s", c.name, got, err, c.want)
		}
	}
}

func TestMessages(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alice := w.account("alice")
	large := strings.Repeat("0123456789abcde\n", 40_000)
	var whole []string
	for i := range 7 {
		body := fmt.Sprintf("body %d\n", i)
		if i == 4 {
			body = large
		}
		text := fmt.Sprintf("Subject: %d\nFrom: a@corp.example\n\n%s", i, body)
		w.commit(w.mail(text), to(alice, "INBOX", imap.FlagSeen))
		whole = append(whole, string(to(alice, "").Prepend)+strings.ReplaceAll(text, "\n", "\r\n"))
	}
	w.fill(alice, store.Inbox, 1200)
	if _, err := w.Remove(t.Context(), alice.ID, store.Inbox, []imap.UID{3}); err != nil {
		t.Fatal(err)
	}
	var all []imap.UID
	for m, err := range w.Messages(t.Context(), alice.ID, store.Inbox, nil, store.ItemEnvelope) {
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, m.UID)
		if m.Header != nil || m.Structure != nil || m.Body.Inline != nil || len(m.Envelope) == 0 {
			t.Fatalf("message %d: %+v", m.UID, m)
		}
	}
	if len(all) != 1206 || all[2] != 4 || all[1205] != 1207 {
		t.Errorf("%d messages, %v … %v", len(all), all[:4], all[len(all)-1])
	}
	n := 0
	for m, err := range w.Messages(t.Context(), alice.ID, store.Inbox, append(all, 5000), store.ItemHeader|store.ItemStructure|store.ItemBody) {
		if err != nil {
			t.Fatal(err)
		}
		if m.UID != all[n] {
			t.Fatalf("message %d, want %d", m.UID, all[n])
		}
		n++
		if m.UID > 7 {
			continue
		}
		want := whole[m.UID-1]
		if m.Size != int64(len(want)) || m.HeaderSize != int64(len(m.Header)) || !strings.HasPrefix(want, string(m.Header)) || m.Flags != store.FlagSeen {
			t.Errorf("message %d: size %d, header %d octets %q", m.UID, m.Size, m.HeaderSize, m.Header)
		}
		for _, lacks := range []bool{false, true} {
			if lacks {
				m.Header, m.Body.Inline = nil, nil
			}
			r, err := w.OpenMessage(t.Context(), alice.ID, m)
			if err != nil {
				t.Fatal(err)
			}
			var b bytes.Buffer
			if _, err := r.WriteTo(&b); err != nil || b.String() != want {
				t.Errorf("message %d: %d octets %v, want %d", m.UID, b.Len(), err, len(want))
			}
			for _, off := range []int64{0, 3, r.HeaderSize() - 1, r.HeaderSize(), r.Size() / 2, r.Size() - 1} {
				p := make([]byte, min(100, r.Size()-off))
				if k, err := r.ReadAt(p, off); err != nil || k != len(p) || string(p) != want[off:off+int64(k)] {
					t.Errorf("message %d at %d: %q %v", m.UID, off, p[:k], err)
				}
			}
			if k, err := r.ReadAt(make([]byte, 1), r.Size()); k != 0 || err == nil {
				t.Errorf("read behind the end: %d %v", k, err)
			}
			r.Close()
		}
	}
	if n != len(all) {
		t.Errorf("%d messages with bodies, want %d", n, len(all))
	}
}

func TestAppend(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alice := w.account("alice")
	sent := w.mailbox(alice, "Sent").ID
	messages := []store.Appended{
		{Content: w.content("1", "x\r\n"), Flags: []imap.Flag{imap.FlagSeen, "Project-X"}},
		{Content: w.content("2", "y\r\n"), Flags: []imap.Flag{imap.FlagDraft, `\Recent`}},
	}
	copies, err := w.Append(t.Context(), alice.ID, sent, messages, 0)
	if err != nil || len(copies) != 2 || copies[0].UID != 1 || copies[1].UID != 2 {
		t.Fatalf("%+v %v", copies, err)
	}
	v := w.open(alice, sent)
	k, err := w.KeywordsFor(t.Context(), alice.ID, v.Flags(0))
	if err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(k.Names(v.Flags(0)), k.Names(v.Flags(1))); got != `[\Seen Project-X] [\Draft]` {
		t.Errorf("flags %s", got)
	}
	again, err := w.Append(t.Context(), alice.ID, sent, messages[:1], 0)
	if err != nil || again[0] != copies[0] {
		t.Errorf("appended twice: %+v %v", again, err)
	}
	gone, hangUp := context.WithCancel(t.Context())
	hangUp()
	if last, err := w.Append(gone, alice.ID, sent, messages[:1], 0); err != nil || last[0] != copies[0] {
		t.Errorf("the client has hung up: %+v %v", last, err)
	}
	if _, err := w.Append(t.Context(), alice.ID, sent, []store.Appended{{Content: w.content("3", "z")}, {Content: w.content("4", "z")}}, 150); err == nil {
		t.Error("no error above the quota")
	}
	if m := w.mailbox(alice, "Sent"); m.Messages != 2 {
		t.Errorf("%d messages, want 2", m.Messages)
	}
	w.consistent()
}
