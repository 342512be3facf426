package imapd

import (
	"context"
	"slices"
	"strconv"
	"strings"

	"dirpost/mra/imapd/wire"
)

// What is announced. Each name is that of an RFC: LITERAL+ 7888, ID 2971,
// ENABLE 5161, SASL-IR 4959, IDLE 2177, NAMESPACE 2342, UIDPLUS 4315, MOVE 6851,
// UNSELECT 3691, CHILDREN 3348, SPECIAL-USE and CREATE-SPECIAL-USE 6154,
// LIST-EXTENDED 5258, LIST-STATUS 5819, STATUS=SIZE 8438, ESEARCH 4731,
// SEARCHRES 5182, WITHIN 5032, MULTIAPPEND 3502, CONDSTORE and QRESYNC 7162, SAVEDATE 8514.
const (
	strangerCapabilities = "IMAP4rev1 LITERAL+ ID ENABLE SASL-IR"
	personCapabilities   = "IMAP4rev1 LITERAL+ ID ENABLE IDLE NAMESPACE UIDPLUS MOVE UNSELECT CHILDREN " +
		"SPECIAL-USE CREATE-SPECIAL-USE LIST-EXTENDED LIST-STATUS STATUS=SIZE ESEARCH SEARCHRES WITHIN " +
		"MULTIAPPEND CONDSTORE QRESYNC SAVEDATE"
)

// capabilities is what the client may use now.
func (c *conn) capabilities() string {
	if c.state != notAuthenticated {
		return personCapabilities + " APPENDLIMIT=" + strconv.FormatInt(c.srv.config.MaxMessage, 10) // RFC 7889 §2
	}
	var b strings.Builder
	b.WriteString(strangerCapabilities)
	if c.mc.CanStartTLS() {
		b.WriteString(" STARTTLS")
	}
	mechanisms := c.srv.bridge.Mechanisms(c.authConn())
	if !slices.Contains(mechanisms, "PLAIN") {
		b.WriteString(" LOGINDISABLED")
	}
	for _, m := range mechanisms {
		b.WriteString(" AUTH=")
		b.WriteString(m)
	}
	return b.String()
}

func capability(_ context.Context, c *conn, dec *wire.Decoder) error {
	if err := dec.End(); err != nil {
		return err
	}
	c.untagged("CAPABILITY " + c.capabilities())
	return nil
}
