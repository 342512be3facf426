// Package roster tells which sessions of mail programs a person has open, on all nodes,
// and ends one of them.
//
// Nothing of it is written down: sessions come and go by the thousand, and hardly
// anybody asks. Who asks publishes a question, and each node answers with what it has.
//
// # Concurrency
//
// A Roster is safe for any number of goroutines.
//
// # Limits
//
// An answer is waited for until all nodes that were heard lately have given theirs,
// half a second at most. A node tells of 100 sessions of a person.
//
// # Security
//
// Questions and answers go by the database, as hints. They have the addresses of clients
// in them, and no secret: the name of a session ends it and opens nothing.
package roster
