// Package tlsconf keeps the certificates of the TLS listeners, and reads them
// again when their files change.
//
// # Standards
//
// TLS 1.2 and 1.3 only (RFC 8996, RFC 9325 §3.1.1), forward secrecy and AEAD only
// (RFC 9325 §4.2). A certificate is chosen by the server name that the client asks
// for (RFC 6066 §3), among those that fit its signature algorithms; the first one
// serves clients that ask for nothing or for a name that we do not have, since
// many mail clients are set up with an alias or an address.
//
// # Concurrency
//
// The certificates are one immutable value behind an atomic pointer. A handshake
// takes it once; Reload replaces it when every file of the new set is good, and
// otherwise leaves the old one in place.
//
// # Limits
//
// Session tickets are on: a resumed session costs no signature, which is most of
// a login's CPU. Their keys are those of crypto/tls, made by each process and
// changed daily, so that a client that comes to another node shakes hands in
// full.
//
// # Security
//
// Key files are read as the process may read them and never logged. A listener
// without any certificate refuses handshakes; it never falls back to one that is
// self-made.
package tlsconf
