// Package notice tells people by mail what has happened to their login: a new app
// password, a second factor, another password, a login from a network that is new.
// Who did it is told nothing new; whose account it was not done by learns of it.
//
// What is to be told is a row, written by the node where it happened; a node that
// sends mail makes a message of it, and the row's end and the message's beginning are
// one transaction.
//
// # Standards
//
// RFC 3834 (Auto-Submitted, the null reverse-path), RFC 5322.
//
// # Concurrency
//
// A Box is safe for any number of goroutines and nodes; Run is run once a node.
//
// # Limits
//
// One mail of a kind for a person in an hour; what happens within it stands in the
// next, up to 20 lines. Nothing that was refused is told: an attack makes no mail.
// Countries are not told, for want of a database that may be shipped, and nor is a
// rule that forwards outside, since there are no such rules of people yet.
package notice
