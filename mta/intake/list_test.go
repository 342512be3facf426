package intake

import (
	"context"
	"errors"
	"strings"
	"testing"

	"dirpost/directory"
	"dirpost/internal/envelope"
	"dirpost/internal/postgres"
	"dirpost/mta/queue"
)

// group is a list called name@corp.example.
func group(name string, f func(*directory.Entry)) *directory.Entry {
	return person(name, func(e *directory.Entry) {
		e.Kind, e.Logins, e.Policy, e.DisplayName = directory.KindList, nil, directory.ListOpen, ""
		if f != nil {
			f(e)
		}
	})
}

// listHouse has the list sales@ of alice, bob and somebody outside, whose owner is
// carol, and the list free@ without owner.
func listHouse(t *testing.T) *house {
	return newHouse(t, person("alice", nil), person("bob", nil), person("carol", nil),
		group("sales", func(e *directory.Entry) {
			e.Members, e.Owners, e.DisplayName = []string{"cn=alice", "cn=bob"}, []string{"cn=carol"}, "Sales, all of it"
			e.ExternalMembers = []envelope.Address{{Local: "x", Domain: "far.example"}}
		}),
		group("free", func(e *directory.Entry) { e.Members = []string{"cn=alice"} }),
		group("bulletin", func(e *directory.Entry) {
			e.Members, e.Owners, e.Policy = []string{"cn=alice"}, []string{"cn=carol"}, directory.ListOwners
		}))
}

// What a list changes stands at the top: bounces go to its owner, fields say which
// list it was, and everything below is as it came (RFC 5321 §3.9.2, RFC 2369,
// RFC 2919).
func TestListCopy(t *testing.T) {
	h := listHouse(t)
	if _, err := h.send(nil, "ann@example.net", []string{"sales@corp.example", "carol@corp.example"}, plain); err != nil {
		t.Fatal(err)
	}
	const fields = "Delivered-To: sales@corp.example\r\n" +
		"List-Id: \"Sales, all of it\" <sales.corp.example>\r\n" +
		"List-Post: <mailto:sales@corp.example>\r\n" +
		"List-Owner: <mailto:sales-owner@corp.example>\r\n" +
		"Precedence: list\r\n"
	got := h.inbox("alice")
	if len(got) != 1 || !strings.HasPrefix(got[0], "Return-Path: <sales-owner@corp.example>\r\nDelivered-To: alice@corp.example\r\n"+fields+"Received: ") || !strings.HasSuffix(got[0], "\r\n"+plain) {
		t.Errorf("copy of a member:\n%s", got)
	}
	if got := h.inbox("carol"); len(got) != 1 || !strings.HasPrefix(got[0], "Return-Path: <ann@example.net>\r\nDelivered-To: carol@corp.example\r\nReceived: ") {
		t.Errorf("copy of who was addressed:\n%s", got)
	}
	if len(h.queue.messages) != 1 || len(h.queue.rcpts) != 1 {
		t.Fatalf("queue: %v %v", h.queue.messages, h.queue.rcpts)
	}
	m, r := h.queue.messages[0], h.queue.rcpts[0]
	if m.ReversePath.String() != "sales-owner@corp.example" || m.Origin.String() != "ann@example.net" || !strings.HasPrefix(string(m.Header), fields+"Received: ") {
		t.Errorf("outgoing: from %s, given %s\n%s", m.ReversePath, m.Origin, m.Header)
	}
	if r.Address.String() != "x@far.example" || r.Original != "sales@corp.example" || r.Notify != 0 || r.OriginalType != "" {
		t.Errorf("outgoing recipient %+v", r)
	}
}

func TestListReversePath(t *testing.T) {
	for name, tt := range map[string]struct {
		from, to string
		want     string // Return-Path
		lacks    string
	}{
		"no owner: the author":         {"ann@example.net", "free", "ann@example.net", "List-Owner"},
		"null stays null":              {"", "sales", "", "Return-Path: <sales"},
		"a colleague's bounces go too": {"bob@corp.example", "sales", "sales-owner@corp.example", "Return-Path: <bob"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := listHouse(t)
			if _, err := h.send(nil, tt.from, []string{tt.to + "@corp.example"}, plain); err != nil {
				t.Fatal(err)
			}
			got := h.inbox("alice")
			if len(got) != 1 || !strings.HasPrefix(got[0], "Return-Path: <"+tt.want+">\r\n") || strings.Contains(got[0], tt.lacks) || !strings.Contains(got[0], "\r\nList-Id: ") {
				t.Errorf("%s", got)
			}
		})
	}
}

// Fields of another list are kept, with what a signature may cover.
func TestListKeepsFieldsOfOthers(t *testing.T) {
	h := listHouse(t)
	foreign := "List-Id: <talk.example.net>\r\nPrecedence: bulk\r\n" + plain
	if _, err := h.send(nil, "talk-bounces@example.net", []string{"sales@corp.example"}, foreign); err != nil {
		t.Fatal(err)
	}
	got := h.inbox("alice")[0]
	if strings.Count(got, "List-Id:") != 1 || strings.Contains(got, "List-Post:") || strings.Count(got, "Precedence:") != 1 || !strings.HasSuffix(got, foreign) {
		t.Errorf("%s", got)
	}
}

func TestListFields(t *testing.T) {
	t.Parallel()
	a := envelope.Address{Local: "王伟 & co", Domain: "corp.example"}
	e := &directory.Entry{Key: "corp:00112233-4455", Policy: directory.ListOwners, DisplayName: "王伟"}
	if got, want := listID(e, a), "=?utf-8?b?546L5Lyf?= <00112233-4455.corp.example>"; got != want {
		t.Errorf("listID = %s, want %s", got, want)
	}
	if got, want := mailtoURL(a), "<mailto:%E7%8E%8B%E4%BC%9F%20%26%20co@corp.example>"; got != want {
		t.Errorf("mailtoURL = %s, want %s", got, want)
	}
	if got := listPost(e, a); got != "NO" {
		t.Errorf("listPost = %s", got)
	}
	e.Policy = directory.ListModerated
	if got := listPost(e, envelope.Address{Local: "a", Domain: "b.example"}); got != "<mailto:a@b.example> (moderated)" {
		t.Errorf("listPost = %s", got)
	}
}

// A client that repeats because it did not hear our 250 gives nobody a second copy,
// by list or not, and neither does mail to a list and to its member apart.
func TestListRepeat(t *testing.T) {
	h := listHouse(t)
	for _, to := range []string{"sales@corp.example", "sales@corp.example", "alice@corp.example", "free@corp.example"} {
		if _, err := h.send(nil, "ann@example.net", []string{to}, plain); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"alice", "bob"} {
		if n := len(h.inbox(name)); n != 1 {
			t.Errorf("%s has %d copies", name, n)
		}
	}
}

// The same holds where the queue delivers what was not delivered at once.
func TestListRepeatFromQueue(t *testing.T) {
	h := listHouse(t)
	h.cfg.InTransaction = 1
	for range 2 {
		if _, err := h.send(nil, "ann@example.net", []string{"sales@corp.example"}, plain); err != nil {
			t.Fatal(err)
		}
	}
	for i, m := range h.queue.messages {
		var local []queue.Recipient
		for _, r := range h.queue.rcpts[2*i : 2*i+2] {
			if r.Local != "" {
				local = append(local, r)
			}
		}
		if err := h.DeliverQueued(t.Context(), m, local, func(context.Context, postgres.Tx, []queue.Onward) error { return nil }); err != nil {
			t.Fatal(err)
		}
	}
	// A copy to bob himself, who has it by the queue.
	h.cfg.InTransaction = 50
	if _, err := h.send(nil, "ann@example.net", []string{"bob@corp.example"}, plain); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"alice", "bob"} {
		got := h.inbox(name)
		if len(got) != 1 || !strings.HasPrefix(got[0], "Return-Path: <sales-owner@corp.example>\r\n") || strings.Count(got[0], "List-Id:") != 1 {
			t.Errorf("%s has %d copies:\n%s", name, len(got), got)
		}
	}
}

// A message that a member's address sends back ends (RFC 5321 §6.3).
func TestListLoop(t *testing.T) {
	h := listHouse(t)
	if _, err := h.send(nil, "ann@example.net", []string{"sales@corp.example"}, plain); err != nil {
		t.Fatal(err)
	}
	back := string(h.queue.messages[0].Header) + "Hello Bob.\r\n"
	for name, from := range map[string]string{"as it left": "sales-owner@corp.example", "with another reverse-path": "x@far.example"} {
		if _, err := h.send(nil, from, []string{"sales@corp.example"}, back); envelope.StatusOf(err).Enhanced != "5.4.6" {
			t.Errorf("%s: %v, want a loop", name, err)
		}
	}
	if _, err := h.send(nil, "sales-owner@corp.example", []string{"sales@corp.example"}, plain); envelope.StatusOf(err).Enhanced != "5.4.6" {
		t.Errorf("without trace: %v, want a loop", err)
	}
	if n := len(h.inbox("alice")); n != 1 {
		t.Errorf("alice has %d copies", n)
	}
	// A person may send on what came by a list.
	if _, err := h.send(h.as("alice"), "alice@corp.example", []string{"free@corp.example"}, strings.Replace(back, "ann@example.net", "alice@corp.example", 1)); err != nil {
		t.Errorf("resent by a person: %v", err)
	}
}

// LIST-owner@ is an address like any other; what is not the owners' is not taken.
func TestListOwnerAddress(t *testing.T) {
	h := listHouse(t)
	if _, err := h.send(nil, "", []string{"sales-owner@corp.example"}, plain); err != nil {
		t.Fatal(err)
	}
	if got := h.inbox("carol"); len(got) != 1 || !strings.Contains(got[0], "Delivered-To: carol@corp.example\r\nReceived:") {
		t.Errorf("%s", got)
	}
	if _, err := h.send(nil, "", []string{"alice-owner@corp.example"}, plain); !errors.Is(err, envelope.ErrNotFound) && envelope.StatusOf(err).Code != 550 {
		t.Errorf("owner of no list: %v", err)
	}
	if _, err := h.send(nil, "ann@example.net", []string{"bulletin@corp.example"}, plain); envelope.StatusOf(err).Enhanced != "5.7.2" {
		t.Errorf("bulletin from a stranger: %v", err)
	}
	if _, err := h.send(h.as("carol"), "carol@corp.example", []string{"bulletin@corp.example"}, strings.Replace(plain, "ann@example.net", "carol@corp.example", 1)); err != nil {
		t.Errorf("bulletin from the owner: %v", err)
	}
	if got := h.inbox("alice"); len(got) != 1 || !strings.Contains(got[0], "\r\nList-Post: NO\r\n") {
		t.Errorf("bulletin: %s", got)
	}
}
