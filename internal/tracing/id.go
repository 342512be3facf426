package tracing

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"math"
)

// ids are those of a trace.
type ids struct {
	trace [16]byte
	root  [8]byte // of the span that all others are part of
}

// idsOf derives the ids from a queue id or session id.
func idsOf(id string) (out ids) {
	sum := sha256.Sum256([]byte(id))
	copy(out.trace[:], sum[:16])
	copy(out.root[:], sum[16:24])
	return out
}

// TraceID returns the trace id, in hexadecimal, of a queue id or session id.
func TraceID(id string) string {
	of := idsOf(id)
	return hex.EncodeToString(of.trace[:])
}

// in reports whether the trace is in a sample of that share. All nodes agree.
func (i ids) in(share float64) bool {
	return share >= 1 || float64(binary.BigEndian.Uint64(i.trace[8:])) < share*math.MaxUint64
}
