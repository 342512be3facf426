// Package acme gets and renews certificates from an authority that speaks ACME, such
// as Let's Encrypt or one of the company. All nodes use what one of them has got.
//
// # Standards
//
// RFC 8555 (ACME; HTTP-01), RFC 8737 (TLS-ALPN-01).
//
// # Concurrency
//
// A Manager is safe for any number of handshakes and requests. For each name one node
// at a time talks to the authority: it holds a lease of the name's row.
//
// # Limits
//
// One certificate a name, so that a name that the authority cannot reach does not
// keep others from theirs. No DNS-01, and so no wildcards. Two thirds of its life
// through a certificate is renewed; the key stays the same, since a TLSA record may
// name it (RFC 7672 §5). After a failure it is tried again in an hour, then in twice
// that, up to a day.
//
// # Security
//
// Keys are rows of the database, sealed with the nodes' key. A challenge is answered
// on any node from the row that the asking node has written. Who asks for challenges
// is a stranger: tokens are bounded, and at most 50 of them a second are looked up.
package acme
