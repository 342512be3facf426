// Package join makes this system a member of an Active Directory domain, from the
// mail host and over LDAP alone: a computer account with the names of the mail
// services, whose keys all nodes share as sealed rows of the database, and which
// one node changes from time to time.
//
// # Standards
//
// [MS-ADTS] §3.1.1.3.1.5 (unicodePwd), §6.1.1.4 (well-known containers), RFC 4120
// §5.2.7.5 (salt), RFC 4752 by way of directory/ldap.
//
// # Concurrency
//
// The functions may be used by any number of goroutines, but two that change the
// same account at once are kept apart by the lease in its row, not here. A Keeper
// is run once.
//
// # Limits
//
// Keys are AES (RFC 3962). The account is in the domain of who joins it.
//
// # Security
//
// Every connection is sealed by Kerberos (RFC 4752), and is to a server that holds
// the key of a domain controller: neither certificates nor what DNS says are needed
// for it. The administrator's password makes one key in memory; it is neither sent
// nor kept. Passwords of the account are random, and stand nowhere but in the
// sealed rows.
//
// What the account is let read of deleted entries, if somebody asks for it, is one entry
// in an access list in which nothing else changes, and it goes with the account.
//
// A password is written down before the domain gets it, so there is no moment in
// which a crash would lose the account.
package join
