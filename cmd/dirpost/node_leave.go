package main

import (
	"context"
	"errors"
	"time"

	"dirpost/auth"
	"dirpost/directory"
	"dirpost/internal/envelope"
)

// closeAccounts closes the accounts of people who left the directory so long ago
// that their mail is no longer kept, and opens those again whose people are back.
// Purge then takes what is closed. A snapshot that may lack somebody closes nothing.
func (n *node) closeAccounts(ctx context.Context) error {
	s := n.live.Snapshot()
	closed, err := n.store.ClosedAccounts(ctx)
	if err != nil {
		return err
	}
	for _, a := range closed {
		if e := s.ByKey(directory.Key(a.Key)); e != nil && !e.IsGone() {
			if err := n.store.ReopenAccount(ctx, a.ID); err != nil {
				return err
			}
			n.log.InfoContext(ctx, "account is open again", "user", a.Key)
		}
	}
	if !s.Ready() || s.Stale() {
		if len(closed) > 0 { // somebody may be back, and we have not heard of it
			return directory.ErrStale
		}
		return nil
	}
	before := n.db.Now().Add(-time.Duration(n.file.MDA.Closed))
	for e := range s.Gone() {
		if e.Gone.After(before) {
			continue
		}
		account, err := n.store.LookupAccount(ctx, string(e.Key))
		if errors.Is(err, envelope.ErrNotFound) {
			continue // never had mail, or it was taken
		}
		if err != nil {
			return err
		}
		if err := n.store.CloseAccount(ctx, account.ID, e.Gone); err != nil {
			return err
		}
		n.log.InfoContext(ctx, "account is closed, its mail is deleted", "user", string(e.Key), "since", e.Gone)
	}
	return nil
}

// What becomes of queued mail of people who have left.
const (
	departedSend = "send"
	departedHold = "hold"
)

// departed says why the queue holds what somebody has submitted, nil where it sends
// what it has whoever it is from.
func (n *node) departed() func(author string) string {
	if n.file.MTA.Submission.Departed != departedHold {
		return nil
	}
	return func(author string) string {
		reason := auth.Departed(n.live.Snapshot(), directory.Key(author), n.db.Now())
		if reason == "" {
			return ""
		}
		return "submitted by somebody who has left since: " + reason
	}
}
