package queue

import (
	"time"

	"dirpost/internal/blob"
	"dirpost/internal/envelope"
)

// Message is what a message's queue rows share. It is immutable.
type Message struct {
	QueueID     envelope.QueueID
	ReversePath envelope.ReversePath
	Return      envelope.Return
	EnvID       string
	SMTPUTF8    bool
	Body8Bit    bool
	Header      []byte    // as accepted, with trace fields and empty line
	Body        blob.Body // always in a blob
	Client      string    // who brought it, for log and DSN
	Accepted    time.Time // zero: the database's now
	Expires     time.Time // when the sender is told that it failed; zero: the queue's lifetime from now
}

// Recipient is one forward-path on its way. Each has a schedule of its own.
type Recipient struct {
	Address      envelope.Address
	Original     string // as the sender knew it
	OriginalType string
	Notify       envelope.Notify
	// Local is the directory key of a mailbox of ours, "" for the outside:
	// the agent delivers it instead of a transport.
	Local string
	// NextHop overrides the route, host[:port]; "" lets route decide.
	NextHop string
}
