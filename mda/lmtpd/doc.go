// Package lmtpd is the LMTP server, for sites whose mail comes in through another
// MTA. Each recipient gets an answer of its own after the content.
//
// It decides nothing: what comes in goes to a Committer, which is mta/intake.
// Mail for other domains is refused there; LMTP relays nothing.
//
// # Standards
//
// RFC 2033 (LMTP), RFC 5321, RFC 1870 (SIZE), RFC 2034 (enhanced status codes),
// RFC 2920 (PIPELINING), RFC 3030 (CHUNKING), RFC 3461 (DSN), RFC 6152 (8BITMIME),
// RFC 6531 (SMTPUTF8).
//
// # Concurrency
//
// The protocol is go-smtp's. It runs the content of a message beside the
// connection, and may call Reset and Logout meanwhile; the goroutine of the
// content alone owns the transaction then.
//
// # Security
//
// Whoever can connect can put mail into any mailbox, past every check of the MTA
// in front: only addresses in Config.Clients are let in, and what comes over a
// unix socket.
//
// # Bugs
//
// Of go-smtp 0.25: the answer to LHLO names the client; quotes of a local-part are
// lost, so that an address which needs them is refused with 501; <Postmaster>
// without a domain is refused. Its other faults are covered by our side of the
// connection, which moves deadlines by progress and is dead for good after one
// has passed, and by refusing MAIL within a transaction.
package lmtpd
