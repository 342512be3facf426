// Package pop3d serves the INBOX of a person over POP3.
//
// The view of the INBOX is taken at login and stays: message numbers, sizes and
// unique ids are those of that moment. Messages that another session removes
// meanwhile are refused when they are asked for.
//
// DELE only notes. What was noted happens at QUIT, in one transaction, and never
// without QUIT: a session that breaks off, idles out or is shut down has changed
// nothing (RFC 1939 §6). Messages that were retrieved and stay are marked \Seen at
// QUIT too, so that IMAP clients see them as read, as Dovecot does; TOP marks
// nothing. Config.LeaveUnseen turns it off.
//
// # Standards
//
// RFC 1939 (all but APOP), RFC 2449 (CAPA, RESP-CODES, PIPELINING, EXPIRE NEVER,
// IMPLEMENTATION, USER, TOP, UIDL), RFC 2595 and RFC 8314 (STLS, implicit TLS),
// RFC 3206 (AUTH-RESP-CODE), RFC 5034 (SASL with initial response).
//
// APOP is not offered: it needs the password in clear on the server, and only
// the directory judges passwords here. LOGIN-DELAY is not: how often clients may
// come is a matter of the limits. UTF8 and LANG (RFC 6856) are not: who announces
// UTF8 must refuse or rewrite messages with UTF-8 in the header for every client
// that does not ask for it; without it they are sent as they are, which today's
// clients read. The one language of the replies is English.
//
// Unique ids are UIDVALIDITY and UID of the INBOX in hexadecimal: they never come
// again, outlive every session, and are the same on all nodes.
//
// RFC 1939 §4 wants the maildrop locked for one session. It is not, as with
// Dovecot by default: people have a telephone and a desktop, and a lock would
// answer one of them [IN-USE], for as long as its lease if a node has died.
// What the lock is for holds without it: numbers and unique ids of a session do
// not move, removing a message that is gone already is no error, and new mail
// waits for the next login.
//
// # Concurrency
//
// A session is one goroutine. No connection to the database and no lock is held
// while a client is written to or waited for.
//
// # Limits
//
// The sizes of the drop: 16 octets a message. A client that retrieves in order
// has up to 64 messages or 512 KiB read ahead in one query; they are given back
// when it falls silent. Large messages stream in chunks. Command lines have 1,024
// octets, lines of a SASL exchange 16 KiB (RFC 5034 §4 refers to 12,288 of base64).
// Three minutes to log in, ten minutes of silence afterwards (RFC 1939 §3), five
// failed logins, twenty wrong commands in a row.
//
// # Security
//
// Passwords in clear are refused where the SASL bridge demands TLS, and USER is
// not announced then. Refused logins all look alike. STLS with octets behind it
// ends the connection.
package pop3d
