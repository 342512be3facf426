// Package imapd is the IMAP server: a table of commands, one file a command,
// and for each session a view of the selected mailbox.
//
// A session sees the mailbox as it was announced to it: an immutable store.View
// and, beside it, the messages that have vanished since and whose EXPUNGE could
// not be sent yet. sync brings both up to date and tells the client; when it may
// say what is decided in one function, mayExpunge. Message sequence numbers
// exist only here; the store knows UIDs.
//
// # Standards
//
// RFC 3501 (IMAP4rev1), with the clarifications of RFC 9051; RFC 2177 (IDLE),
// RFC 2342 (NAMESPACE), RFC 2971 (ID), RFC 3348 (CHILDREN), RFC 3502
// (MULTIAPPEND), RFC 3691 (UNSELECT), RFC 4315 (UIDPLUS), RFC 4731 (ESEARCH),
// RFC 4959 (SASL-IR), RFC 5032 (WITHIN), RFC 5161 (ENABLE), RFC 5182
// (SEARCHRES), RFC 5258 (LIST-EXTENDED), RFC 5530 (response codes), RFC 5819
// (LIST-STATUS), RFC 6154 (SPECIAL-USE), RFC 6851 (MOVE), RFC 7162 (CONDSTORE, QRESYNC),
// RFC 7888 (LITERAL+), RFC 7889 (APPENDLIMIT), RFC 8438 (STATUS=SIZE), RFC 8514
// (SAVEDATE). What is announced is in capability.go.
//
// # Concurrency
//
// A session is one goroutine, which spends its life in mra.Conn.Wait with no
// buffers and a small stack. Each command runs aside, in a goroutine that ends
// with it, so that the deep stacks of database and TLS are given back at once;
// the session waits for it meanwhile. Hints of changes set a flag, and wake the
// session if it idles. Nothing is written to a client while a transaction, a
// pool connection or a lock is held.
//
// # Limits
//
// Before login a line has at most 40 KiB and a literal 4 KiB; afterwards 64 KiB
// each, and 512 KiB of literals a command. A message has the configured size. A
// client that sends nothing for 30 minutes is logged out (RFC 9051 §5.4); one
// that has not logged in, after two.
//
// # Security
//
// LOGIN and AUTHENTICATE work where the SASL bridge says so, which in clear is
// nowhere unless configured. What was sent in clear before STARTTLS is dropped
// with the connection. Shared mailboxes that a person may not open do not exist
// for that person.
//
// # Bugs
//
// \Seen and the other flags of a shared mailbox are common to its readers.
// A session whose mailbox is deleted by another, or may no longer be opened, gets
// BYE.
package imapd
