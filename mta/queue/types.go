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
	Origin      envelope.ReversePath // as the sender gave it, where ReversePath is the owner of a list; else null
	Return      envelope.Return
	EnvID       string
	SMTPUTF8    bool
	Body8Bit    bool
	Header      []byte    // as accepted, with trace fields and empty line
	Body        blob.Body // in a blob, or inline when it is small
	Client      string    // who brought it, for log and DSN
	Author      string    // directory key of the person who submitted it, where that must be known; else ""
	Accepted    time.Time // zero: the database's now
	Expires     time.Time // when the sender is told that it failed; zero: the queue's lifetime from now
}

// Size returns the octets of the message as it is sent.
func (m *Message) Size() int64 { return int64(len(m.Header)) + m.Body.Size }

// Recipient is one forward-path on its way. Each has a schedule of its own.
type Recipient struct {
	Address      envelope.Address
	Original     string // as the sender knew it
	OriginalType string
	Notify       envelope.Notify
	// Local is the directory key of a mailbox of ours, "" for the outside:
	// the agent delivers it instead of a transport. LocalExpand asks the
	// directory again what the address leads to.
	Local string
	// Person is the directory key of the person whose mailbox another system has,
	// at NextHop, "" where that is nobody whom the directory knows. Without NextHop
	// it is not kept.
	Person string
	// NextHop overrides the route, host[:port]; "" lets route decide.
	NextHop string
	// Held keeps the recipient until somebody releases it, for Reason, one line.
	Held   bool
	Reason string
}

// Sender returns the reverse-path as the sender gave it.
func (m *Message) Sender() envelope.ReversePath {
	if m.Origin.IsNull() {
		return m.ReversePath
	}
	return m.Origin
}

// LocalExpand as Recipient.Local is an address of ours that is expanded when its
// turn comes: a list or mailbox that was held, a recipient that was accepted and
// then turned out to be none.
const LocalExpand = "*"

// LocalExpanded and LocalDelivered as Recipient.Local are a list that has got the
// message: nothing is delivered for its row, but its sender wants to hear of it, as
// the action "expanded" or "delivered" (RFC 3464 §2.3.3).
const (
	LocalExpanded  = "*expanded"
	LocalDelivered = "*delivered"
)

// Onward says that a queued recipient of ours has become one of another message in
// the queue, since the mailbox is with another system now. That row reports to the
// sender what becomes of it.
type Onward struct {
	Place   int              // among the recipients that were to be delivered
	QueueID envelope.QueueID // of the other message
	NextHop string
}

// State says what becomes of a recipient now.
type State int16

// The states of a recipient row.
const (
	StateWaiting   State = iota // for its due time
	StateActive                 // being tried, or its node died and the lease runs
	StateHeld                   // until released
	StateFinal                  // the sender is going to be told
	StateReporting              // is being told
)

// String returns the word for the state that `dirpost queue` shows.
func (s State) String() string {
	return [...]string{"waiting", "active", "held", "final", "reporting"}[s]
}

// Attempt is the lease of one recipient.
type Attempt struct {
	QueueID     envelope.QueueID
	N           int32 // of the recipient within its message
	Token       int32 // of the lease
	Attempts    int   // including this one
	Shard       int16
	Destination string // what claims are grouped by; see Destination
	Told        bool   // the sender knows of the delay
	Last        Reply  // the outcome before this one
	Recipient   Recipient
}

// Reply is what an attempt came to, as it stands in log and report.
type Reply struct {
	Code     int    // SMTP reply code of the next hop, 0: not said by one but found by us
	Enhanced string // enhanced status code (RFC 3463), always there once something was tried
	Text     string // one line, printable
	Relay    string // who was asked: "mx.example[192.0.2.1]:25", "local", "none"
}

// IsDelivered reports whether r is success.
func (r Reply) IsDelivered() bool { return r.class() == '2' }

// IsPermanent reports whether r is failure for good. What is neither this nor
// success is tried again.
func (r Reply) IsPermanent() bool { return r.class() == '5' }

func (r Reply) class() byte {
	if r.Enhanced == "" {
		return 0
	}
	return r.Enhanced[0]
}

// Outcome is what a transport reports of one recipient.
type Outcome struct {
	Reply Reply
	// Passed says that the next hop took over the duty to report success
	// (RFC 3461 §5.2.1).
	Passed bool
	// Down says that no host of the destination could be spoken to at all.
	Down bool
	// TLS is how the way was protected, "" if it was not.
	TLS string
	// Connect and Transmit are the time that it took to get there and to
	// send: the last two numbers of delays in the log.
	Connect, Transmit time.Duration
}

// Verdict says what becomes of a recipient after an attempt.
type Verdict int16

// The verdicts.
const (
	Done     Verdict = iota + 1 // delivered, or failed with nobody to tell: the row goes
	Deferred                    // try again after Pause
	Final                       // failed or delivered, and the sender is told
	Untried                     // give the lease back; the attempt does not count
	Told                        // Deferred, and the sender was told of the delay
)

// Settlement is the end of an Attempt.
type Settlement struct {
	Attempt Attempt
	Verdict Verdict
	Pause   time.Duration // until the next attempt; of Deferred, Told and Untried
	Reply   Reply
}
