package intake

import (
	"context"
	"regexp"
	"strings"
	"testing"
	"time"

	"dirpost/directory"
	"dirpost/internal/envelope"
	"dirpost/internal/postgres"
	"dirpost/mta/queue"
)

// moderated is a house with a real queue and the list asked@ of bob, which carol and
// somebody outside moderate.
type moderated struct {
	*house
	q *queue.Queue
}

func newModerated(t *testing.T) *moderated {
	h := newHouse(t, person("alice", nil), person("bob", nil), person("carol", nil), person("dan", nil),
		person("friend", func(e *directory.Entry) {
			e.Kind, e.Logins, e.Primary = directory.KindContact, nil, envelope.Address{Local: "friend", Domain: "far.example"}
		}),
		group("asked", func(e *directory.Entry) {
			e.Policy, e.Members, e.Moderators, e.Owners = directory.ListModerated, []string{"cn=bob"}, []string{"cn=carol", "cn=friend"}, []string{"cn=dan"}
		}))
	q := queue.New(h.DB, queue.Config{})
	h.Door.Queue = q
	return &moderated{h, q}
}

// work delivers what is due to mailboxes, as the queue manager does.
func (h *moderated) work() {
	h.t.Helper()
	var shards []int16
	for i := range int16(queue.Shards) {
		shards = append(shards, i)
	}
	for {
		attempts, err := h.q.Claim(h.t.Context(), queue.Claim{Shards: shards, Skip: []string{"far.example"}})
		if err != nil {
			h.t.Fatal(err)
		}
		if len(attempts) == 0 {
			return
		}
		for _, a := range attempts {
			messages, err := h.q.Messages(h.t.Context(), []envelope.QueueID{a.QueueID})
			if err != nil {
				h.t.Fatal(err)
			}
			done := []queue.Settlement{{Attempt: a, Verdict: queue.Done}}
			err = h.DeliverQueued(h.t.Context(), messages[a.QueueID], []queue.Recipient{a.Recipient}, func(ctx context.Context, tx postgres.Tx, _ []queue.Onward) error { return h.q.SettleTx(ctx, tx, done) })
			if err != nil {
				h.t.Fatal(err)
			}
		}
	}
}

// rows are the recipients in the queue.
func (h *moderated) rows() []queue.Entry {
	h.t.Helper()
	all, err := h.q.List(h.t.Context(), queue.Filter{}, queue.Entry{}, 100)
	if err != nil {
		h.t.Fatal(err)
	}
	return all
}

var decisionRE = regexp.MustCompile(`moderate-[a-z2-7]{32}@corp\.example`)

// ask sends a message of a stranger to the list and returns the address to answer
// to, as carol finds it.
func (h *moderated) ask() string {
	h.t.Helper()
	if _, err := h.send(nil, "ann@example.net", []string{"asked@corp.example"}, plain); err != nil {
		h.t.Fatal(err)
	}
	h.work()
	got := h.inbox("carol")
	if len(got) == 0 {
		h.t.Fatal("carol was not asked")
	}
	return decisionRE.FindString(got[len(got)-1])
}

func answer(from, text string) string {
	return "From: " + from + "\r\nSubject: Re: Please decide: hello\r\n\r\n" + text + "\r\n"
}

// A question has the message in it, says how to answer, and causes no answers by
// machines.
func TestModerationQuestion(t *testing.T) {
	h := newModerated(t)
	to := h.ask()
	got := h.inbox("carol")[0]
	for _, want := range []string{
		"Return-Path: <>\r\n", "From: \"Moderation of asked@corp.example\"\r\n <" + to + ">\r\n", "Subject: Please decide: hello\r\n", "Auto-Submitted: auto-generated\r\n",
		"X-Dirpost-Moderation: asked@corp.example\r\n", "From:    Ann <ann@example.net>", "Came:    from outside", "mailto:" + to + "?subject=reject",
		"Content-Type: message/rfc822\r\n", "\r\n\r\n" + "Received: from client.example.net", plain,
	} {
		if !strings.Contains(got, want) {
			t.Errorf("the question lacks %q:\n%s", want, got)
		}
	}
	rows := h.rows()
	if len(rows) != 2 || rows[0].State != queue.StateHeld || rows[0].Recipient.Reason == "" || rows[1].Recipient.Address.String() != "friend@far.example" {
		t.Errorf("queue: %+v", rows)
	}
	if len(h.inbox("bob")) != 0 || len(h.inbox("dan")) != 0 {
		t.Error("somebody has it already")
	}
}

func TestModerationApprove(t *testing.T) {
	h := newModerated(t)
	to := h.ask()
	if _, err := h.send(h.as("carol"), "carol@corp.example", []string{to}, answer("carol@corp.example", "Approve")); err != nil {
		t.Fatal(err)
	}
	h.work()
	got := h.inbox("bob")
	if len(got) != 1 || !strings.HasSuffix(got[0], plain) || !strings.HasPrefix(got[0], "Return-Path: <asked-owner@corp.example>\r\n") || !strings.Contains(got[0], "List-Post: <mailto:asked@corp.example> (moderated)\r\n") {
		t.Errorf("%s", got)
	}
	// The first answer counts.
	for _, id := range []string{"carol", "dan"} {
		_, err := h.send(h.as(id), id+"@corp.example", []string{to}, answer(id+"@corp.example", "Reject"))
		if st := envelope.StatusOf(err); st.Code != 550 || !strings.Contains(st.Text, "approved") {
			t.Errorf("%s answers too late: %v", id, err)
		}
	}
}

func TestModerationReject(t *testing.T) {
	h := newModerated(t)
	to := h.ask()
	if _, err := h.send(nil, "friend@far.example", []string{to}, answer("friend@far.example", "reject: Please ask\r\nyour boss.\r\n> quoted")); err != nil {
		t.Fatal(err)
	}
	h.work()
	if len(h.inbox("bob")) != 0 {
		t.Error("bob has it")
	}
	e := h.rows()[0]
	if e.State != queue.StateFinal || e.Last.Text != "Please ask your boss." || e.Last.Relay != queue.RelayModerator || e.ReversePath != "ann@example.net" {
		t.Errorf("held recipient: %+v", e)
	}
}

// Who may answer, and how.
func TestModerationRefuses(t *testing.T) {
	h := newModerated(t)
	to := h.ask()
	auto := "Auto-Submitted: auto-replied\r\n"
	for name, tt := range map[string]struct {
		id, from, to, text string
		code               string
	}{
		"a stranger":                  {"", "ann@example.net", to, answer("ann@example.net", "approve"), "5.7.1"},
		"in the name of a moderator":  {"", "carol@corp.example", to, answer("carol@corp.example", "approve"), "5.7.1"},
		"a member":                    {"bob", "bob@corp.example", to, answer("bob@corp.example", "approve"), "5.7.1"},
		"with the null reverse-path":  {"", "", to, answer("friend@far.example", "approve"), "5.7.1"},
		"without a word":              {"carol", "carol@corp.example", to, answer("carol@corp.example", "What is this?"), "5.6.0"},
		"a machine":                   {"carol", "carol@corp.example", to, auto + answer("carol@corp.example", "approve"), "5.7.2"},
		"a machine outside":           {"", "friend@far.example", to, auto + answer("friend@far.example", "approve"), "5.7.2"},
		"a token that does not exist": {"carol", "carol@corp.example", strings.Replace(to, "moderate-", "moderate-a", 1)[:41] + "@corp.example", answer("carol@corp.example", "approve"), "5.1.1"},
		"the question sent back":      {"", "friend@far.example", to, "X-Dirpost-Moderation: asked@corp.example\r\n" + answer("friend@far.example", "approve"), "5.7.2"},
	} {
		var err error
		if tt.id != "" {
			_, err = h.send(h.as(tt.id), tt.from, []string{tt.to}, tt.text)
		} else {
			_, err = h.send(nil, tt.from, []string{tt.to}, tt.text)
		}
		if got := envelope.StatusOf(err).Enhanced; err == nil || got != tt.code {
			t.Errorf("%s: %v, want %s", name, err, tt.code)
		}
	}
	if e := h.rows()[0]; e.State != queue.StateHeld {
		t.Errorf("held recipient: %+v", e)
	}
}

// What a machine has written is not held, so that questions are not about questions.
func TestModerationNoLoop(t *testing.T) {
	h := newModerated(t)
	for name, tt := range map[string]struct{ from, head string }{
		"a report":                 {"", ""},
		"an automatic answer":      {"ann@example.net", "Auto-Submitted: auto-replied (vacation)\r\n"},
		"a question, forwarded to": {"carol@corp.example", "X-Dirpost-Moderation: asked@corp.example\r\n"},
	} {
		if _, err := h.send(nil, tt.from, []string{"asked@corp.example"}, tt.head+plain); envelope.StatusOf(err).Enhanced != "5.7.2" {
			t.Errorf("%s: %v, want 550 5.7.2", name, err)
		}
	}
	if n := len(h.rows()); n != 0 {
		t.Errorf("%d rows in the queue", n)
	}
	// A program's own mail is asked about.
	if _, err := h.send(nil, "cron@example.net", []string{"asked@corp.example"}, "Auto-Submitted: auto-generated\r\n"+plain); err != nil {
		t.Error(err)
	}
	if n := len(h.rows()); n != 3 {
		t.Errorf("%d rows in the queue, want the held one and two questions", n)
	}
}

// The moderator's answer may have other recipients; all of it happens or nothing.
func TestModerationWithCopy(t *testing.T) {
	h := newModerated(t)
	to := h.ask()
	if _, err := h.send(h.as("carol"), "carol@corp.example", []string{to, "alice@corp.example"}, answer("carol@corp.example", "What?")); envelope.StatusOf(err).Code != 550 {
		t.Errorf("no decision: %v", err)
	}
	if len(h.inbox("alice")) != 0 {
		t.Error("alice has the copy of an answer that was refused")
	}
	if _, err := h.send(h.as("carol"), "carol@corp.example", []string{to, "alice@corp.example"}, answer("carol@corp.example", "yes")); err != nil {
		t.Fatal(err)
	}
	h.work()
	if len(h.inbox("alice")) != 1 || len(h.inbox("bob")) != 1 {
		t.Errorf("alice has %d, bob %d, want 1 each", len(h.inbox("alice")), len(h.inbox("bob")))
	}
}

// Several lists at once: a question for each.
func TestModerationTwoLists(t *testing.T) {
	h := newModerated(t)
	e := *h.Directory.Snapshot().ByKey("test:asked")
	second := group("second", func(x *directory.Entry) {
		x.Policy, x.Members, x.Moderators = e.Policy, []string{"cn=alice"}, []string{"cn=dan"}
	})
	h.Directory.Apply(2, []directory.Change{{Key: second.Key, Entry: second}})
	if _, err := h.send(nil, "ann@example.net", []string{"alice@corp.example", "asked@corp.example", "second@corp.example"}, plain); err != nil {
		t.Fatal(err)
	}
	h.work()
	to := decisionRE.FindString(h.inbox("dan")[0])
	if _, err := h.send(h.as("dan"), "dan@corp.example", []string{to}, answer("dan@corp.example", "no")); err != nil {
		t.Fatal(err)
	}
	for _, e := range h.rows() {
		want := queue.StateHeld
		if e.Recipient.Address.Local == "second" {
			want = queue.StateFinal
		}
		if e.Recipient.Local == queue.LocalExpand && e.State != want {
			t.Errorf("%s is %s, want %s", e.Recipient.Address, e.State, want)
		}
	}
	if len(h.inbox("alice")) != 1 {
		t.Error("alice, who was addressed herself, has to wait")
	}
}

// Nobody answers.
func TestModerationExpires(t *testing.T) {
	h := newModerated(t)
	h.cfg.ModerationTime = -time.Second
	to := h.ask()
	if n, err := h.q.ReturnUnanswered(t.Context()); err != nil || n != 1 {
		t.Fatal(n, err)
	}
	if e := h.rows()[0]; e.State != queue.StateFinal || e.Last.Enhanced != "5.7.2" {
		t.Errorf("%+v", e)
	}
	_, err := h.send(h.as("carol"), "carol@corp.example", []string{to}, answer("carol@corp.example", "approve"))
	if st := envelope.StatusOf(err); !strings.Contains(st.Text, "nobody had answered") {
		t.Errorf("too late: %v", err)
	}
}
