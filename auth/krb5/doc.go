// Package krb5 lets people in who have a Kerberos ticket for us: it has the keys of
// this system, judges tokens of SASL GSSAPI and of HTTP Negotiate, and finds the
// entry in the directory of whom a ticket is.
//
// # Standards
//
// RFC 4752 (SASL GSSAPI), RFC 4559 and RFC 4178 (Negotiate, SPNEGO), RFC 5929 and
// RFC 9266 (channel bindings), by way of internal/gssapi; [MS-PAC] (the account in a
// ticket).
//
// # Concurrency
//
// An Acceptor may be used by any number of goroutines; its keys may change at any
// time. An Exchange belongs to one connection.
//
// # Limits
//
// Of the security layers of RFC 4752 none is offered: everything is inside TLS. Keys
// are AES (RFC 3962, RFC 8009). Delegated tickets are not read.
//
// # Security
//
// Whose a ticket is says the SID that the domain has certified in it, and never a
// name that the client has typed. Without one, or where no entry has it, a rule of
// the configuration must say what the names of that realm are; there is none of
// itself, not for our own realm either.
//
// A token is taken once by an Acceptor, and stands in Peer.Once for whoever tells other
// nodes of it (auth/replay). Nothing stops who stands inside TLS from being first with
// it; require_channel_binding does.
package krb5
