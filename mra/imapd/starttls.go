package imapd

import (
	"context"
	"errors"

	"dirpost/mra"
	"dirpost/mra/imapd/wire"
)

// startTLS begins TLS. What the client has sent behind the command, in clear,
// would be taken for commands inside TLS (RFC 9051 §11.1): it ends the
// connection, as does a handshake that fails.
func startTLS(ctx context.Context, c *conn, dec *wire.Decoder) error {
	if err := dec.End(); err != nil {
		return err
	}
	if c.mc.IsTLS() {
		return bad("TLS is active already")
	}
	if !c.mc.CanStartTLS() {
		return bad("TLS is not available")
	}
	c.tagged("OK", "", "Begin TLS negotiation now")
	if err := c.mc.StartTLS(ctx); err != nil {
		if errors.Is(err, mra.ErrInjection) {
			c.mc.Log.Warn("octets behind STARTTLS", "verb", "STARTTLS")
		}
		return &leaving{err}
	}
	return errAnswered
}
