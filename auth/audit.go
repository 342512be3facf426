package auth

import (
	"context"
	"log/slog"
	"strings"

	"dirpost/internal/envelope"
	"dirpost/internal/event"
)

// emit writes the one audit line of a login. A temporary failure is ours, and
// somebody should look.
func (b *Bridge) emit(ctx context.Context, c Conn, a *attempt, err error) {
	e := event.Event{Level: slog.LevelInfo, Room: "auth", Msg: "login", Trace: c.Session, Attrs: []slog.Attr{
		slog.String("session", c.Session),
		slog.String("client", c.Client.String()),
		slog.String("protocol", c.Protocol),
		slog.Bool("tls", c.TLS),
		slog.String("mech", a.mech),
		slog.String("authcid", shorten(a.authcid)),
	}}
	if a.entry != nil {
		e.Attrs = append(e.Attrs, slog.String("user", a.entry.Primary.String()), slog.String("person", string(a.entry.Key)))
	}
	if a.how != "" {
		e.Attrs = append(e.Attrs, slog.String("how", a.how))
	}
	if !a.start.IsZero() {
		e.Attrs = append(e.Attrs, slog.Int64("ms", b.now().Sub(a.start).Milliseconds()))
	}
	if err != nil {
		st := envelope.StatusOf(err)
		e.Msg = "login refused"
		if st.IsTemporary() {
			e.Level = slog.LevelWarn
		}
		e.Attrs = append(e.Attrs, slog.Int("code", st.Code), slog.String("reason", a.reason), slog.Any("err", err))
	}
	b.events.Emit(ctx, e)
}

// shorten bounds what a stranger can write into the log.
func shorten(s string) string {
	const most = 128
	if len(s) > most {
		return strings.ToValidUTF8(s[:most], "") + "…"
	}
	return s
}
