package main

import (
	"context"
	"fmt"
	"net"
	"strings"
	"sync"
	"time"

	"dirpost/internal/envelope"
)

// wellKnown are the ports at which clients and other servers expect a mail server.
var wellKnown = []struct {
	port, protocol string
	implicit       bool
	without        string // what does not work where it is closed
}{
	{"25", "smtp", false, "no mail comes from outside"},
	{"465", "submission", true, "people outside cannot send"},
	{"587", "submission", false, "clients that want STARTTLS cannot send; 465 is enough for the others"},
	{"993", "imap", true, "people outside cannot read"},
	{"443", "http", true, "clients do not set themselves up, MTA-STS does not hold"},
	{"80", "http", false, "certificates by HTTP-01 are not issued"},
}

// probeOutside looks at a server as strangers see it. It needs no configuration: it
// is for another machine, on the other side of the firewall.
func probeOutside(ctx context.Context, o doctorOptions, std streams) error {
	host, err := envelope.ParseDomain(o.outside)
	if err != nil {
		if ip := net.ParseIP(o.outside); ip == nil {
			return fmt.Errorf("--outside %s: is neither a host name nor an address", o.outside)
		}
		host = o.outside
	}
	d := &doctor{doctorOptions: o}
	d.strangers(ctx, host)
	r := newReport(o.json, std)
	r.print(d.findings())
	return r.end()
}

// strangers knocks at the well-known ports of a host.
func (d *doctor) strangers(ctx context.Context, host string) {
	found := make([]finding, len(wellKnown))
	var wg sync.WaitGroup
	for i, w := range wellKnown {
		wg.Go(func() { found[i] = strangerAt(ctx, host, w.port, w.protocol, w.implicit, w.without) })
	}
	wg.Wait()
	for _, f := range found {
		d.add(f.Subject, f.State, f.Do, f.Text)
	}
}

func strangerAt(ctx context.Context, host, port, protocol string, implicit bool, without string) finding {
	subject := "port " + port
	state, err := knock(ctx, net.JoinHostPort(host, port), protocol, host, implicit)
	if err != nil {
		f := finding{subject, stateWarning, fmt.Sprintf("%s: %v: %s", host, err, without), "open it in the firewall, or forward it; the server's own 'dirpost doctor' says whether somebody listens there"}
		if port == "25" {
			f.State = stateError
			f.Do += ". Is it closed from here on, as most providers do for their customers? Then try from elsewhere"
		}
		return f
	}
	text := host + " answers with " + strings.ToUpper(protocol)
	if state != nil && len(state.PeerCertificates) > 0 {
		leaf := state.PeerCertificates[0]
		left := time.Until(leaf.NotAfter)
		text += fmt.Sprintf(", its certificate ends in %s", span(left))
		if err := leaf.VerifyHostname(host); err != nil || left <= 0 {
			return finding{subject, stateError, text + ", and is not for " + host, "renew it, with this name"}
		}
	}
	return finding{subject, stateOK, text, ""}
}
