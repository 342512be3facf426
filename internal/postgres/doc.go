// Package postgres is the only door to the database: pools, transactions, the
// classification of errors, migrations, notifications, the one clock and the
// ids. Every other package owns its SQL and its tables, and gets at them
// through the aliases here; nothing else imports the driver.
//
// # Concurrency
//
// A DB is safe for any number of goroutines. It holds three small pools over
// one URL (interactive, delivery, background), so that an import or a purge
// never keeps a login waiting. A caller holds a connection for one statement
// or one short transaction, never while it reads from or writes to a client.
//
// InTx runs its function again after a serialization failure, a deadlock, a
// lock timeout or a connection that broke before COMMIT was sent, so the
// function must have no effect outside the transaction that it cannot repeat.
// A connection that breaks after COMMIT was sent leaves the outcome unknown:
// InTx then returns ErrUnknown and does not try again.
//
// # Limits
//
// statement_timeout, lock_timeout and idle_in_transaction_session_timeout are
// set for each connection (Config). PostgreSQL 15 or newer, UTF-8.
//
// # Security
//
// A database that may forget what it has committed is refused (ErrUnsafe), and
// so is a connection over a network without verified TLS (ErrInsecure).
// Passwords of the URL never appear in an error or a log line. Grants are
// built from the "-- Grant:" comments of the migrations: the server's role
// gets what it needs and no DDL, the reading role only what is meant for
// reports.
package postgres
