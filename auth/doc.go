// Package auth is the SASL bridge that every login of the house passes: SMTP submission, IMAP, POP3.
package auth
