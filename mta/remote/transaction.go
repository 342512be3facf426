package remote

import (
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"dirpost/internal/blob"
	"dirpost/internal/envelope"
	"dirpost/mta/queue"
)

// transaction is one MAIL, RCPT…, DATA of a session.
type transaction struct {
	s    *session
	mail string
	rcpt []string
	body func(w io.Writer) error

	// What came of it. A reply with code 0 was not heard.
	mailReply, dataReply, final reply
	rcptReplies                 []reply
	err                         error // of the connection
	doing                       string
	sourceErr                   error // of body
	uncertain                   bool  // all was sent, the last reply was not heard
}

// run has the conversation. Afterwards every reply that was heard is in its
// place, and the session is dead or ready for the next transaction.
func (t *transaction) run() {
	t.rcptReplies = make([]reply, len(t.rcpt))
	t.s.messages++
	if t.s.tainted {
		if _, err := t.s.command("RSET"); !t.ok("sending RSET", err) {
			return
		}
	}
	t.s.tainted = true
	start := t.stepwise
	if t.s.ext.pipelining {
		start = t.pipelined
	}
	if !start() || t.dataReply.code != 354 {
		return
	}
	t.content()
}

// ok records an error of the connection while doing what.
func (t *transaction) ok(doing string, err error) bool {
	if err == nil {
		return true
	}
	t.err, t.doing = err, doing
	t.s.close()
	return false
}

// stepwise waits for each reply before it says the next thing.
func (t *transaction) stepwise() bool {
	var err error
	if t.mailReply, err = t.s.command(t.mail); !t.ok("sending MAIL", err) || t.mailReply.class() != 2 {
		return false
	}
	accepted := 0
	for i, line := range t.rcpt {
		if t.rcptReplies[i], err = t.s.command(line); !t.ok("sending RCPT", err) {
			return false
		}
		if t.rcptReplies[i].code == 421 {
			return false
		}
		if t.rcptReplies[i].class() == 2 {
			accepted++
		}
	}
	if accepted == 0 {
		return false
	}
	t.dataReply, err = t.s.command("DATA")
	return t.ok("sending DATA", err)
}

// pipelined says MAIL, all RCPT and DATA at once (RFC 2920 §3.1): they fit what
// the socket takes, so neither side waits for the other to read.
func (t *transaction) pipelined() bool {
	w := t.s.w
	for _, line := range append([]string{t.mail}, t.rcpt...) {
		_, _ = w.WriteString(line)
		_, _ = w.WriteString("\r\n")
	}
	_, _ = w.WriteString("DATA\r\n")
	if !t.ok("sending the envelope", w.Flush()) {
		return false
	}
	var err error
	timeouts := t.s.config.Timeouts
	if t.mailReply, err = t.s.read(timeouts.Command); !t.ok("sending MAIL", err) {
		return false
	}
	accepted := 0
	for i := range t.rcpt {
		if t.rcptReplies[i], err = t.s.read(timeouts.Command); !t.ok("sending RCPT", err) {
			return false
		}
		if t.rcptReplies[i].class() == 2 {
			accepted++
		}
	}
	if t.dataReply, err = t.s.read(timeouts.Data); !t.ok("sending DATA", err) {
		return false
	}
	if t.mailReply.class() == 2 && accepted > 0 {
		return true
	}
	if t.dataReply.code == 354 {
		// RFC 2920 §3.1: the server wants content for nobody; give it none.
		t.dataReply = reply{}
		_, err := t.s.command(".")
		t.ok("ending an empty message", err)
	}
	return false
}

// content sends the message and hears what becomes of it. When the source of
// the message fails the connection is cut: whatever was sent must not be taken
// for the whole.
func (t *transaction) content() {
	d := &dotWriter{w: t.s.w}
	if err := t.body(d); err != nil {
		t.s.close()
		var se *sourceError
		if errors.As(err, &se) {
			t.sourceErr = se.err
		} else {
			t.err, t.doing = err, "sending the message"
		}
		return
	}
	if !t.ok("sending the message", d.close()) {
		return
	}
	var err error
	if t.final, err = t.s.read(t.s.config.Timeouts.Final); !t.ok("waiting for the reply to the message, which may arrive twice", err) {
		t.uncertain = true
		return
	}
	t.s.tainted = false
}

// sourceError is an error of ours while the message was read, not of the
// connection while it was written.
type sourceError struct{ err error }

func (e *sourceError) Error() string { return e.err.Error() }

// stream copies r to w and tells whose error it was.
func stream(w io.Writer, r *blob.Reader) error {
	watched := &watchedWriter{w: w}
	if _, err := r.WriteTo(watched); err != nil {
		if watched.err != nil {
			return watched.err
		}
		return &sourceError{fmt.Errorf("read body: %w", err)}
	}
	return nil
}

type watchedWriter struct {
	w   io.Writer
	err error
}

func (w *watchedWriter) Write(p []byte) (int, error) {
	n, err := w.w.Write(p)
	if err != nil {
		w.err = err
	}
	return n, err
}

// mailLine is MAIL with the parameters that the server knows.
func mailLine(e *extensions, m *queue.Message, c *content, utf8 bool) string {
	var b strings.Builder
	b.WriteString("MAIL FROM:<")
	b.WriteString(m.ReversePath.String())
	b.WriteString(">")
	if e.hasSize {
		b.WriteString(" SIZE=")
		b.WriteString(strconv.FormatInt(c.size, 10))
	}
	if c.eightBit && e.eightBit {
		b.WriteString(" BODY=8BITMIME")
	}
	if utf8 && e.smtpUTF8 {
		b.WriteString(" SMTPUTF8")
	}
	if e.dsn {
		switch m.Return {
		case envelope.ReturnFull:
			b.WriteString(" RET=FULL")
		case envelope.ReturnHeaders:
			b.WriteString(" RET=HDRS")
		}
		if m.EnvID != "" && isPrintableASCII(m.EnvID) {
			b.WriteString(" ENVID=")
			b.WriteString(xtext(m.EnvID))
		}
	}
	return b.String()
}

// rcptLine is RCPT with the parameters that the server knows (RFC 3461 §4).
func rcptLine(e *extensions, r *queue.Recipient) string {
	var b strings.Builder
	b.WriteString("RCPT TO:<")
	b.WriteString(r.Address.String())
	b.WriteString(">")
	if !e.dsn {
		return b.String()
	}
	if r.Notify != 0 {
		b.WriteString(" NOTIFY=")
		b.WriteString(notify(r.Notify))
	}
	switch {
	case r.Original == "":
	case isPrintableASCII(r.Original) && !strings.EqualFold(r.OriginalType, "utf-8"):
		b.WriteString(" ORCPT=rfc822;")
		b.WriteString(xtext(r.Original))
	default:
		b.WriteString(" ORCPT=utf-8;")
		b.WriteString(utf8xtext(r.Original))
	}
	return b.String()
}

func notify(n envelope.Notify) string {
	if n&envelope.NotifyNever != 0 {
		return "NEVER"
	}
	var words []string
	for _, w := range []struct {
		bit  envelope.Notify
		word string
	}{{envelope.NotifySuccess, "SUCCESS"}, {envelope.NotifyFailure, "FAILURE"}, {envelope.NotifyDelay, "DELAY"}} {
		if n&w.bit != 0 {
			words = append(words, w.word)
		}
	}
	return strings.Join(words, ",")
}

// xtext encodes printable ASCII (RFC 3461 §4).
func xtext(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if c := s[i]; c > ' ' && c < 0x7f && c != '+' && c != '=' {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "+%02X", c)
		}
	}
	return b.String()
}

// utf8xtext encodes an internationalized address in ASCII (RFC 6533 §3,
// utf-8-addr-xtext).
func utf8xtext(s string) string {
	var b strings.Builder
	for _, r := range s {
		switch {
		case r > ' ' && r < 0x7f && r != '+' && r != '=' && r != '\\':
			b.WriteRune(r)
		default:
			fmt.Fprintf(&b, `\x{%X}`, r)
		}
	}
	return b.String()
}

func isPrintableASCII(s string) bool {
	for i := 0; i < len(s); i++ {
		if s[i] < ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}
