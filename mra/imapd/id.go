package imapd

import (
	"context"
	"log/slog"

	"dirpost/mra/imapd/wire"
)

// maxIDFields bounds what a client says of itself (RFC 2971 §3.3).
const maxIDFields = 30

// id tells who we are. What the client says of itself is for the log.
func id(ctx context.Context, c *conn, dec *wire.Decoder) error {
	dec.Space()
	var said []any
	if dec.Peek() == '(' {
		dec.List(func() {
			key := dec.String()
			dec.Space()
			value, _ := dec.NString()
			if len(said) >= maxIDFields {
				dec.Fail("too many fields")
			}
			said = append(said, slog.String(clip(key, 30), clip(value, 1024)))
		})
	} else if _, ok := dec.NString(); ok {
		dec.Fail("expected a list or NIL")
	}
	if err := dec.End(); err != nil {
		return err
	}
	c.mc.Log.LogAttrs(ctx, slog.LevelDebug, "client identified", slog.Group("id", said...))
	c.untagged(`ID ("name" "Dirpost")`)
	return nil
}

// clip cuts s to at most n octets.
func clip(s string, n int) string {
	if len(s) > n {
		return s[:n]
	}
	return s
}
