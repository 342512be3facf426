// Package queue is the state of the mail queue in Postgres: what is on its way,
// to whom, and when it is tried next. It decides nothing about routes and sends
// nothing; mta/qmgr does that.
//
// A message is one immutable row, each recipient a row with a schedule of its
// own. A message is finished when no recipient row is left; its row goes in the
// same transaction.
//
// What moderators of lists are asked about messages that are held here is kept here
// too, since an answer and what it does to the held recipient are one change.
//
// # Concurrency
//
// A Queue is safe for any number of goroutines and nodes. A claim is a lease: it
// moves the due time of a row into the future and its token up, and holds no
// transaction. Whoever settles shows the token; a lease that ran out and was
// taken by somebody else changes nothing any more. A node that dies needs no
// cleaning up: its rows come due again by themselves. So mail to strangers is
// sent at least once, which is all that SMTP can give (RFC 5321 §4.5.4.1), while
// a settlement in the transaction of a local delivery makes that exactly once.
//
// Each destination belongs to one of 64 shards, and each shard to one node at a
// time (Own). That is politeness, so that limits per destination are one node's
// memory; a shard worked by two nodes for a moment does no harm.
//
// All times are computed by the database's clock.
//
// # Limits
//
// A claim leases up to 5 destinations with 20 recipients each unless told
// otherwise. Thousands of recipients are enqueued in one round trip.
//
// # Security
//
// The token by which an answer of a moderator is known stands in the question alone;
// the database has its hash.
package queue
