package queue

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"dirpost/internal/postgres"
)

// waitingWorld is a queue in which somebody waits in every way.
func waitingWorld(t *testing.T) *Queue {
	t.Helper()
	q := newQueue(t)
	one := func(address string, change func(*Recipient)) Recipient {
		r := to(t, address)[0]
		change(&r)
		return r
	}
	there := func(person string) func(*Recipient) {
		return func(r *Recipient) { r.NextHop, r.Person = "exchange.example:25", person }
	}
	enqueue(t, q,
		one("alice@corp.example", func(r *Recipient) { r.Local = "corp:1" }),
		one("held@corp.example", func(r *Recipient) { r.Local, r.Held, r.Reason = "corp:2", true, HeldByDirectory }),
		one("list@corp.example", func(r *Recipient) { r.Local = LocalExpand }),
		one("outside@far.example", func(*Recipient) {}),
		one("byhand@corp.example", func(r *Recipient) { r.Local, r.Held, r.Reason = "corp:2", true, "by hand" }))
	enqueue(t, q,
		one("bob@corp.example", there("corp:3")),
		one("New.Person@corp.example", there("")),
		one("New.Person+Detail@corp.example", there("")),
		one("new.personal@corp.example", there("")),
		one("new.person@other.example", there("")),
		one("other@corp.example", there("")))
	settleAll(t, q, Deferred, time.Hour, claim(t, q, Claim{})...)
	return q
}

func addressesOf(all []Waiting) string {
	var out []string
	for _, w := range all {
		text := w.Recipient.Address.String() + " " + w.Recipient.Local + w.Recipient.Person + " " + w.Recipient.NextHop
		if w.Recipient.Held {
			text += "held"
		}
		out = append(out, strings.TrimSpace(text))
	}
	return strings.Join(out, "\n")
}

// TestWaiting: what waits is found by whom it waits for, and comes due when it is to
// be decided anew, and not behind others.
func TestWaiting(t *testing.T) {
	t.Parallel()
	q := waitingWorld(t)
	unknown := []Unknown{{Local: "new.person", Domain: "corp.example", Low: "new.person+", High: "new.person,"}, {Local: "x\x00", Domain: "corp.example"}}
	find := func(after Waiting, limit int) []Waiting {
		t.Helper()
		all, err := q.WaitingFor(t.Context(), []string{"corp:1", "corp:2", "corp:3", "", "corp:99"}, unknown, after, limit)
		if err != nil {
			t.Fatal(err)
		}
		return all
	}
	const want = "alice@corp.example corp:1\nheld@corp.example corp:2 held\nbob@corp.example corp:3 exchange.example:25\n" +
		"New.Person@corp.example  exchange.example:25\nNew.Person+Detail@corp.example  exchange.example:25"
	all := find(Waiting{}, 10)
	if got := addressesOf(all); got != want {
		t.Fatalf("found\n%s\nwant\n%s", got, want)
	}
	var paged []Waiting
	for page := find(Waiting{}, 2); len(page) > 0; page = find(page[len(page)-1], 2) {
		paged = append(paged, page...)
	}
	if got := addressesOf(paged); got != want {
		t.Errorf("page by page\n%s", got)
	}
	if all[0].Last != "4.0.0" || all[1].Last != "" {
		t.Errorf("last answers: %q, %q", all[0].Last, all[1].Last)
	}
	every, err := q.Waiting(t.Context(), Waiting{}, 100)
	if err != nil || len(every) != 8 || strings.Contains(addressesOf(every), "list@") || strings.Contains(addressesOf(every), "outside@") {
		t.Errorf("all: %v\n%s", err, addressesOf(every))
	}

	if n, err := q.Hasten(t.Context(), all[:4]); n != 4 || err != nil {
		t.Fatalf("%d made due, %v", n, err)
	}
	<-q.Woken()
	if n, err := q.Hasten(t.Context(), all[:4]); n != 0 || err != nil {
		t.Errorf("once more: %d, %v", n, err)
	}
	if n, err := q.Hasten(t.Context(), nil); n != 0 || err != nil {
		t.Errorf("nothing: %d, %v", n, err)
	}
	// The other system has no place now.
	var got []string
	for _, a := range claim(t, q, Claim{Skip: []string{">exchange.example:25"}}) {
		got = append(got, fmt.Sprintf("%s %q", a.Recipient.Address, a.Destination))
	}
	slices.Sort(got)
	if text := strings.Join(got, "\n"); text != "New.Person@corp.example \"<exchange.example:25\"\nalice@corp.example \"\"\nbob@corp.example \"<exchange.example:25\"\nheld@corp.example \"\"" {
		t.Errorf("claimed\n%s", text)
	}
	if n, err := q.Hasten(t.Context(), all); n != 1 || err != nil { // the last one: others are being tried
		t.Errorf("at last: %d, %v", n, err)
	}
}

// TestWaitingForIsFoundByIndex: a look costs the same however full the queue is.
func TestWaitingForIsFoundByIndex(t *testing.T) {
	t.Parallel()
	q := newQueue(t)
	for _, sql := range []string{
		`insert into outq (queue_id, next_at, n, shard, state, notify, destination, local_part, domain, original, original_type, local_key, next_hop)
		 select i, now() + interval '1 hour', 0, i % 64, 0, 0, '>exchange.example:25', 'p' || i, 'corp.example', '', '', case when i % 2 = 0 then 'corp:' || i else '' end, 'exchange.example:25'
		   from generate_series(1, 20000) as i`,
		`analyze outq`,
	} {
		if _, err := q.db.Exec(t.Context(), postgres.Background, sql); err != nil {
			t.Fatal(err)
		}
	}
	all, err := q.WaitingFor(t.Context(), []string{"corp:500"}, []Unknown{{Local: "p777", Domain: "corp.example", Low: "p777+", High: "p777,"}}, Waiting{}, 10)
	if err != nil || addressesOf(all) != "p500@corp.example corp:500 exchange.example:25\np777@corp.example  exchange.example:25" {
		t.Fatalf("%v\n%s", err, addressesOf(all))
	}
	rows, err := q.db.Query(t.Context(), postgres.Background, "explain "+waitingForSQL, []string{"corp:500"}, []string{"corp.example"}, []string{"p777"}, []string{"p777+"}, []string{"p777,"}, int64(0), -1, 10)
	if err != nil {
		t.Fatal(err)
	}
	lines, err := postgres.CollectValues[string](rows)
	if err != nil {
		t.Fatal(err)
	}
	byIndex := 0 // the key, the address, its range
	for _, line := range lines {
		for _, cond := range []string{"Index Cond: (local_key = ", "Index Cond: ((domain = u.domain) AND ((lower(local_part))", "Index Cond: ((domain = u_1.domain) AND ((lower(local_part))"} {
			if strings.Contains(line, cond) {
				byIndex++
			}
		}
	}
	if plan := strings.Join(lines, "\n"); byIndex != 3 {
		t.Errorf("plan:\n%s", plan)
	}
}
