// Package route decides where a recipient's mail goes next: to a given host, to
// the smarthost, to the mail exchangers of the domain, or to a mailbox of ours
// because nothing may leave. It returns the answer; mta/remote acts on it.
//
// # Standards
//
// RFC 5321 §5.1 (locating the target host, with the address of the domain itself
// where there is no MX, equal preferences in random order, and the loop of an
// exchanger that finds itself in the list), RFC 7505 (null MX), RFC 5321 §4.1.3
// (address literals).
//
// # Concurrency
//
// A Router is immutable and safe for any number of goroutines.
//
// # Limits
//
// At most Config.MaxAddresses addresses are returned, however many exchangers a
// domain lists.
//
// # Security
//
// Not knowing is never a reason to return mail: only an answer of the DNS that
// says so for sure makes a recipient fail for good.
package route
