// Package oauth judges the access tokens of the issuers that the administrator
// trusts, and finds the person whom a token is about.
//
// # Standards
//
// RFC 6750 (bearer tokens), RFC 7519 and RFC 9068 (JWT as access tokens), RFC 8725
// (how they go wrong), RFC 7517 (key sets), RFC 8414 and OpenID Connect Discovery
// (where they are), RFC 7662 (introspection). Signatures are those of
// github.com/go-jose/go-jose.
//
// # Security
//
// A token counts when an issuer that is configured has signed it with one of its
// own keys, by an algorithm of the list (never none, never with a shared key, never
// with a key of another type), for us as its audience, and while it is valid. What
// a token says about where keys are (jku, x5u, jwk) is not looked at. ID tokens,
// refresh tokens and tokens that are bound to a key of the client are refused.
//
// Keys come by HTTPS from the configured place, without redirects, in answers of a
// bounded size. A key that is not known makes the set be fetched again, at most
// every RetryEvery. While an issuer is away its keys are used for another KeepKeys;
// what cannot be judged for that reason is a temporary failure and never a refusal.
//
// Tokens are secrets: no error and no log has one, nor a part of one.
//
// # Concurrency
//
// A Verifier is safe for any number of logins. Of each issuer one request for keys
// runs at a time; logins that need none do not wait for it.
//
// # Limits
//
// Tokens of MaxToken octets, MaxKeys keys an issuer, answers of 512 KiB (key sets)
// and 64 KiB (all others). Encrypted tokens (JWE) are not read, but may be
// introspected.
package oauth
