// Package queue is the state of the mail queue in Postgres.
package queue
