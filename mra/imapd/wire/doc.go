// Package wire is the grammar of IMAP: a decoder for what clients send and
// append functions for what the server answers. It opens nothing and knows
// neither mailboxes nor messages.
//
// A command arrives as fragments: lines that end in CRLF, where a line that
// ends in "{n}" goes on with n octets of literal and another line. The Decoder
// holds one fragment at a time and asks its Reader for the next one when a
// literal was taken, so that a token never spans two reads, the length of
// everything is known before it is kept, and APPEND can stream its message.
//
// # Standards
//
// RFC 3501 and RFC 9051 (IMAP4rev1, IMAP4rev2), RFC 7888 (LITERAL+), RFC 4466
// (collected extensions to the grammar), RFC 4731 (ESEARCH), RFC 5032 (WITHIN),
// RFC 5182 (SEARCHRES), RFC 7162 (CONDSTORE), RFC 8474 (OBJECTID), RFC 8514
// (SAVEDATE).
//
// # Concurrency
//
// A Decoder and its Reader belong to one goroutine. The other functions are
// pure.
//
// # Limits
//
// The caller sets them (Limits): octets of a line, of a string literal and of
// all of a command. Search programs nest at most MaxSearchDepth deep. The
// message literal of APPEND has the limit of its handler.
//
// # Security
//
// The decoder is fuzzed with whole sessions. It allocates in proportion to what
// the limits allow, never to a number that the client announces.
package wire
