package envelope

import "errors"

// QueueID names one accepted message for ever: in its Received field, in the
// 250, in every log line, in queue and message store. It is a positive 63-bit
// number, 42 bits of milliseconds and 21 random ones, made by the node.
type QueueID int64

// The alphabet has no vowels and no look-alikes, so that an id is never a word
// and can be read out on the telephone; it sorts like the number.
const queueIDAlphabet = "0123456789bcdfghjkmnpqrstvwxyz"

// ErrQueueID reports a text that is no queue id.
var ErrQueueID = errors.New("not a queue id")

// String returns the id in 13 characters.
func (q QueueID) String() string {
	var b [13]byte
	n := uint64(q)
	for i := len(b) - 1; i >= 0; i-- {
		b[i] = queueIDAlphabet[n%uint64(len(queueIDAlphabet))]
		n /= uint64(len(queueIDAlphabet))
	}
	return string(b[:])
}

// ParseQueueID is the reverse of String.
func ParseQueueID(s string) (QueueID, error) {
	if len(s) != 13 {
		return 0, ErrQueueID
	}
	var n uint64
	for i := 0; i < len(s); i++ {
		d := -1
		for j := 0; j < len(queueIDAlphabet); j++ {
			if queueIDAlphabet[j] == s[i] {
				d = j
				break
			}
		}
		if d < 0 || n > (1<<63-1-uint64(d))/uint64(len(queueIDAlphabet)) {
			return 0, ErrQueueID
		}
		n = n*uint64(len(queueIDAlphabet)) + uint64(d)
	}
	return QueueID(n), nil
}
