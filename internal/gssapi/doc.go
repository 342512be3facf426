// Package gssapi is the part of the Kerberos GSS-API that a mail system needs. As
// client of LDAP: a ticket from a key or a password, a security context with mutual
// authentication, and messages that are signed or sealed with it. As server: whose
// ticket a client has sent, by the word of the KDC, and a context with it. It makes
// keytabs, and judges passwords of other people.
//
// Messages and cryptography of Kerberos are those of gokrb5. What it lacks or
// does in a way that a server cannot use is here: exchanges with the KDC that
// end with a context and take no more octets than a bound, wrap tokens with
// encryption and rotation, keytabs whose errors do not print the keys, and the
// acceptor: the realm of the client by the ticket and not by its own word, the answer
// that proves who we are, channel bindings, a bounded memory of what was seen, and a
// reader of certificates that takes any octets.
//
// # Standards
//
// RFC 4120 (Kerberos: AS, TGS and AP exchange over TCP), RFC 4121 (GSS-API
// mechanism, version 2 tokens), RFC 3962 and RFC 8009 (AES), RFC 2743 §3.1 (token header), RFC
// 4178 (SPNEGO, with Kerberos as the one mechanism), RFC 2744 §3.11, RFC 5929 and RFC 9266 (channel
// bindings), [MS-KILE] §2.2 (reasons of a refusal), [MS-PAC] (the account in a
// ticket), and the keytab format of MIT Kerberos, versions 1 and 2.
//
// # Concurrency
//
// An Initiator and an Acceptor may be used by any number of goroutines. A Context may be used
// by one that wraps and one that unwraps. Nothing runs in the background.
//
// # Limits
//
// The service is in the realm of the account: there are no referrals to other
// realms. Keys are AES with SHA-1 (RFC 3962), which every Active Directory since
// 2008 has, and for tickets of clients AES with SHA-2 (RFC 8009); RC4 and DES are
// refused. A reply of a KDC may have 1 MiB, a token of a client MaxToken. An Acceptor remembers 260,000 to
// 520,000 tokens; more than 400 a second make it forget earlier than ten minutes.
// Addresses in tickets are not looked at: clients stand behind address translation.
//
// # Security
//
// The server proves that it has the key of the service: a context without its
// answer is none. Messages are accepted once and in order. The service is named
// by the configuration, or as LDAP of a domain, a name that its controllers alone
// have; never by what DNS says. Errors of a KDC are not authenticated: they are
// shown, and may refuse somebody, but let nobody in. A password that was right is
// believed when the KDC has made a ticket with a key that only it and we have.
//
// The name of the service in a ticket is not protected. Where one account has all
// services, as in Active Directory, who catches a ticket inside TLS could present it
// to another service of the account; channel bindings and the memory of tokens stand
// against that, and the name only against mistakes.
package gssapi
