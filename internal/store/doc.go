// Package store is the message store on Postgres: accounts, mailboxes, messages,
// flags, changes, search, undelete and the one purge.
//
// A message of an account is one immutable row: the header fields of this copy,
// the common header, envelope and structure as IMAP shows them, the values of
// search, and its body, if that is small; a large body is a blob that all
// copies share. A mailbox is a row with counters, and a narrow row for each of
// its messages: UID, modseq, flags. What can be answered from that is.
//
// Commit is the way in for mail: a unit is one accepted message with all its
// deliveries and what else belongs to it. A View is the way out: the UIDs,
// flags and modseqs of a mailbox as they were at one moment, shared by all
// sessions of a node and brought up to date by what has changed.
//
// # Standards
//
// RFC 9051 and RFC 3501 (mailboxes, UIDs, flags, names), RFC 7162 (modseq, what
// vanished), RFC 6154 (special use), RFC 6851 (MOVE), RFC 4315 (COPYUID),
// RFC 8514 (saved date), RFC 9208 (usage).
//
// # Durability
//
// What returned without an error is on disk. A delivery is known by queue id and
// account: repeated after an outcome that nobody knows, it changes nothing and
// gives the same answer. A client that repeats a message because our answer got
// lost is recognised for a day by Delivery.Repeat. A UID and a modseq are given
// under the lock of the mailbox row, which is held to the commit: who sees one
// sees all below it.
//
// # Concurrency
//
// A Store is safe for any number of goroutines, and any number of nodes share a
// database. There are row locks only, in one order:
//
//   - accounts in ascending order;
//   - within an account its mailbox rows in ascending order, then the row of the
//     account;
//   - rows of the queue last.
//
// Nothing that needs another order happens in a transaction that delivers: a
// mailbox or keyword that a delivery asks for is made before (Prepare). There
// are no savepoints: what fails is rolled back and tried otherwise.
//
// Within a node the units of one mailbox each go through a few lanes: what waits
// when a lane becomes free goes as one transaction, so that the disk is waited
// for once for many messages. A unit that stores in several mailboxes, or
// brings more with it, is a transaction of its own. No connection, lock or
// transaction is held while a caller handles a message or a client is written
// to.
//
// After each commit Hints is told; hints may get lost, Poll finds what they
// missed.
//
// # Limits
//
// An account has 55 keywords. A mailbox name has 1,000 octets and 32 levels. A
// transaction of a lane is at most 64 units and about 1 MiB. UIDs have 32 bits;
// a mailbox that has used them up takes no more mail.
//
// # Security
//
// Every statement is bounded by an account. The caller has judged who may do
// what: the store knows no persons.
//
// # Bugs
//
// Text is searched by reading it; there is no index of words. A keyword that an
// account has no room for is dropped when mail is delivered or copied from
// another account, and refused in STORE and APPEND.
package store
