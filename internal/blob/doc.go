// Package blob keeps message content on Postgres: chunked, single-instance, streamed.
package blob
