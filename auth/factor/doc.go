// Package factor keeps the second factors of people: codes of an authenticator app,
// and codes for when it is not at hand. They stand beside the password of the
// domain, for what has power: minting a credential, changing the password.
//
// # Standards
//
// RFC 4226 §5.3 and RFC 6238 (TOTP: SHA-1, 6 digits, 30 s, which is what all apps
// have), and the URI by which apps are told, otpauth://.
//
// # Concurrency
//
// A Store is safe for any number of goroutines and of nodes: that no code is taken
// twice, and how many were tried, is decided by the database.
//
// # Limits
//
// One app, and 10 codes for when it is lost, for a person. 10 codes may be tried in
// an hour.
//
// # Security
//
// The secret of an app is sealed for its row with the key of the nodes, so that a
// copy of the database makes no codes. A code counts for its own step of 30 s and
// one before and after it, and for once: also a step that lies before one that was
// taken is refused. A try is counted before it is judged. The other codes have 80
// random bits, and are kept as hashes.
package factor
