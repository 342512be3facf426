package main

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"dirpost/internal/postgres"
)

const copiesSQL = `select coalesce(sum(messages), 0)::bigint from mailbox`

// list sends one message to the list of everybody, where the target has one, and
// reports when it was accepted and when the last member had it. Looking into
// thousands of mailboxes over IMAP would be a load of its own: the database is
// asked.
func (b *bench) list() error {
	ctx := context.Background()
	for _, t := range b.targets {
		if t.list == "" {
			continue
		}
		db, err := postgres.Open(ctx, postgres.Config{URL: t.database, Interactive: 1, Delivery: 1, Background: 1}, slog.New(slog.DiscardHandler))
		if err != nil {
			return err
		}
		defer db.Close()
		count := func() (n int, err error) {
			err = db.QueryRow(ctx, postgres.Background, copiesSQL).Scan(&n)
			return n, err
		}
		// Each member's account comes into being with the first message; the
		// second round finds them there.
		for _, round := range []string{"first", "again"} {
			if err := b.listOnce(t, round, count); err != nil {
				return fmt.Errorf("%s: %w", t.name, err)
			}
		}
	}
	return nil
}

func (b *bench) listOnce(t *target, round string, count func() (int, error)) error {
	before, err := count()
	if err != nil {
		return err
	}
	cpu, err := family(t.pids)
	if err != nil {
		return err
	}
	s, err := newSubmission(t)
	if err != nil {
		return err
	}
	defer s.conn.Close()
	begin := time.Now()
	if err := s.send(t.list, fmt.Sprint(begin.UnixNano()), 0); err != nil {
		return err
	}
	accepted := time.Since(begin)
	for n := before; n < before+t.members; {
		if time.Since(begin) > 2*time.Minute {
			return fmt.Errorf("%d of %d members have it", n-before, t.members)
		}
		time.Sleep(20 * time.Millisecond)
		if n, err = count(); err != nil {
			return err
		}
	}
	took := time.Since(begin)
	after, err := family(t.pids)
	if err != nil {
		return err
	}
	fmt.Fprintf(b.out, "list of %d members, %s\t%s\t%.0f ms to 250\t%.1f s to the last\t%.3f ms CPU each\t\n", t.members, round, t.name,
		float64(accepted)/1e6, took.Seconds(), float64(after-cpu)/1e6/float64(t.members))
	b.out.Flush()
	return nil
}
