package imapd

import (
	"context"

	"dirpost/mra/imapd/wire"
)

// logout ends the session: BYE comes before the OK (RFC 9051 §6.1.3).
func logout(_ context.Context, c *conn, dec *wire.Decoder) error {
	if err := dec.End(); err != nil {
		return err
	}
	c.bye("Logging out")
	c.tagged("OK", "", "LOGOUT completed")
	return errLogout
}
