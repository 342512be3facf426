// Package auth is the SASL bridge that every login of the house passes: SMTP
// submission, IMAP, POP3 and what comes after them. It finds the person in the
// directory snapshot and lets the directory itself judge the password, by a
// bind with the DN that was found and never with the name that was typed.
//
// A mechanism proves who somebody is (mechanism.go has the table of them). What
// follows from it is the same for all and stands in one place, Bridge.enter: the
// state of the account, policies, the protocol, on whose behalf, the audit, and
// when a refusal is answered. What a mechanism judges with is a part of its own,
// below this package (Parts).
//
// # Standards
//
// RFC 4422 (SASL), RFC 4616 (PLAIN), RFC 4752 (GSSAPI), RFC 4559 (Negotiate),
// RFC 5802 and RFC 7677 (SCRAM-SHA-256), RFC 5929 and RFC 9266 (channel bindings),
// RFC 7628 (OAUTHBEARER), RFC 4422 §A (EXTERNAL), XOAUTH2 as Google and Microsoft
// describe it,
// RFC 4954 (SMTP AUTH), RFC 5530 and RFC 3206 (what a refused client is told),
// RFC 4513 §5.1.2 (empty passwords), RFC 8265 (names and passwords beyond ASCII).
//
// # Concurrency
//
// A Bridge is safe for any number of sessions. A refused login holds its
// goroutine, and nothing else, until Config.FailureTime has passed.
//
// # Security
//
// Who does not know the password gets one neutral answer at one time, whether
// the person exists, is disabled or locked. Who knows it is told why it does
// not help. A directory that is away is a temporary failure and never a wrong
// password. Passwords are remembered under a keyed hash whose key exists in
// memory only, until anything about the entry changes. Each decision is one
// event, without any secret.
//
// What has the form of an app password is judged by what we have issued, never by
// the directory. SCRAM, which knows those only, is offered where a client that takes
// it succeeds.
//
// A token is taken by TLS only, and EXTERNAL is offered only to a client whose
// certificate is somebody's; both through either door. A session ends with its
// certificate, and with its token where the configuration wants that (Identity.Until).
//
// From outside the house the password of the domain is taken from those only whom
// the configuration names. Anybody else's is refused without a question to the
// directory, so that guesses there count against no account (Config.Inside).
//
// Who acts as somebody else needs a right that the directory gives to the mailbox,
// or is in a group of Config.Masters; the audit names both, and the session ends
// when either may not go on.
//
// # Limits
//
// Wrong logins are counted for all nodes together (Parts.Permits, package permit);
// without that, for each client in each node.
package auth
