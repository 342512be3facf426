// Package dsn composes delivery status notifications: the message that tells a
// sender what became of a message. It sends nothing and reads none.
//
// # Standards
//
// RFC 3464 (the format), RFC 6522 (multipart/report), RFC 3461 (what the sender
// asked for), RFC 6533 (internationalized addresses), RFC 3834 (automatic
// messages).
//
// # Concurrency
//
// Compose keeps nothing.
//
// # Limits
//
// A message is returned whole up to MaxReturn octets, else by its header.
// Remote texts are cut at 1,000 octets.
//
// # Security
//
// A report never goes to the null reverse-path. What remote servers said, and
// what the sender wrote in ORCPT and ENVID, is cleaned of controls, so that it
// can start neither a field nor a line.
package dsn
