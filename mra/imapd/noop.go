package imapd

import (
	"context"

	"dirpost/mra/imapd/wire"
)

// noop is NOOP and CHECK: what has changed is told after every command.
func noop(_ context.Context, _ *conn, dec *wire.Decoder) error { return dec.End() }
