// Package quota warns people whose mailbox is nearly full, by a mail into that
// mailbox.
//
// # Standards
//
// RFC 3834 (automatic messages: nobody answers them), RFC 9208 (what a mailbox uses).
//
// # Concurrency
//
// Every node runs a Warner; about once in Config.Every one of them looks, the others
// leave it to that one. The warning and the record of it are one transaction.
//
// # Limits
//
// Whoever crosses the threshold is told within Config.Every, and once, until there was
// room again: the mailbox has fallen a twentieth below the threshold.
package quota
