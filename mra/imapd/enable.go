package imapd

import (
	"context"

	"dirpost/mra/imapd/wire"
)

// enable turns on extensions that change what the server sends (RFC 5161 §3.1).
// What is unknown is left out of the answer, and no error.
func enable(_ context.Context, c *conn, dec *wire.Decoder) error {
	enabled := "ENABLED"
	qresync := false
	for first := true; first || !dec.AtEnd(); first = false {
		dec.Space()
		switch string(dec.Word()) {
		case "CONDSTORE":
			if !c.condstore {
				c.enableCondstore()
				enabled += " CONDSTORE"
			}
		case "QRESYNC": // implies CONDSTORE (RFC 7162 §3.2.3)
			qresync = true
		}
	}
	if err := dec.End(); err != nil {
		return err
	}
	if qresync && !c.qresync {
		c.qresync = true
		c.enableCondstore()
		enabled += " QRESYNC"
	}
	c.untagged(enabled)
	return nil
}

// enableCondstore is the effect of a CONDSTORE enabling command: FETCH responses
// tell modseqs from now on. For a mailbox that is selected already the client
// must know where it begins (RFC 7162 §3.1.2).
func (c *conn) enableCondstore() {
	if c.condstore {
		return
	}
	c.condstore = true
	if c.sel != nil {
		c.untagged("OK [" + highestModSeq(c.sel.view.HighestModSeq()) + "] Highest")
	}
}
