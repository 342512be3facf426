// Package ldap speaks to the servers of one directory: it follows their changes
// for the replica of package directory, maps entries by configuration, and lets
// the servers judge passwords.
//
// # Standards
//
// RFC 4511 and RFC 4513 (LDAP, binds, StartTLS), RFC 4752 (GSSAPI, with the
// layer that seals; Kerberos is internal/gssapi), RFC 4533 (content
// synchronization), RFC 2696 (paging), RFC 2782 (SRV), RFC 4512 §4 (the schema, by
// which a profile is chosen), RFC 3045 (vendorName), RFC 4515 and RFC 4516 (lists
// defined by filters),
// draft-behera-ldap-password-policy, and of Active Directory [MS-ADTS] DirSync,
// change notification, range retrieval, the sub-codes of a refused bind, and
// finding domain controllers by records and netlogon pings.
//
// # Concurrency
//
// A Client is safe for any number of goroutines. Reading, judging passwords
// and following use connections of their own, since a bind changes who a
// connection is and one slow request can stall a connection. A goroutine per
// server that is down probes it until it answers or the Client is closed.
//
// The server to prefer is the first that is not down. Those that read and judge
// go back to it when it answers again; who follows changes stays where it is until
// it begins anew, after Config.RefreshEvery at the latest.
//
// # Limits
//
// One LDAP message may have 16 MiB, one sealed frame of it too, one value of a
// mapped attribute 4 KiB, an attribute that comes in parts a million values. Only
// mapped attributes are asked for; an entry of more than 16 MiB in them stops the
// reading of the directory with an error that says so. Of a domain at most
// 64 servers are looked at.
//
// # Security
//
// A server that refuses StartTLS, or whose certificate does not verify, gets
// no connection; nor does one that does not offer to seal, where Kerberos stands
// for TLS. Passwords cross no network in clear: people's go by TLS alone, or by
// Kerberos not at all; a password is right by Kerberos when the KDC has made a
// ticket with our own key, for the SID of the entry. A password that one server
// has refused is not shown to a second. Referrals are not followed. What the DNS
// and a netlogon ping say decides which server is asked first, and nothing else.
// An empty password is never sent. People bind with the DN of their entry, never
// with what they typed, so nothing typed stands in a filter or DN. Programs, files
// and includes among addresses are never run or opened. Fields that give power are
// not read from attributes that people can write in their own entry, unless the
// configuration trusts these.
//
// # Bugs
//
// Of Kolab the access rights of shared folders are read where they allow all that
// opening a mailbox does, and no lesser ones; of qmail-ldap filtersender, of Netscape
// mgrpAllowedDomain are not read. Of a security descriptor that denies Send-As to
// somebody, what stands behind the denial gives the right to nobody.
//
// Syncrepl says nothing about the entries below a renamed one. A renamed
// container that the filter lets through causes a comparison at once; below any
// other the new DNs are seen after Config.RefreshEvery, and until then the
// logins fail. What an account may read of Active Directory can change without a
// word of DirSync; that too is seen after Config.RefreshEvery. Which domain
// controllers are watched is decided when one begins to be followed. How far one is
// behind is counted by entries: a second change of the same entry hides the first.
// A group goes on naming a deleted member that lay outside of the base, which names
// nobody, until Config.RefreshEvery.
package ldap
