package directory

import "errors"

// ErrStale reports that somebody was not found in a directory that has not been
// heard of lately, and so may well exist.
var ErrStale = errors.New("the directory was not heard of lately")

// Change is what became of one entry.
type Change struct {
	Key   Key
	Entry *Entry // nil: gone
}
