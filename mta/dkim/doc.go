// Package dkim signs messages that leave, with keys of our domains, and keeps
// these keys in the database, sealed.
//
// # Standards
//
// RFC 6376 (DKIM), relaxed/relaxed; RFC 8301 (SHA-256, RSA of 2048 bits);
// RFC 8463 (Ed25519). A domain may have one active key of each algorithm; then
// a message gets a signature of each, as RFC 8463 §5 advises, from one pass
// over the body.
//
// # Concurrency
//
// Keys is safe for concurrent use. Active keys are remembered for a minute, so
// that is how long a new key takes to sign on every node.
//
// # Limits
//
// The body is streamed; memory does not depend on its size. An RSA signature
// costs about 1.3 ms of CPU, an Ed25519 one 0.04; but large receivers verify
// RSA only, so RSA is the default.
//
// # Security
//
// Private keys exist in the clear only in memory of nodes that sign. Fields
// that a reader sees are signed once more than they occur (RFC 6376 §8.15), so
// that none can be added.
package dkim
