// Package verify asks another mail system whether it knows a recipient, before we
// take mail that we would hand to it: RCPT without any message. So mail for nobody
// is refused at our door, and no report of it goes to a sender who was forged.
//
// # Standards
//
// RFC 5321 §3.3 (RCPT), RFC 5321 §4.2.3 and RFC 3463 §3.2 (what a refusal of it says).
//
// # Concurrency
//
// A Verifier is safe for any number of goroutines. Those who ask for the same
// address wait for the same answer. Answers are kept in the database and shared by
// all nodes.
//
// # Limits
//
// At most 16 conversations and 50 questions a second on each node; what is beyond
// that, or not answered within 10 s, is told to try again, and the answer is there
// when it does. A system that cannot be reached is left alone for 5 s.
//
// # Security
//
// Only what the other system says about a recipient refuses mail for good. That it
// does not want to talk to us, or to relay for us, is our trouble and defers.
//
// # Bugs
//
// A system that takes everything at RCPT and returns mail later says nothing by it.
package verify
