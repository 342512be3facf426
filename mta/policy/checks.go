package policy

import (
	"context"
	"fmt"
	"strings"

	"dirpost/internal/envelope"
)

var (
	statusHelo       = envelope.Status{Code: 550, Enhanced: "5.7.1", Text: "HELO name refused"}
	statusSender     = envelope.Status{Code: 550, Enhanced: "5.1.8", Text: "Sender address needs a domain that exists"}
	statusNullSender = envelope.Status{Code: 452, Enhanced: "4.5.3", Text: "The null reverse-path takes fewer recipients, send the rest separately"}
)

// helo judges the name that a client gives itself. Those who have logged in and
// exempt clients call themselves as they like: a laptop knows no better.
type helo struct{ cfg Config }

func (helo) Name() string { return "helo" }

// Stages is Mail: a client may still log in after EHLO, and a refusal of EHLO
// only makes it try HELO.
func (helo) Stages() []Stage { return []Stage{Mail} }

func (h helo) Check(_ context.Context, _ Stage, f *Facts) Verdict {
	if f.Identity != nil || exempt(h.cfg.Exempt, f.Addr) {
		return Verdict{}
	}
	domain, err := envelope.ParseDomain(strings.TrimSuffix(f.Client.Helo, "."))
	if err != nil || numericTop(domain) {
		return h.cfg.HeloSyntax.judge(statusHelo, "neither a domain nor an address literal")
	}
	for _, own := range h.cfg.OwnNames {
		if strings.EqualFold(domain, own) {
			return h.cfg.HeloOwnName.judge(statusHelo, "client uses our name")
		}
	}
	return Verdict{}
}

// sender judges whether the sender's domain could exist.
type sender struct{ mode Mode }

func (sender) Name() string { return "sender" }

func (sender) Stages() []Stage { return []Stage{Mail} }

func (s sender) Check(_ context.Context, _ Stage, f *Facts) Verdict {
	a, ok := f.ReversePath.Address()
	if !ok || strings.HasPrefix(a.Domain, "[") {
		return Verdict{}
	}
	if !strings.Contains(a.Domain, ".") || numericTop(a.Domain) {
		return s.mode.judge(statusSender, "sender domain "+a.Domain)
	}
	return Verdict{}
}

// numericTop reports whether the last label is all digits: an IP address without
// brackets, never a domain (RFC 3696 §2).
func numericTop(domain string) bool {
	if strings.HasPrefix(domain, "[") {
		return false
	}
	top := domain[strings.LastIndexByte(domain, '.')+1:]
	return strings.Trim(top, "0123456789") == ""
}

// nullSender limits the recipients of the null reverse-path: a report goes to the
// one who sent the message (RFC 5321 §4.5.5). Deferring makes an honest client
// send the rest separately.
type nullSender struct{ max int }

func (nullSender) Name() string { return "null sender" }

func (nullSender) Stages() []Stage { return []Stage{Rcpt} }

func (n nullSender) Check(_ context.Context, _ Stage, f *Facts) Verdict {
	if f.Identity != nil || !f.ReversePath.IsNull() || !over(f.Recipients+1, n.max) {
		return Verdict{}
	}
	return Verdict{Action: Defer, Status: statusNullSender, Reason: "null reverse-path with several recipients"}
}

// hops finds messages that go round in circles (RFC 5321 §6.3).
type hops struct{ max int }

func (hops) Name() string { return "hops" }

func (hops) Stages() []Stage { return []Stage{Content} }

func (h hops) Check(_ context.Context, _ Stage, f *Facts) Verdict {
	if !over(f.Received, h.max) {
		return Verdict{}
	}
	return Verdict{Action: Reject, Status: envelope.StatusLoop, Reason: fmt.Sprintf("%d Received fields", f.Received)}
}
