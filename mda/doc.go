// Package mda decides what becomes of one message for one recipient. The Agent
// plans: it reads the recipient's entry and account and returns a
// store.Delivery, a value. It never writes and gets no transaction; intake
// commits the plans of all recipients at once.
//
// # Standards
//
// RFC 5598 §4.3.3 (message delivery agent), RFC 5233 (subaddress).
package mda
