package imapd

import (
	"context"

	"dirpost/mra/imapd/wire"
)

// namespace is NAMESPACE (RFC 2342 §5): mailboxes of one's own, of other people,
// and shared ones. Those of other people cannot be shared yet.
func namespace(_ context.Context, c *conn, dec *wire.Decoder) error {
	if err := dec.End(); err != nil {
		return err
	}
	c.untagged(`NAMESPACE (("" "/")) NIL (("` + sharedRoot + separator + `" "/"))`)
	return nil
}
