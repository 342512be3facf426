// Package expiry tells people by mail that their password is going to expire, some
// days before, so that nobody learns it from a mail program that does not say why it
// has stopped.
//
// # Standards
//
// RFC 3834 (automatic messages): the null reverse-path, and Auto-Submitted.
//
// # Concurrency
//
// Job.Run is called on each node that may do it; the database has one of them do
// each round. A node that dies in it delays it by Config.Lease.
//
// # Limits
//
// Each mark of days is told once for each end of a password: what was told is
// written down in the transaction that accepts the message. A mark that passed while
// nobody looked is not made up for; the next one is told.
//
// # Security
//
// The message asks for nothing and names nothing but the page that the configuration
// names: it is what people are taught to expect of us.
package expiry
