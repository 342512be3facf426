// Package selfservice is the site on which people look after their own login: the
// password of the domain, also when it has expired, app passwords, second factors, their
// last logins and their sessions.
//
// # Standards
//
// RFC 9110 (HTTP), RFC 6265 §4.1 with the prefix __Host- (cookies), Fetch metadata
// and Origin for requests of other sites, CSP level 3, RFC 4559 §4 (Negotiate),
// RFC 4422 §A by the handshake of TLS (client certificates).
//
// # Concurrency
//
// A Site is safe for any number of requests. It holds nothing of a session in
// memory, so that each request may come to another node.
//
// # Limits
//
// 32 KiB a form, 20 sessions a person; the oldest goes first. Config has the times
// after which a session ends.
//
// # Security
//
// The site judges no password: that is the bridge's, with its limits and its one time
// for all refusals. A session is 256 random bits in a cookie that scripts cannot read
// and other sites cannot send; the database has the hash. It is made anew at each
// login. Another cookie, which a browser keeps, makes its next login one of somebody who
// was here before, and opens nothing. The person is looked up in the snapshot at each request: who is disabled is
// out at once. What has power asks for the password, or a ticket, again after ten
// minutes, and for the second factor where there is one. An app password opens no page,
// and nor does a master's right to act as somebody. What changes anything is a POST with a token of the session, from a
// page of ours. Pages work without scripts, are never stored, and may not be framed.
// The old password is part of a change, and nothing but that lets us change it: the
// server has no right to set passwords.
//
// # Bugs
//
// A session of a mail program that was ended comes back by itself where the program has
// the password. An expired password is changed with a code of an app or a recovery code, not
// with a security key.
package selfservice
