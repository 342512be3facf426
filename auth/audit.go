package auth

import (
	"context"
	"log/slog"
	"strings"
	"time"

	"dirpost/internal/envelope"
	"dirpost/internal/event"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics count what the audit says line by line. All labels are of closed sets:
// nothing that a client has said is among them.
type metrics struct {
	logins  *prometheus.CounterVec   // protocol, mechanism, outcome, reason
	seconds *prometheus.HistogramVec // mechanism, outcome, how
}

func newMetrics() metrics {
	return metrics{
		logins: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "dirpost_auth_logins_total", Help: "Login decisions by protocol, mechanism, outcome and class of reason.",
		}, []string{"protocol", "mechanism", "outcome", "reason"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "dirpost_auth_login_seconds", Help: "Time of a login decision, without the wait before a refusal is answered.",
			Buckets: []float64{.0001, .0005, .001, .002, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10},
		}, []string{"mechanism", "outcome", "how"}),
	}
}

// Collectors are the metrics of the bridge, to be registered by the caller.
func (b *Bridge) Collectors() []prometheus.Collector {
	return []prometheus.Collector{b.metrics.logins, b.metrics.seconds}
}

// The outcomes of a login.
const (
	outcomeAccepted = "accepted"
	outcomeRefused  = "refused" // the client's problem
	outcomeFailed   = "failed"  // ours: it was not judged
)

// emit writes the one audit line of a login, and counts it. A temporary failure is
// ours, and somebody should look.
func (b *Bridge) emit(ctx context.Context, c Conn, a *attempt, err error) {
	var took time.Duration
	if !a.start.IsZero() {
		took = b.now().Sub(a.start)
	}
	e := event.Event{Level: slog.LevelInfo, Room: "auth", Msg: "login", Trace: c.Session, Span: event.Span{Name: "login", Took: took}}
	outcome, st := outcomeAccepted, envelope.Status{}
	if err != nil {
		e.Msg, outcome, st = "login refused", outcomeRefused, envelope.StatusOf(err)
		if st.IsTemporary() && st != ErrHours.Status {
			e.Level, outcome = slog.LevelWarn, outcomeFailed
		}
		if a.reason == "" {
			a.reason = "internal" // nobody has said what it is: err does
		}
	}
	e.Attrs = append(b.auditWho(c, a),
		slog.String("outcome", outcome),
		slog.Int64("ms", took.Milliseconds()))
	if n := a.notice; n != nil && err == nil {
		if n.ExpiresIn > 0 {
			e.Attrs = append(e.Attrs, slog.Duration("expires_in", n.ExpiresIn))
		}
		if n.Grace >= 0 {
			e.Attrs = append(e.Attrs, slog.Int("grace", n.Grace))
		}
	}
	if err != nil {
		e.Attrs = append(e.Attrs, slog.Int("code", st.Code), slog.String("reason", a.reason), slog.Any("err", err))
	}
	b.events.Emit(ctx, e)
	b.metrics.logins.WithLabelValues(c.Protocol, a.mech, outcome, a.reason).Inc()
	b.metrics.seconds.WithLabelValues(a.mech, outcome, a.how).Observe(took.Seconds())
}

// auditWho says who it was, from where and how.
func (b *Bridge) auditWho(c Conn, a *attempt) []slog.Attr {
	attrs := make([]slog.Attr, 0, 20)
	attrs = append(attrs,
		slog.String("session", c.Session),
		slog.String("client", c.Client.String()),
		slog.String("door", b.Door(c).String()),
		slog.String("protocol", c.Protocol),
		slog.Bool("tls", c.TLS),
		slog.String("mech", a.mech),
		slog.String("authcid", shorten(a.authcid)))
	if a.authzid != "" {
		attrs = append(attrs, slog.String("authzid", shorten(a.authzid)))
	}
	who := a.entry
	if a.target != nil {
		who = a.target
	}
	if who != nil {
		attrs = append(attrs, slog.String("user", who.Primary.String()), slog.String("person", string(who.Key)))
	}
	if a.target != nil && a.entry != nil { // somebody else acts as who
		attrs = append(attrs, slog.String("actor", string(a.entry.Key)))
	}
	if d := c.Device.String(); d != "" {
		attrs = append(attrs, slog.String("device", d))
	}
	if a.proof != 0 {
		attrs = append(attrs, slog.String("proof", a.proof.String()))
	}
	if a.app != nil {
		attrs = append(attrs, slog.String("app_password", a.app.ID.String()))
	}
	if a.how != "" {
		attrs = append(attrs, slog.String("how", a.how))
	}
	return attrs
}

// shorten bounds what a stranger can write into the log.
func shorten(s string) string {
	const most = 128
	if len(s) > most {
		return strings.ToValidUTF8(s[:most], "") + "…"
	}
	return s
}
