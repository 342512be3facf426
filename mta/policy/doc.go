// Package policy judges clients and their mail at each stage of an SMTP session:
// checks in configured order, each of which returns a Verdict. It acts on
// nothing; smtpd carries the verdicts out.
//
// Relaying is no matter of policy: intake alone decides for whom mail is taken.
//
// # Concurrency
//
// A Policy serves all sessions of a server at once.
//
// # Limits
//
// The table of clients holds at most 65,536 of them; IPv6 clients are counted by
// their /64. When it is full, clients that are not in it go uncounted. People who
// have logged in are counted by themselves. Counts are those of one process.
package policy
