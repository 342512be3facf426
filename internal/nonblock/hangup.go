package nonblock

import (
	"io"
	"net"
	"time"
)

// HangUp ends c such that the other side can read our last words: it says that
// nothing more comes, and takes what is still sent, for wait at most and until the
// other side ends too. A connection that is closed while input is unread is reset
// instead, and many systems then drop what they have received and not read yet
// (RFC 1122 §4.2.2.13). The caller closes c afterwards. It does nothing to what has
// no end of its own in each direction.
func HangUp(c net.Conn, wait time.Duration) {
	half, ok := c.(interface{ CloseWrite() error })
	if !ok || half.CloseWrite() != nil || c.SetReadDeadline(time.Now().Add(wait)) != nil {
		return
	}
	_, _ = io.Copy(io.Discard, struct{ io.Reader }{c}) // its end is all that we wait for
}
