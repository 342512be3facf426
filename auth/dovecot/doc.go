// Package dovecot offers the SASL bridge to other programs, by the protocol that
// the authentication process of Dovecot speaks with its clients: Postfix
// (smtpd_sasl_type = dovecot), Exim (driver = dovecot), Prosody, chasquid and
// others. People log in there as they do here, and with the same outcome.
//
// # Standards
//
// No standard: the Dovecot authentication protocol, version 1.2, as its
// documentation describes it, the side of an "auth-client" socket. The other
// side of it, "auth-userdb" and "auth-master", is not offered: neither Postfix
// nor Exim asks it anything, and both refuse to speak to one.
//
// RFC 4422 (SASL) is what is carried.
//
// # Concurrency
//
// A connection has a goroutine that reads, one that writes, and one for each
// request while it is judged. Requests of one connection overtake each other.
//
// # Limits
//
// A line has at most 24 KiB, which holds a Kerberos ticket. The number of
// connections is bounded, and of requests on each of them; a request whose client
// has gone silent is given up after two and a half minutes. What is not read by
// the other side is waited for ten seconds.
//
// # Security
//
// Whoever may open the socket is believed what it says of its clients: their
// address, and whether they are protected by TLS ("secured"). The permissions of
// the file are the door. Without "secured" nothing that would show a password is
// taken, unless Config.AssumeSecured says that it is so. A client sees of a
// failure what the client of any other port sees: why, if it knows the password,
// else one neutral answer at one time.
//
// # Bugs
//
// Postfix and Exim know failure only, none that is temporary: by "temp" their
// client would be told that its password is wrong. To a client that speaks an
// older version than 1.2 a temporary failure is said by closing the connection,
// which both of them answer with 454 or 435; other requests on the same
// connection meet the same fate.
//
// Somebody who is disabled is logged out of our own ports; a session of the other
// program is for that program to end.
package dovecot
