// Package qmgr is the queue manager: it claims what is due, finds the way, hands
// it to a transport or to the agent of our own mailboxes, settles what came of it
// and tells the sender. It is the one door out.
//
// # Standards
//
// RFC 5321 §4.5.4.1 (retry strategy), RFC 3461 §5 (who is told what), RFC 3464
// (the reports, composed by mta/dsn), RFC 5321 §6.1 (no report about a report).
//
// # Concurrency
//
// Run owns one dispatcher and a bounded number of workers; they are its own and
// end with it. A worker takes recipients of one destination, so that one
// connection serves them. How many work on one destination at a time follows its
// successes and failures; a destination that cannot be reached is left alone for
// a while. No transaction is open while anything is sent; what workers settle at
// the same time goes to the database together.
//
// Whatever is being tried when a node dies is tried again by another one when the
// lease ends. A local delivery and its settlement are one transaction, and so are
// a report and the settlement of what it reports: neither happens twice, nor gets
// lost. Only a next hop may see a message twice, if we die between its 250 and
// our settlement.
//
// # Limits
//
// Config. Outcomes of one message that become final within a minute are one
// report.
//
// # Security
//
// Trouble of ours (database, DNS, directory, configuration) never makes a
// recipient fail for good; it is tried again. So is a message whose handling
// panics: it is deferred like any other, alone, counted and logged. What a next hop says is printable
// and short before it gets here.
package qmgr
