// Package remote speaks SMTP to the next hop: it delivers a queued message to
// recipients that share a route and reports what became of each.
//
// The conversation is our own rather than a library's. The client of
// emersion/go-smtp says EHLO with a name of its own choice before STARTTLS, has
// no pipelining, no limit on the number of lines of a reply, no deadline while
// it writes, compares keywords by case and rewrites lone line feeds; working
// around all that took more than this package. Its server is the independent
// peer of the tests.
//
// # Standards
//
// RFC 5321 (SMTP), RFC 2920 (PIPELINING), RFC 3207 (STARTTLS), RFC 1870 (SIZE),
// RFC 6152 (8BITMIME), RFC 6531 (SMTPUTF8), RFC 3461 (DSN), RFC 2034 (enhanced
// codes), RFC 4954 (AUTH, towards the smarthost), RFC 9422 (LIMITS), RFC 7435
// (opportunistic security).
//
// # Concurrency
//
// A Transport is safe for any number of goroutines. Connections are kept for a
// moment after use, by route, and taken by the next delivery there.
//
// # Limits
//
// 100 recipients a transaction, or what LIMITS says; two sessions for one
// message; replies of 256 lines. A reply has its time from RFC 5321 §4.5.3.2 as a
// whole; sending has it for every 32 KiB. After a timeout or any other failure of
// a connection nothing more is read from it or written to it. A body is streamed
// and never held whole.
//
// # Security
//
// What leaves has CRLF line ends only and no octet sequence that could be taken
// for the end of data, whatever the message holds. Replies are made printable
// and short before anybody sees them. With opportunistic TLS a handshake that
// fails is answered by a new connection in the clear, never by going on with the
// old one; a policy that demands TLS never goes on without it. What the server
// sends before its handshake is thrown away with the connection. Passwords go
// only to the smarthost and only through TLS unless the configuration says
// otherwise.
//
// # Bugs
//
// A message with octets above 127 is converted for a next hop without 8BITMIME
// (RFC 6152 §3) and our own signatures are made anew, but a DKIM signature of
// somebody else, on mail that is forwarded, does not survive it. What is signed
// within the message cannot be converted and is returned with 5.6.3. Lines beyond
// 998 octets are sent as they are, unless the message is converted anyway.
package remote
