package remote

import (
	"context"

	"dirpost/internal/envelope"
	"dirpost/mta/queue"
	"dirpost/mta/route"
)

// Probe asks the hosts of rt in turn, by MAIL from nobody and RCPT, whether they
// would take mail for to, and sends none. said reports that r is what one of them
// says about the recipient; otherwise it says why nobody could be asked.
func (t *Transport) Probe(ctx context.Context, rt *route.Route, to envelope.Address) (r queue.Reply, said bool) {
	r = queue.Reply{Enhanced: "4.4.1", Text: "no host of the destination was tried", Relay: "none"}
	if s := t.idle.take(rt.Name); s != nil {
		if r, said = t.probe(ctx, rt, s, to); said {
			return r, true
		}
	}
	for _, hop := range rt.Hops[:min(len(rt.Hops), maxSessions)] {
		if ctx.Err() != nil {
			break
		}
		s, tr := t.open(ctx, rt, hop)
		if tr != nil {
			r = tr.reply
			continue
		}
		if r, said = t.probe(ctx, rt, s, to); said {
			return r, true
		}
	}
	return r, false
}

// probe asks over one session, and keeps it for others if it is still good.
func (t *Transport) probe(ctx context.Context, rt *route.Route, s *session, to envelope.Address) (queue.Reply, bool) {
	stop := context.AfterFunc(ctx, func() { _ = s.raw.Close() })
	defer stop()
	relay := s.hop.String()
	mail, rcpt := "MAIL FROM:<>", "RCPT TO:<"+to.String()+">"
	if !to.IsASCII() {
		if !s.ext.smtpUTF8 {
			t.keep(rt, s, stop)
			return queue.Reply{Enhanced: enhancedAddress, Text: "next hop does not take internationalized addresses", Relay: relay}, true
		}
		mail += " SMTPUTF8"
	}
	s.messages++
	if s.tainted {
		if _, err := s.command("RSET"); err != nil {
			return s.broken("sending RSET", err).reply, false
		}
	}
	s.tainted = true
	said, err := s.command(mail)
	switch {
	case err != nil:
		return s.broken("sending MAIL", err).reply, false
	case said.class() != 2:
		return s.refused("MAIL", said).reply, false
	}
	if said, err = s.command(rcpt); err != nil {
		return s.broken("sending RCPT", err).reply, false
	}
	out := said.outcome(relay)
	if said.code == 421 || said.class() == 3 { // about the session
		s.close()
		out.Enhanced = "4.4.2"
		return out, false
	}
	t.keep(rt, s, stop)
	return out, true
}

// keep lets s wait for others, or ends it if it has served enough.
func (t *Transport) keep(rt *route.Route, s *session, stop func() bool) {
	if s.dead || s.r.Buffered() > 0 || s.messages >= t.config.MaxMessages {
		s.quit()
		return
	}
	stop()
	t.idle.put(rt.Name, s)
}
