// Package resolver asks the DNS what mail needs to know: MX, SRV, addresses,
// TXT, TLSA, PTR and CNAME, each with the authenticated-data bit, cached,
// coalesced and bounded.
//
// It asks recursive resolvers and does not validate signatures itself. The
// authenticated-data bit is believed only when Config.TrustAD says that the way
// to the resolvers is trusted, as with one on the same machine.
//
// # Standards
//
// RFC 1035, RFC 2782 (SRV), RFC 2308 (negative answers), RFC 6891 (EDNS, 1232
// octets over UDP), RFC 7766 (TCP), RFC 4035 §3.2.3 and RFC 6840 §5.7 (the AD
// bit), RFC 7505 (null MX, passed on as a record with an empty host).
//
// # Concurrency
//
// A Resolver is safe for any number of goroutines. Equal questions that are
// asked at the same time go out once; a caller that gives up does not end the
// query for the others.
//
// # Limits
//
// An answer has at most 256 records and 64 KiB, an alias chain 10 names. The
// cache is bounded in octets and its entries in time, whatever their TTL says.
//
// # Security
//
// An answer counts only if it comes from the server asked, with the id and the
// question of the query, each from a socket of its own with a random port; what
// does not match is ignored and the wait goes on. Host names with octets that
// no host name has are dropped, so nothing unprintable leaves this package
// except in TXT, whose reader must expect anything.
package resolver
