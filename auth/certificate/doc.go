// Package certificate judges the certificates that clients show in the TLS
// handshake, and finds the person whom one belongs to.
//
// # Standards
//
// RFC 5280 (certificates and CRLs), RFC 6960 (OCSP), RFC 4523 (userCertificate),
// [MS-WCCE] §2.2.2.7.7.4 (the extension with the security identifier) and
// altSecurityIdentities as Windows has mapped certificates since 2022.
//
// # Security
//
// A certificate counts when it leads to one of the authorities that are configured,
// is valid now, is for client authentication (RFC 5280 §4.2.1.12), and has not been
// revoked. It belongs to the person whose security identifier the authority has put
// into it, or whose entry claims it by a mapping that only administrators write.
// Names, e-mail addresses and subjects never count: who may write an address into a
// request would log in as its owner. When two ways name different people, nobody is
// meant.
//
// Revocation is asked of CRLs and OCSP responders that are configured or that the
// certificate names, since an authority that is trusted has named them there.
// A delta CRL (RFC 5280 §5.2.4), which the full one or the certificate names or that is
// configured beside it, is put together with the full one.
// Answers are checked against the issuer, bounded in size and kept until they are
// no longer valid. What cannot be found out is a temporary failure (Required), or,
// where the administrator wants that, no objection (IfKnown).
//
// # Concurrency
//
// A Mapper is safe for any number of handshakes and logins.
//
// # Bugs
//
// CRLs of other authorities (indirect ones), and those for some reasons only, are
// refused, and said to be so. A delta CRL that cannot be had changes nothing until the
// full one ends. OCSP answers that are stapled by clients do not exist in practice and are
// not looked at.
package certificate
