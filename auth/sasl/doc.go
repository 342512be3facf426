// Package sasl reads the SASL mechanisms that clients log in with, and hands
// what they say to a function that judges it. It does no I/O.
//
// # Standards
//
// RFC 4422 (SASL), RFC 4616 (PLAIN), RFC 5802 and RFC 7677 (SCRAM-SHA-256, with and
// without channel binding), RFC 7628 (OAUTHBEARER), RFC 4422 §A (EXTERNAL). LOGIN is described by draft-murchison-sasl-login, XOAUTH2 by Google and Microsoft only.
//
// # Security
//
// Responses come from anybody: their length is bounded by MaxResponse and each
// mechanism is fuzzed.
package sasl
