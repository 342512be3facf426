// Package smtpd is the SMTP server, in two roles: MX, which takes mail for our
// own domains from anyone (port 25), and MSA, which takes mail for anywhere from
// people who have logged in (ports 587 and 465).
//
// It speaks the protocol and decides nothing about mail: mta/policy judges, auth
// verifies, and what is accepted goes through the Door, mta/intake. 250 after the
// content is said when Door has committed the message, never before.
//
// # Standards
//
// RFC 5321 (SMTP), RFC 6409 (submission), RFC 1870 (SIZE), RFC 2034 and RFC 5248
// (enhanced status codes), RFC 2920 (PIPELINING), RFC 3030 (CHUNKING, without
// BINARYMIME), RFC 3207 (STARTTLS), RFC 3461 and RFC 6533 (DSN), RFC 3848 (WITH
// protocol types), RFC 4954 (AUTH), RFC 6152 (8BITMIME), RFC 6531 (SMTPUTF8),
// RFC 8314 (implicit TLS), RFC 9422 (LIMITS).
//
// # Concurrency
//
// One goroutine per connection, which alone reads and writes it; content passes
// through it without another. Server may interrupt a connection from outside only
// by its flags and by moving the read deadline.
//
// # Limits
//
// A connection holds 4 KiB for input, and 64 KiB from a shared pool while content
// arrives, whatever its size. Command lines end at 2,048 octets, lines of an AUTH
// exchange at 63 KiB. Every read has a deadline of its own, a command has one as
// a whole, and content must keep a least rate. After a deadline has passed the
// connection is never read again: what a client sends late can not become a
// command. It is only dropped, for a second, so that our last words arrive.
//
// # Security
//
// A line ends with CRLF and content with CRLF.CRLF, nothing else. Content with a
// bare CR, a bare LF or NUL is refused. What was sent in clear behind STARTTLS is
// dropped, and a handshake that fails ends the connection. Port 25 never offers
// AUTH. Replies never hold the cause of an error of ours.
//
// # Bugs
//
// A client that hangs up while its message is being committed is not noticed
// before the commit has ended; the message is then delivered, and delivered to
// nobody twice when the client repeats it (mta/intake).
package smtpd
