package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"dirpost/internal/postgres"
	"dirpost/mta/queue"
)

const (
	// oldQueue is from which age on what waits is a warning: every sender has heard of
	// a delay of a day, and an admin should before that.
	oldQueue = 4 * time.Hour
	// overdue is how long a recipient that is due may wait for a node to take it.
	overdue = 15 * time.Minute
	// oldHeld is from when on held mail may have been forgotten.
	oldHeld = 24 * time.Hour
	// mostAsked is how many of the oldest recipients are read to see what they wait for.
	mostAsked = 2000
)

// queue looks at how full it is, how old, what it waits for, and whether anybody
// works on it.
func (d *doctor) queue(ctx context.Context, db *postgres.DB) {
	q := queue.New(db, queue.Config{})
	counts, err := q.Counts(ctx)
	if err != nil {
		d.bad("queue", "is the database in order?", err)
		return
	}
	var total, held int64
	var oldest, oldestHeld time.Duration
	var words []string
	for _, c := range counts {
		age := db.Now().Sub(c.Oldest)
		words = append(words, fmt.Sprintf("%d %s", c.Recipients, c.State))
		if c.State == queue.StateHeld {
			held, oldestHeld = c.Recipients, age
			continue
		}
		total += c.Recipients
		oldest = max(oldest, age)
	}
	late, since, err := q.Overdue(ctx, overdue)
	switch {
	case err != nil:
		d.bad("queue", "is the database in order?", err)
	case late > 0:
		d.bad("queue", "start 'dirpost serve' with the role queue on one of the nodes; is one there, its log says what it does",
			fmt.Errorf("%s due, the first for %s, and no node takes them: mail to outside, and what was deferred, stays", recipients(late), span(since)))
	}
	if oldest > oldQueue {
		why, err := d.waitsFor(ctx, q)
		if err != nil {
			d.bad("queue", "is the database in order?", err)
		}
		d.warn("queue", "'dirpost queue list' shows the last answer for each; 'dirpost queue retry --all' tries at once when the cause is gone", "%s, the oldest for %s%s", recipients(total), span(oldest), why)
	} else if late == 0 {
		d.ok("queue", "%s%s", recipients(total), parenthesis(words))
	}
	if oldestHeld > oldHeld {
		d.warn("queue", "'dirpost queue list --state held' shows why; 'dirpost queue release' lets them go, 'dirpost queue reject' sends them back", "%s held, the oldest for %s", recipients(held), span(oldestHeld))
	}
}

func recipients(n int64) string {
	if n == 1 {
		return "1 recipient"
	}
	return fmt.Sprintf("%d recipients", n)
}

func parenthesis(words []string) string {
	if len(words) == 0 {
		return ""
	}
	return " (" + strings.Join(words, ", ") + ")"
}

// waitsFor says what most of those that wait for long wait for.
func (d *doctor) waitsFor(ctx context.Context, q *queue.Queue) (string, error) {
	entries, err := q.List(ctx, queue.Filter{States: []queue.State{queue.StateWaiting, queue.StateActive}}, queue.Entry{}, mostAsked)
	if err != nil {
		return "", err
	}
	count := make(map[string]int)
	best, text := "", ""
	for _, e := range entries {
		to := e.Recipient.Address.Domain
		if e.Recipient.Local != "" {
			to = "mailboxes of ours"
		}
		if count[to]++; count[to] > count[best] {
			best = to
			text = fmt.Sprintf("; most wait for %s, and were not tried yet", to)
			if answer := strings.TrimSpace(e.Last.Enhanced + " " + e.Last.Text); answer != "" {
				text = fmt.Sprintf("; most wait for %s, the last answer was: %s", to, answer)
			}
		}
	}
	return text, nil
}
