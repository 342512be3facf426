// Package envelope is the vocabulary of RFC 5321 that every actor shares:
// addresses, reverse-path and recipients, the identifier of an accepted
// message, and the one table of errors with their public status.
//
// # Standards
//
// RFC 5321 (SMTP), RFC 6531 (SMTPUTF8), RFC 3461 (DSN), RFC 3463 and RFC 5248
// (enhanced status codes).
//
// # Concurrency
//
// All types are values and safe to share once made.
//
// # Security
//
// Parsers take bytes from the network, allocate in proportion to their input
// and are fuzzed. The package does no I/O.
package envelope
