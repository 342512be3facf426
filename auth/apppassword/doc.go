// Package apppassword keeps the passwords that Dirpost itself issues for mail
// programs: one for each program, made by the system, shown once, taken for mail
// only, and revoked without touching the password of the domain.
//
// # Form
//
// An app password is five groups of four letters and digits, as in
// "k7mq-2xw9-pf4d-h3ta-6ncr": 80 random bits, and a check group of 20 more. So it
// is told from a password of the domain before anything is asked of anybody, and a
// mistyped one is not taken for a wrong one. Case, spaces and dashes do not count,
// and letters that look like digits are read as those.
//
// # Standards
//
// Kept are the keys of SCRAM-SHA-256 (RFC 5802 §3, RFC 7677), and nothing that the
// password could be read from. A client of SCRAM computes with what was typed, so
// there are keys for two spellings: with dashes, as it is shown, and without.
//
// # Concurrency
//
// A Store is safe for concurrent use. What a login needs is read from the database
// and kept in memory for half a minute at most; a hint on the bus tells all nodes
// of each change at once, and a password that is not among those that are remembered
// is looked for in the database before it is called wrong. When a password was last used is written by Run, once a
// minute at most, and never on the way of a login.
//
// # Limits
//
// Config.Max passwords a person; names of MaxName characters. A password of the
// domain that has the form of an app password by chance, one in a million of those
// of 20 letters and digits, cannot be used for mail.
//
// # Security
//
// All passwords have one salt, made at random with the tables, and one iteration
// count, the least that RFC 7677 §4 allows. Both are there for passwords that people
// choose: salts keep a dictionary from being tried on many at once, iterations make
// each try dearer. There is no dictionary of 80 random bits, and with a million of
// them stolen a single hit still takes 2^72 hashes. What one salt gives: the
// challenge of SCRAM is the same whoever is asked for, so that it needs no look at
// anybody, tells nothing about which names exist or which are one person's, and an
// exchange can be tried against each password of a person.
//
// # Bugs
//
// A client of SCRAM with a password that was typed in capitals or with spaces
// fails, since the server cannot know what was typed.
package apppassword
