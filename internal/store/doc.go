// Package store is the message store on Postgres: accounts, mailboxes, messages, flags, changes and the one purge.
package store
