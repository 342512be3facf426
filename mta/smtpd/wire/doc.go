// Package wire is the grammar of SMTP: command lines, the parameters of MAIL,
// RCPT and BDAT, and the stream of message content. It does no I/O.
//
// # Standards
//
// RFC 5321 (commands, paths, transparency), RFC 1870 (SIZE), RFC 3030 (BDAT),
// RFC 3461 and RFC 6533 (DSN parameters), RFC 4954 (AUTH parameter), RFC 6152
// (BODY), RFC 6531 (SMTPUTF8).
//
// # Limits
//
// The caller bounds the length of a line; every parser is linear in it. The
// content scanner keeps nine octets and a few numbers, whatever the message.
//
// # Security
//
// Only CRLF ends a line and only CRLF.CRLF ends a message. A bare CR, a bare LF
// and a NUL are found wherever the network cuts the stream, and are never taken
// for anything else (SMTP smuggling, CVE-2023-51764 and its kin).
package wire
