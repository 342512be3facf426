// Package directory is the directory as mail sees it: entries, an immutable
// snapshot of all of them, and what follows from it for addresses, logins and
// rights. One node feeds the snapshot from its sources into the database; every
// node applies the same rows in the same order.
//
// # Standards
//
// RFC 4514 (DNs), RFC 8265 and RFC 8266 (login names), RFC 5233 (subaddresses),
// RFC 5321 §4.5.1 and RFC 2142 (postmaster, abuse), RFC 5321 §3.9 (lists and
// aliases), RFC 6531 (internationalized addresses).
//
// # Concurrency
//
// A Snapshot is immutable and a look-up takes no lock. Take it once per SMTP
// transaction or IMAP command from Live and use it to the end. Entries are
// immutable too; each look-up makes its own, so compare Keys, or Same, and not
// pointers.
//
// # Security
//
// With Rules.Confirm a domain takes no mail before an administrator has confirmed
// whose mailboxes are here; see MailboxRule.
//
// An address that several entries claim belongs to the one that had it first. Where
// nobody can tell, it belongs to none, and the mail is deferred; a login name that
// several have lets nobody in. So nothing reaches the wrong person.
//
// What vanishes is believed only where not too much of it does at once (Brake), and
// who has left is kept for a time (Entry.Gone): mail is not returned, and no mailbox
// ends, by a mistake in a filter or a tree. What takes access away counts at once.
// While nothing was loaded, or the directory was not heard of for
// Rules.StaleAfter, an unknown address is deferred and never refused; before that,
// when a snapshot is older than 5 s, the directory itself is asked (Asker). Lists
// are closed to strangers unless they, or Rules.ListPolicy, say otherwise.
//
// # Limits
//
// What is asked of a group costs as much as it has members. A list defined by a
// filter is asked of every entry once, and then of what changes; each such list
// also costs a comparison whenever somebody's groups are wanted, so there should be
// hundreds of them and not thousands.
//
// # Bugs
//
// A contact may be among the senders of a list, and is a stranger all the same: who
// mail from outside is by cannot be told from its envelope.
package directory
