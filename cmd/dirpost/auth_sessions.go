package main

import (
	"context"

	"dirpost/auth/roster"
)

// buildRoster lets this node tell others which sessions people have here. A node where
// nobody logs in tells that it has none, so that nobody waits for it.
func (n *node) buildRoster(context.Context) error {
	var here roster.Sessions
	if n.auth != nil {
		here = n.auth
	}
	r, stop := roster.New(here, n.bus, n.log)
	n.roster = r
	n.closers = append(n.closers, stop)
	return nil
}
