// Package mtasts is MTA-STS: a domain says over HTTPS that its mail servers have TLS
// with certificates of these names, so that nobody between two servers can take the
// encryption away.
//
// # Standards
//
// RFC 8461 (SMTP MTA Strict Transport Security).
//
// # Limits
//
// It is the side of the receiver: the policy that we publish. What other domains
// publish is not asked for when mail is sent.
package mtasts
