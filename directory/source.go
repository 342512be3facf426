package directory

// Change is what became of one entry.
type Change struct {
	Key   Key
	Entry *Entry // nil: gone
}
