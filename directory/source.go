package directory

import (
	"context"
	"errors"
	"time"
)

// ErrStale reports that somebody was not found in a directory that has not been
// heard of lately, and so may well exist.
var ErrStale = errors.New("the directory was not heard of lately")

// ErrRefresh is what a Source returns when the server does not know its cookie
// any more: everything has to be compared once.
var ErrRefresh = errors.New("the directory cannot go on from the cookie")

// Change is what became of one entry.
type Change struct {
	Key   Key
	Entry *Entry // nil: gone
}

// Batch is what a Source says at once. Its changes are applied and its cookie
// is kept in one transaction.
type Batch struct {
	// Begin says that a comparison begins: from here to the batch with Complete
	// the source names everything that there is, as a change or as present.
	Begin   bool
	Changes []Change
	Present []Key // there, and not changed or not readable: kept as they are
	// Complete ends a refresh: with it the snapshot is the whole directory.
	// Vanish says that what was not named since Begin is gone.
	Complete bool
	Vanish   bool
	Cookie   []byte // nil: as before
	// At is when the directory had nothing more to say than what was said up to
	// this batch; zero: nothing is known about that.
	At time.Time
}

// Source is one directory as the Feeder reads it: syncrepl, polling, and
// whatever else a server offers. A source that follows changes and one that
// compares look the same from here.
type Source interface {
	// Name is the name of the directory in the configuration.
	Name() string
	// Lag is how late the source learns of changes by its nature: the interval
	// of one that polls, 0 of one that is told. So long nobody counts it as away.
	Lag() time.Duration
	// Follow calls emit with what has changed since cookie, nil for all, and
	// goes on until ctx is done or it fails. It returns when emit fails, with
	// that error. A nil error means that it wants to be called again at once.
	Follow(ctx context.Context, cookie []byte, emit func(context.Context, Batch) error) error
}

// Looker is a Source that looks at what is known of its directory. Servers change
// entries without saying so: when a member of a group is renamed, the group names
// it by its new DN, and only who knows the old one can tell which groups these are.
type Looker interface {
	Source
	// Look is called before Follow, with what its batches will have changed
	// whenever emit returns.
	Look(live *Live)
}

// Reporter is a Source that says how it follows its directory.
type Reporter interface {
	Source
	// Status may be called at any time, by any goroutine.
	Status() SourceStatus
}
