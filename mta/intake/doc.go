// Package intake is the one door into the house. Whatever a message came by
// (SMTP, LMTP, submission, sendmail, a report of ours), here its recipients are
// decided, its trace fields written, its deliveries planned, and all of it
// committed in one transaction. 250 means that Commit has returned nil.
//
// A Transaction follows an SMTP transaction: Start at MAIL, AddRecipient at
// RCPT, Write for the content, Commit at its end.
//
//	smtpd ─ Start ─ AddRecipient… ─ Write… ─ Commit
//	                                          ├ finish: header fix-ups, trace fields, signature
//	                                          ├ expand: groups, aliases, forwards -> mailboxes, others
//	                                          ├ plan:   one store.Delivery for each mailbox
//	                                          └ commit: deliveries, queue rows, settlement: one COMMIT
//
// # Standards
//
// RFC 5321 §4.4 (trace information), RFC 6409 §8 (what a submission server may
// mend), RFC 5321 §6.3 (loops), RFC 5321 §3.9.2, RFC 2369 and RFC 2919 (lists).
//
// # Relaying
//
// AddRecipient is the only place that decides whether mail may leave. Without
// an Identity nothing but addresses of our own domains gets through, in
// whatever form they are written, since the decision is made on the parsed
// address and the directory, never on text.
//
// # Lists
//
// A copy by a list has another reverse-path, the list's owner, and fields of the
// list on top. In the queue it is therefore a message of its own, with an id of its
// own, written in the same transaction. Repeats are recognised by the reverse-path
// that the sender gave, whichever way a copy takes.
//
// # Moderation
//
// A message that moderators must decide about is held in the queue, and the same
// transaction asks them: each gets a message of ours that the queue delivers, with an
// address to answer to. The answer comes in by the same door; its transaction
// releases the held recipient or returns it to the author.
//
// # Failure
//
// Nothing is visible before the COMMIT, and everything after it. Where a
// recipient's delivery fails for a reason of ours while others succeed, it
// becomes a queue row of the same transaction and is tried again.
//
// # Concurrency
//
// A Door is shared by all connections. A Transaction belongs to one goroutine.
package intake
