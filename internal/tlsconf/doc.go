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
// a login's CPU. A Recognizer knows its client again by them. With Config.Sealer the
// tickets of TLS 1.3 are good at every node, for the seven days that crypto/tls gives
// them; those of TLS 1.2, and all without it, in the process that made them, with keys
// that it changes daily.
//
// # Security
//
// Key files are read as the process may read them and never logged. A listener
// without any certificate refuses handshakes; it never falls back to one that is
// self-made.
//
// Who has the key of a ticket of TLS 1.3 could come as its client, not read what was
// said: sessions have a key exchange of their own (psk_dhe_ke, RFC 8446 §4.2.9). The
// ticket of TLS 1.2 opens what was said, so that its key is never in a file
// (RFC 9325 §4.3). A session is never resumed at a listener that asks its clients for
// a certificate when it began at one that does not.
package tlsconf
