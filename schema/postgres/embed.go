// Package postgres holds the migrations of the database, and nothing else.
//
// A file is named NNNN_words.sql, is applied once, in order, in a transaction
// of its own, and never changes afterwards. Numbers belong to rooms: 0001-0019
// the message store, 0020-0029 the queue, 0030-0039 the directory, 0040-0049
// auth, 0050-0059 keys and secrets, 0060-0069 the machine account, 0070-0079
// moderation of lists, 0080 and above what came later, in tens.
//
// A file with a line that begins "-- Additive" adds only what programs that do not
// know it can live with: new tables, columns with a default, functions. So each
// version of the program runs with the schema of the next one; what has become
// useless is removed a version later, by a file without that line.
//
// A table says in "-- Grant: select, insert" comments what the
// server's role may do with it, and in "-- Grant read: select" that reports may
// read it.
package postgres

import "embed"

// FS holds the files.
//
//go:embed *.sql
var FS embed.FS
