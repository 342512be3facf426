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
			got := describe(s.Expand(rcpts, s.ByLogin(tt.sender)))
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
	}, nil)
	if r := x.Remote[0].Recipient; r.Original != "mover@corp.example" || r.Notify != envelope.NotifyFailure {
		t.Errorf("forwarded: %+v", r)
	}
	for _, l := range x.Local {
		if l.Recipient.Original != "sales@brand.example" || l.Recipient.Address != addr("sales@corp.example") {
			t.Errorf("member: %+v", l.Recipient)
		}
	}
}

// What was held for the moderators goes to the members once it is released.
func TestExpandReleased(t *testing.T) {
	list := entry(KindList, "list", func(e *Entry) { e.Policy, e.Members, e.Owners = ListModerated, dns("bob"), dns("carol") })
	s := NewSnapshot([]string{"corp.example"}, []*Entry{list, person("bob"), person("carol")})
	to := []envelope.Recipient{{Address: addr("list@corp.example")}}
	if x := s.Expand(to, nil); len(x.Held) != 1 || len(x.Local) != 0 {
		t.Fatalf("from outside: %+v, want held", x)
	}
	if x := s.ExpandReleased(to); len(x.Held) != 0 || len(x.Local) != 1 || x.Local[0].Entry.DN != dn("bob") {
		t.Errorf("released: %+v, want bob", x)
	}
}
