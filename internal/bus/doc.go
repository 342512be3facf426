// Package bus carries hints between sessions and between nodes: that a mailbox
// has changed, that a directory snapshot has a new version, that a person must be
// logged out, that the queue has work.
//
// A hint may get lost and may come twice; what it is about stands in the
// database. Within the process it is delivered at once. To other nodes it goes by
// NOTIFY, coalesced for 20 ms, in a transaction of its own: a NOTIFY inside a
// transaction that writes makes all commits of the database wait for each other.
//
// What covers losses: watched mailboxes are polled every 5 seconds, and at once
// when the listening connection has been made anew; topics then get an empty
// payload, which means "look for yourself".
//
// # Concurrency
//
// All methods may be called from any goroutine at any time, before Run too. The
// functions of watchers and subscribers are called from the goroutine of
// whoever brings the hint, without a lock of the bus; they must not block. A
// function may be called once more while its cancel returns.
//
// # Limits
//
// A payload of Publish has at most 1,000 octets. Hints about mailboxes are sent
// only while another node is known: nodes tell each other every 20 seconds that
// they are there.
package bus
