// Package message reads RFC 5322 messages and MIME as they are, never as they
// should be, with octet offsets, and composes those that Dirpost originates.
//
// A Scanner reads a message in one pass while it streams in and gives a Parsed:
// the header, the part tree with octet offsets into the body, and what is
// wrong with it. From these come ENVELOPE, BODYSTRUCTURE, sections, the values
// of search, sort and thread, and the text that SEARCH looks into. All but the
// text is made once, at delivery, and stored.
//
// # Standards
//
// RFC 5322 with its obsolete syntax, RFC 2045-2047, RFC 2231, RFC 6532;
// RFC 9051 §6.4.5 and §7.5.2 (and RFC 3501) for what IMAP shows; RFC 5256 §2.1
// (base subject); RFC 2152 (UTF-7). Where mail breaks them the package follows
// Dovecot, which clients know.
//
// # Concurrency
//
// Parsed, Part and Header are values to be shared once made; the editing
// methods of Header make new ones. A Scanner belongs to one goroutine.
//
// # Limits
//
// Limits bounds header, depth and parts; beyond them a message is described
// more coarsely, never refused here. An address list has at most 10,000
// elements. Memory is the header and the tree, whatever the size of the body.
//
// # Security
//
// Everything takes foreign octets, works in linear time and is fuzzed. Values
// that could end a header field early are refused when a field is made.
//
// # Bugs
//
// A message/rfc822 part in base64 is described as application/octet-stream:
// its structure cannot be seen without decoding it. Unlabelled 8-bit text that
// is no UTF-8 is guessed to be GB18030 or windows-1252 and nothing else. The
// charsets euc-tw, viscii and tcvn are not known.
package message
