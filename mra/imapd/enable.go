package imapd

import (
	"context"

	"dirpost/mra/imapd/wire"
)

// enable turns on extensions that change what the server sends (RFC 5161 §3.1).
// What is unknown is left out of the answer, and no error.
func enable(_ context.Context, c *conn, dec *wire.Decoder) error {
	enabled := "ENABLED"
	for first := true; first || !dec.AtEnd(); first = false {
		dec.Space()
		if string(dec.Word()) == "CONDSTORE" && !c.condstore {
			c.condstore = true
			enabled += " CONDSTORE"
		}
	}
	if err := dec.End(); err != nil {
		return err
	}
	c.untagged(enabled)
	return nil
}
