// Package blob keeps the bodies of messages on Postgres: small ones as a value
// that their message carries, large ones as blobs of compressed chunks, one for
// all messages and queue rows with the same octets.
//
// A Writer takes the octets as they arrive from a client. While they fit into
// one chunk they stay in memory; beyond it each full chunk is compressed and
// written at once, so that a large message needs the memory of one. No
// connection is held between two chunks, and only the last statement waits for
// the disk: the log of the database is sequential, so it covers the chunks
// before it.
//
// Nothing counts references. A reference to a blob is made only after the blob
// was written or touched (Touch) within the hour; Collect deletes what was not
// touched for a day and is not referred to. It looks at the age again in the
// DELETE itself, so that a touch in the last moment wins.
//
// # Concurrency
//
// A Store is safe for any number of goroutines; a Writer and a Reader serve
// one.
//
// # Limits
//
// A chunk is 256 KiB of the body. Its number is the offset divided by that, so
// that a partial FETCH reads the chunks it needs. A Writer and a Reader use at
// most two buffers of that size each.
package blob
