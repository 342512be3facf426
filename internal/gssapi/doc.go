// Package gssapi is the part of the Kerberos GSS-API that an LDAP client needs:
// a ticket from a key or a password, a security context with mutual
// authentication, and messages that are signed or sealed with it. It makes
// keytabs, and judges passwords of other people.
//
// Messages and cryptography of Kerberos are those of gokrb5. What it lacks or
// does in a way that a server cannot use is here: exchanges with the KDC that
// end with a context and take no more octets than a bound, wrap tokens with
// encryption and rotation, and keytabs whose errors do not print the keys.
//
// # Standards
//
// RFC 4120 (Kerberos: AS, TGS and AP exchange over TCP), RFC 4121 (GSS-API
// mechanism, version 2 tokens), RFC 3962 (AES), RFC 2743 §3.1 (token header),
// [MS-KILE] §2.2 (reasons of a refusal), [MS-PAC] (the account in a ticket), and the keytab format of MIT Kerberos, versions 1 and 2.
//
// # Concurrency
//
// An Initiator may be used by any number of goroutines. A Context may be used
// by one that wraps and one that unwraps. Nothing runs in the background.
//
// # Limits
//
// The service is in the realm of the account: there are no referrals to other
// realms. Keys are AES with SHA-1 (RFC 3962), which every Active Directory since
// 2008 has; RC4 and DES are refused. A reply of a KDC may have 1 MiB.
//
// # Security
//
// The server proves that it has the key of the service: a context without its
// answer is none. Messages are accepted once and in order. The service is named
// by the configuration, or as LDAP of a domain, a name that its controllers alone
// have; never by what DNS says. Errors of a KDC are not authenticated: they are
// shown, and may refuse somebody, but let nobody in. A password that was right is
// believed when the KDC has made a ticket with a key that only it and we have.
package gssapi
