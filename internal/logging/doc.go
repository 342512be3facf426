// Package logging makes the slog loggers of the house, the redaction of what must
// never be read in a log, and the event.Sink that logs and counts.
//
// A line has its time in UTC, RFC 3339 with milliseconds, then level, message and
// the attributes under the keys of the house. Below debug there are three levels
// of protocol trace, which are never reached by accident: lines, lines with
// credentials, lines with content. Config.Trace turns them on for single users
// and client addresses.
//
// # Concurrency
//
// Loggers may be used by any number of goroutines. Control.Apply changes level
// and trace of all loggers at once, while they are in use.
//
// # Security
//
// Secret and Content print [redacted] wherever they are logged; so does any text
// under a key that names a secret, should somebody forget. Line ends and control
// characters in values are quoted by slog: a client cannot forge a line.
package logging
