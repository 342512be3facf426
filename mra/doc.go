// Package mra is what the retrieval servers share: accepting connections, TLS,
// limits, the connection itself, and leaving in good order. The protocols are
// its sub-packages; each is a Handler.
//
// A connection idles cheaply: Conn.Wait gives the buffers back and parks the
// connection's one goroutine until the client says something, a time has passed
// or Wake is called. That is what an IMAP client in IDLE costs.
//
// # Standards
//
// RFC 8314: implicit TLS beside STARTTLS. PROXY protocol 1 and 2, from networks
// that the configuration trusts and from nobody else.
//
// # Concurrency
//
// A connection belongs to one goroutine, which is the only one that reads and
// writes; it recovers once, at its top. From other goroutines only Conn.Wake may
// be called. The context given to Handler.ServeConn ends when the server shuts
// down or the person may no longer be logged in (see Conn.Admit); its cause
// says which, and the connection is woken so that the engine can say goodbye. What
// a client has asked for before the server leaves is finished: that has the context
// of Conn.Work, which ends with the grace.
//
// # Limits
//
// Connections in total, per client address (a /64 for IPv6) and per person;
// a connection beyond them gets the protocol's own refusal. Reads and writes
// have deadlines that move with progress, so that neither a stalled client nor a
// slow one on a large message is mistaken for the other.
//
// # Security
//
// A failed handshake ends the connection: it never goes on in clear. Octets that
// came before the handshake in clear are no part of the session (RFC 9051
// §11.1, the STARTTLS injection).
package mra
