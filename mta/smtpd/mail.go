package smtpd

import (
	"context"
	"time"

	"dirpost/internal/envelope"
	"dirpost/mta/policy"
	"dirpost/mta/smtpd/wire"
)

var (
	statusNested     = envelope.Status{Code: 503, Enhanced: "5.5.1", Text: "Nested MAIL command"}
	statusNeedMail   = envelope.Status{Code: 503, Enhanced: "5.5.1", Text: "Need MAIL first"}
	statusChunked    = envelope.Status{Code: 503, Enhanced: "5.5.1", Text: "BDAT has begun"}
	statusMessages   = envelope.Status{Code: 421, Enhanced: "4.7.0", Text: "Too many messages in one connection"}
	statusRecipients = envelope.Status{Code: 452, Enhanced: "4.5.3", Text: "Too many recipients, send the rest separately"}
	statusSenderOk   = envelope.Status{Code: 250, Enhanced: "2.1.0", Text: "Ok"}
	statusRcptOk     = envelope.Status{Code: 250, Enhanced: "2.1.5", Text: "Ok"}
)

// mailFrom begins a transaction.
func mailFrom(ctx context.Context, c *conn, arg []byte) error {
	if c.mail.tx != nil {
		// RFC 5321 §4.1.4: MAIL within a transaction is an error, and the
		// transaction goes on.
		return c.refuse(ctx, "MAIL", envelope.Because(statusNested, nil))
	}
	if c.messages >= c.srv.cfg.MaxMessages {
		c.refuse(ctx, "MAIL", envelope.Because(statusMessages, nil))
		return c.end(errGone)
	}
	env, err := wire.ParseMail(string(arg), c.srv.cfg.Role == MSA)
	if err != nil {
		return c.refuse(ctx, "MAIL", err)
	}
	if env.Size > c.srv.cfg.MaxSize { // RFC 1870 §6.1
		return c.refuse(ctx, "MAIL", envelope.Because(envelope.StatusTooBig, nil))
	}
	c.client.Received = time.Now()
	c.client.Protocol = c.protocol(env.SMTPUTF8)
	c.facts.ReversePath, c.facts.Params, c.facts.Recipients = env.ReversePath, &c.mail.env, 0
	c.mail.env = env
	v := c.srv.deps.Policy.At(ctx, policy.Mail, &c.facts)
	if v.Action >= policy.Defer {
		c.mail = mail{}
		return c.refuse(ctx, "MAIL", verdictError(v))
	}
	tx, err := c.srv.deps.Door.Start(&c.client, c.id, env)
	if err != nil {
		c.mail = mail{}
		return c.refuse(ctx, "MAIL", err)
	}
	c.mail.tx, c.mail.junk = tx, v
	c.busy.Store(true)
	return c.reply(statusSenderOk)
}

// protocol is the WITH clause of the Received field (RFC 3848; RFC 6531 §4.3 for
// the UTF8 forms). HELO has one form only.
func (c *conn) protocol(utf8 bool) string {
	if !c.ehlo {
		return "SMTP"
	}
	forms := &[8]string{"ESMTP", "ESMTPS", "ESMTPA", "ESMTPSA", "UTF8SMTP", "UTF8SMTPS", "UTF8SMTPA", "UTF8SMTPSA"}
	i := 0
	if c.client.TLS != "" {
		i |= 1
	}
	if c.id != nil {
		i |= 2
	}
	if utf8 {
		i |= 4
	}
	return forms[i]
}

// rcptTo adds a recipient.
func rcptTo(ctx context.Context, c *conn, arg []byte) error {
	switch {
	case c.mail.tx == nil:
		return c.refuse(ctx, "RCPT", envelope.Because(statusNeedMail, nil))
	case c.mail.chunked: // RFC 3030 §2: only BDAT or RSET may follow BDAT
		return c.refuse(ctx, "RCPT", envelope.Because(statusChunked, nil))
	case c.mail.tx.Recipients() >= c.srv.cfg.MaxRecipients:
		// RFC 5321 §4.5.3.1.10: 452, so that the rest comes in another
		// transaction. It is no mistake of the client, and is not logged:
		// there may be thousands.
		return c.reply(statusRecipients)
	}
	r, err := wire.ParseRcpt(string(arg), c.srv.cfg.PostmasterDomain, c.mail.env.SMTPUTF8)
	if err != nil {
		return c.refuse(ctx, "RCPT", err)
	}
	c.facts.Recipient, c.facts.Recipients = r.Address, c.mail.tx.Recipients()
	v := c.srv.deps.Policy.At(ctx, policy.Rcpt, &c.facts)
	if v.Action >= policy.Defer {
		return c.refuse(ctx, "RCPT", verdictError(v))
	}
	if v.Action == policy.Junk {
		c.mail.junk = v
	}
	ctx, cancel := context.WithTimeout(ctx, c.srv.cfg.RcptTimeout)
	defer cancel()
	if err := c.mail.tx.AddRecipient(ctx, r); err != nil {
		return c.refuse(ctx, "RCPT", err)
	}
	return c.reply(statusRcptOk)
}
