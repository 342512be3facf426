package directory

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"dirpost/internal/envelope"
)

func TestExpand(t *testing.T) {
	t.Parallel()
	s := corp(t)
	tests := []struct {
		name   string
		sender string // "": from outside
		rcpts  string
		want   string // sorted: name[+detail][<path], >address[@nexthop], held:name, code:address
	}{
		{"one", "", "alice", "alice"},
		{"twice", "", "alice a.example", "alice"},
		{"subaddress", "", "alice+x", "alice+x"},
		{"list with a nested one and a circle", "", "sales", "alice<sales bob<sales carol<sales/emea-sales wangwei<sales/emea-sales"},
		{"a mailbox addressed itself wins", "", "sales bob", "alice<sales bob carol<sales/emea-sales wangwei<sales/emea-sales"},
		{"internal list from outside", "", "emea-sales", "550:emea-sales"},
		{"internal list from a colleague", "dave", "emea-sales", "alice<emea-sales/sales bob<emea-sales/sales carol<emea-sales wangwei<emea-sales"},
		{"moderated", "", "asked", "held:asked"},
		{"moderated from the moderator", "carol", "asked", "bob<asked"},
		{"empty list", "", "empty", "550:empty"},
		{"list of those that are gone", "", "dead", "550:dead"},
		{"everything at once", "", "mixed", ">Partner@other.example<mixed >guest@other.example<mixed >old@corp.example%exchange.corp.example<mixed >x@far.example<mixed alice+list<mixed bob<mixed/copier copier<mixed dave<mixed held:held<mixed office<mixed"},
		{"forward", "", "mover", ">mover@other.example<mover"},
		{"forward with a copy", "", "copier", "bob<copier copier"},
		{"forwards in a circle", "", "ping", "pong<ping"},
		{"forwards in a circle, both addressed", "", "ping pong", "pong<ping"},
		{"forward to nobody stays", "", "lost", "lost"},
		{"held", "", "held", "held:held"},
		{"delivery disabled", "", "left", "550:left"},
		{"nobody", "", "nobody alice", "550:nobody alice"},
		{"twins", "", "twin", "451:twin"},
		{"not ours", "", "x@far.example X@far.example x@far.example", ">X@far.example >x@far.example"},
		{"elsewhere and by list once", "", "old mixed", ">Partner@other.example<mixed >guest@other.example<mixed >old@corp.example%exchange.corp.example >x@far.example<mixed alice+list<mixed bob<mixed/copier copier<mixed dave<mixed held:held<mixed office<mixed"},
		{"lists in a ring, the dead half addressed too", "", "ring1 ring2", "alice<ring1"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			rcpts := recipients(tt.rcpts)
			want := strings.Fields(tt.want)
			slices.Sort(want)
			got := describe(s.Expand(rcpts, Terms{Sender: s.ByLogin(tt.sender)}))
			if !slices.Equal(got, want) {
				t.Errorf("Expand(%s)\n got %v\nwant %v", tt.rcpts, got, want)
			}
		})
	}
}

// recipients are addresses, of our domain where they name none.
func recipients(list string) []envelope.Recipient {
	var rcpts []envelope.Recipient
	for _, r := range strings.Fields(list) {
		if !strings.Contains(r, "@") {
			r += "@corp.example"
		}
		rcpts = append(rcpts, envelope.Recipient{Address: addr(r)})
	}
	return rcpts
}

// describe writes an expansion as the table of TestExpand does.
func describe(x Expansion) []string {
	name := func(k Key) string { return strings.TrimPrefix(string(k), "test:") }
	path := func(keys []Key) string {
		var out []string
		for _, k := range keys {
			out = append(out, name(k))
		}
		if len(out) == 0 {
			return ""
		}
		return "<" + strings.Join(out, "/")
	}
	var out []string
	for _, r := range x.Local {
		detail := ""
		if r.Detail != "" {
			detail = "+" + r.Detail
		}
		out = append(out, name(r.Entry.Key)+detail+path(r.Path))
	}
	for _, r := range x.Remote {
		hop := ""
		if r.NextHop != "" {
			hop = "%" + r.NextHop
		}
		out = append(out, ">"+r.Recipient.Address.String()+hop+path(r.Path))
	}
	for _, r := range x.Held {
		out = append(out, "held:"+name(r.Entry.Key)+path(r.Path))
	}
	for _, r := range x.Refused {
		out = append(out, fmt.Sprintf("%d:%s", r.Status.Code, r.Recipient.Address.Local))
	}
	slices.Sort(out)
	return out
}

// The address that the sender knew survives lists and forwards (RFC 3461 §4.2).
func TestExpandKeepsOriginal(t *testing.T) {
	t.Parallel()
	s := corp(t)
	x := s.Expand([]envelope.Recipient{
		{Address: addr("mover@corp.example"), Notify: envelope.NotifyFailure},
		{Address: addr("sales@corp.example"), Original: "sales@brand.example", OriginalType: "rfc822"},
	}, Terms{})
	if r := x.Remote[0].Recipient; r.Original != "mover@corp.example" || r.Notify != envelope.NotifyFailure {
		t.Errorf("forwarded: %+v", r)
	}
	for _, l := range x.Local {
		if l.Recipient.Original != "sales@brand.example" || l.Recipient.Address != addr("sales@corp.example") {
			t.Errorf("member: %+v", l.Recipient)
		}
	}
}

// RFC 3461 §5.2.7: of a list the sender hears that it was expanded, and of its
// members only what goes wrong; of a forward one copy answers for it.
func TestExpandNotify(t *testing.T) {
	t.Parallel()
	s := corp(t)
	const (
		success = envelope.NotifySuccess
		failure = envelope.NotifyFailure
		both    = success | failure
	)
	tests := []struct {
		name, rcpts string
		notify      envelope.Notify
		want        string // name=NOTIFY of each copy, list:name of what was expanded
	}{
		{"mailbox", "alice", both, "alice=6"},
		{"list", "sales", both, "alice=4 bob=4 carol=4 list:sales wangwei=4"},
		{"list, success alone", "sales", success, "alice=1 bob=1 carol=1 list:sales wangwei=1"},
		{"list, failure alone", "sales", failure, "alice=4 bob=4 carol=4 wangwei=4"},
		{"list, default", "sales", 0, "alice=0 bob=0 carol=0 wangwei=0"},
		{"list and one of its members", "sales bob", both, "alice=4 bob=6 carol=4 list:sales wangwei=4"},
		{"list with members elsewhere and one who forwards", "mixed", success, "Partner@other.example=1 alice=1 bob=1 copier=1 dave=1 guest@other.example=1 list:mixed office=1 old@corp.example=1 x@far.example=1"},
		{"empty list", "empty", both, ""},
		{"forward", "mover", both, "mover@other.example=6"},
		{"forward with a copy", "copier", both, "bob=4 copier=6"},
		{"forwards in a circle", "ping", both, "pong=6"},
		{"forward to nobody", "lost", both, "lost=6"},
		{"contact", "partner", both, "Partner@other.example=6"},
	}
	for _, tt := range tests {
		rcpts := recipients(tt.rcpts)
		for i := range rcpts {
			rcpts[i].Notify = tt.notify
		}
		x := s.Expand(rcpts, Terms{})
		var got []string
		for _, r := range x.Local {
			got = append(got, fmt.Sprintf("%s=%d", strings.TrimPrefix(string(r.Entry.Key), "test:"), r.Recipient.Notify))
		}
		for _, r := range x.Remote {
			got = append(got, fmt.Sprintf("%s=%d", r.Recipient.Address, r.Recipient.Notify))
		}
		for _, r := range x.Expanded {
			got = append(got, "list:"+r.Recipient.Address.Local)
		}
		slices.Sort(got)
		if got := strings.Join(got, " "); got != tt.want {
			t.Errorf("%s:\n got %s\nwant %s", tt.name, got, tt.want)
		}
	}
}

// What was held for the moderators goes to the members once it is released.
func TestExpandReleased(t *testing.T) {
	list := entry(KindList, "list", func(e *Entry) { e.Policy, e.Members, e.Owners = ListModerated, dns("bob"), dns("carol") })
	s := NewSnapshot([]string{"corp.example"}, []*Entry{list, person("bob"), person("carol")})
	to := []envelope.Recipient{{Address: addr("list@corp.example")}}
	if x := s.Expand(to, Terms{}); len(x.Held) != 1 || len(x.Local) != 0 {
		t.Fatalf("from outside: %+v, want held", x)
	}
	if x := s.Expand(to, Terms{Released: true}); len(x.Held) != 0 || len(x.Local) != 1 || x.Local[0].Entry.DN != dn("bob") {
		t.Errorf("released: %+v, want bob", x)
	}
}

// LIST-owner@ and its like reach the owners, and bounces of a list go there.
func TestOwners(t *testing.T) {
	t.Parallel()
	owned := func(name string, owners ...string) *Entry {
		return entry(KindList, name, func(e *Entry) { e.Policy, e.Members, e.Owners = ListOpen, dns("alice"), dns(owners...) })
	}
	s := NewSnapshot([]string{"corp.example"}, []*Entry{
		person("alice"), person("bob"), person("carol"), person("postmaster"), entry(KindPerson, "left", func(e *Entry) { e.Delivery = StateDisabled }),
		list("staff", ListOwners, "bob", "carol"),
		owned("sales", "bob", "staff"), owned("orphan"), owned("dead", "left"), owned("taken"), owned("old"), owned("self", "self"),
		person("taken-owner"), person("owner-old"),
		entry(KindList, "brand", func(e *Entry) {
			e.Primary, e.Aliases = addr("brand@other.example"), addrs("brand@corp.example")
			e.Policy, e.Members, e.Owners = ListOpen, dns("alice"), dns("bob")
		}),
	})
	s.rules.Postmaster = addr("postmaster@corp.example")
	for rcpt, want := range map[string]string{
		"sales-owner": "bob carol", "owner-sales": "bob carol", "Sales-Owner": "bob carol", "sales-request": "bob carol",
		"orphan-owner": "postmaster", "dead-owner": "451:dead-owner", "taken-owner": "taken-owner", "owner-old": "owner-old", "old-owner": "postmaster",
		"self-owner": "alice", "brand-owner": "bob",
		"alice-owner": "550:alice-owner", "nobody-owner": "550:nobody-owner", "-owner": "550:-owner", "owner-": "550:owner-",
		"sales-owner alice sales": "alice bob carol",
	} {
		if got := strings.Join(describe(s.Expand(recipients(rcpt), Terms{})), " "); got != want {
			t.Errorf("%s: %s, want %s", rcpt, got, want)
		}
	}
	for name, want := range map[string]string{
		"sales": "sales-owner@corp.example", "orphan": "", "dead": "dead-owner@corp.example", "taken": "taken-owner@corp.example",
		"old": "owner-old@corp.example", "brand": "brand-owner@corp.example",
	} {
		a, ok := s.OwnerAddress(s.ByKey(Key("test:" + name)))
		if ok != (want != "") || ok && a.String() != want {
			t.Errorf("owner address of %s: %s %v, want %q", name, a, ok, want)
		}
	}
}

// Each copy knows the list that was addressed, whatever lists are inside it.
func TestExpandNamesTheList(t *testing.T) {
	t.Parallel()
	s := corp(t)
	x := s.Expand(recipients("sales bob mover"), Terms{})
	for _, r := range x.Local {
		want := Key("test:sales")
		if r.Entry.Key == "test:bob" {
			want = ""
		}
		if got := r.List; got == nil && want != "" || got != nil && got.Key != want {
			t.Errorf("%s came by %v, want %q", r.Entry.Key, got, want)
		}
	}
	if x.Remote[0].List != nil {
		t.Error("a forward is no list")
	}
}

// A list that a message comes back to is not expanded again.
func TestExpandLoops(t *testing.T) {
	t.Parallel()
	s := corp(t)
	for name, tt := range map[string]struct {
		rcpts string
		terms Terms
		want  string
	}{
		"delivered to it before":         {"sales", Terms{Been: addrs("SALES@corp.example")}, "554:sales"},
		"to another":                     {"sales", Terms{Been: addrs("members@corp.example")}, "alice<sales bob<sales carol<sales/emea-sales wangwei<sales/emea-sales"},
		"to the list inside":             {"sales", Terms{Been: addrs("emea-sales@corp.example")}, "alice<sales bob<sales"},
		"from its owner, from outside":   {"asked", Terms{From: envelope.ReversePathOf(addr("asked-owner@corp.example"))}, "554:asked"},
		"from its owner, a colleague":    {"asked", Terms{From: envelope.ReversePathOf(addr("asked-owner@corp.example")), Sender: s.ByLogin("carol")}, "bob<asked"},
		"from the owner of another list": {"sales", Terms{From: envelope.ReversePathOf(addr("asked-owner@corp.example"))}, "alice<sales bob<sales carol<sales/emea-sales wangwei<sales/emea-sales"},
	} {
		if got := strings.Join(describe(s.Expand(recipients(tt.rcpts), tt.terms)), " "); got != tt.want {
			t.Errorf("%s: %s, want %s", name, got, tt.want)
		}
	}
}

func TestDecisionToken(t *testing.T) {
	t.Parallel()
	token := "abcdefghijklmnopqrstuvwxyz234567"
	s := corp(t)
	a := DecisionAddress(token, "corp.example")
	if r := s.Resolve(a); r.Home != HomeDecision || r.Detail != token || !r.OK() {
		t.Errorf("Resolve(%s) = %+v", a, r)
	}
	if x := s.Expand([]envelope.Recipient{{Address: a}}, Terms{}); len(describe(x)) != 0 {
		t.Errorf("somebody gets it: %v", describe(x))
	}
	for _, local := range []string{"moderate-", "moderate-" + token[1:], "moderate-" + token + "2", "moderate-" + strings.Replace(token, "a", "1", 1), token} {
		if r := s.Resolve(addr(local + "@corp.example")); r.Home != HomeNobody {
			t.Errorf("Resolve(%s) = %v", local, r.Home)
		}
	}
	if r := s.Resolve(DecisionAddress(token, "far.example")); r.Home != HomeNotOurs {
		t.Errorf("of another domain: %v", r.Home)
	}
}

// A person too may have somebody who may not write to them.
func TestExpandBarred(t *testing.T) {
	t.Parallel()
	s := NewSnapshot([]string{"corp.example"}, []*Entry{
		person("alice"), person("bob"), person("carol"), list("noisy", ListOpen, "bob"),
		entry(KindPerson, "boss", func(e *Entry) { e.Barred = dns("noisy") }),
		list("all", ListOpen, "boss", "carol"),
		entry(KindPerson, "chief", func(e *Entry) { e.Allowed = dns("noisy") }),
		entry(KindRoom, "room", func(e *Entry) { e.NoStrangers = true }),
		list("others", ListOpen, "chief", "room"),
	})
	for _, tt := range []struct{ sender, rcpts, want string }{
		{"bob", "chief", "chief"}, {"alice", "chief", "550:chief"}, {"", "chief", "550:chief"}, {"chief", "chief", "chief"},
		{"alice", "room", "room"}, {"", "room", "550:room"}, {"", "others", "chief<others room<others"},
		{"bob", "boss", "550:boss"}, {"bob", "boss carol", "550:boss carol"}, {"alice", "boss", "boss"}, {"", "boss", "boss"},
		{"bob", "all", "boss<all carol<all"}, // by a list, as everybody's mail
	} {
		if got := strings.Join(describe(s.Expand(recipients(tt.rcpts), Terms{Sender: s.ByLogin(tt.sender)})), " "); got != tt.want {
			t.Errorf("%s to %s: %s, want %s", tt.sender, tt.rcpts, got, tt.want)
		}
	}
}
