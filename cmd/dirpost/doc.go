// Command dirpost is the whole server and everything an administrator does with
// it: serve, demo, setup, migrate, and the commands that look at the queue, mailboxes,
// keys and records. Called as sendmail or mailq it is that.
//
// This package is the only one that knows more than one actor. It reads the
// configuration file, resolves secrets, makes the parts and joins them: the
// wiring is serve.go, one function.
//
// # Concurrency
//
// A node is a value with Run(ctx). Everything that runs is started there in one
// group; when one part fails, all are stopped in order.
//
// # Security
//
// Secrets are references, "file:PATH" or "credential:NAME"; they never stand in
// the configuration, in arguments or in the log. A node reads those of its roles
// only.
//
// The local socket takes a login name of this machine for the directory's person
// of that name: who can make accounts on a mail host can send as anybody anyway.
//
// # Bugs
//
// sendmail has no spool of its own: without a node on the machine it takes
// nothing and exits with 75, and its caller tries again.
package main
