// Package history remembers from where people have logged in, for themselves to look
// at, and finds the networks that are new for them.
//
// # Concurrency
//
// A Recorder is safe for any number of goroutines. It hears of logins as an
// event.Sink, which takes a note in memory and no more: no login waits for it. Run
// writes the notes every few seconds; those of a node that dies are lost.
//
// # Limits
//
// Many logins of one protocol, mechanism and address are one row, kept for 90 days
// after the last; networks, IPv4 /24 and IPv6 /48, for 180. 200 rows a person: the
// oldest go. 50,000 notes wait in memory while the database is away, more are lost.
// Refused logins are not in it: strangers would write it.
package history
