package mtasts

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
	"time"
)

// The modes of a policy (RFC 8461 §5).
const (
	Enforce = "enforce" // mail is not sent where TLS fails
	Testing = "testing" // it is sent, and the failure reported (RFC 8460)
	None    = "none"    // there is no policy any more
)

// Path is where a policy stands, on the host "mta-sts." and the domain (RFC 8461 §3.3).
const Path = "/.well-known/mta-sts.txt"

// Policy is what a domain promises (RFC 8461 §3.2).
type Policy struct {
	Mode   string
	MX     []string      // host names; "*." stands for one label
	MaxAge time.Duration // how long a sender may remember it, at most a year
}

// String is the file.
func (p Policy) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "version: STSv1\r\nmode: %s\r\n", p.Mode)
	for _, mx := range p.MX {
		fmt.Fprintf(&b, "mx: %s\r\n", mx)
	}
	fmt.Fprintf(&b, "max_age: %d\r\n", int64(p.MaxAge/time.Second))
	return b.String()
}

// ID is another one when the policy is another one, by which senders know that they
// must fetch it again (RFC 8461 §3.1).
func (p Policy) ID() string {
	sum := sha256.Sum256([]byte(p.String()))
	return hex.EncodeToString(sum[:10])
}

// Record is the text of the TXT record at "_mta-sts." and the domain.
func (p Policy) Record() string { return "v=STSv1; id=" + p.ID() + ";" }
