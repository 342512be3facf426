package lmtpd

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/emersion/go-smtp"

	"dirpost/internal/envelope"
	"dirpost/internal/event"
)

var (
	statusNested     = envelope.Status{Code: 503, Enhanced: "5.5.1", Text: "Nested MAIL command"}
	statusNeedMail   = envelope.Status{Code: 503, Enhanced: "5.5.1", Text: "Need MAIL first"}
	statusBadSender  = envelope.Status{Code: 501, Enhanced: "5.1.7", Text: "Bad sender address syntax"}
	statusNotUTF8    = envelope.Status{Code: 553, Enhanced: "5.6.7", Text: "Internationalized address needs SMTPUTF8"}
	statusBinary     = envelope.Status{Code: 555, Enhanced: "5.5.4", Text: "BINARYMIME not offered"}
	statusIncomplete = envelope.Status{Code: 451, Enhanced: "4.4.2", Text: "Message did not come to its end"}
)

// session is one LMTP session. It holds the connection's context, since go-smtp's
// interface has none.
type session struct {
	srv    *Server
	ctx    context.Context
	cancel context.CancelFunc
	conn   *conn
	client envelope.Client

	started  time.Time
	messages atomic.Int64 // accepted
	refused  atomic.Int64 // commands, messages and recipients

	mu    sync.Mutex // guards the rest, against Reset and Logout beside the content
	tx    Transaction
	utf8  bool
	rcpts []string // as go-smtp knows them, in order
}

func (s *Server) newSession(ctx context.Context, c *smtp.Conn) *session {
	ss := &session{srv: s, conn: c.Conn().(*conn), started: time.Now()}
	ss.ctx, ss.cancel = context.WithCancel(ctx)
	ss.client = envelope.Client{Helo: c.Hostname(), Protocol: "LMTP", Session: ss.conn.session}
	if a, local := ss.conn.addr(); !local {
		ss.client.Addr = a.String()
	}
	return ss
}

// Mail implements smtp.Session.
func (s *session) Mail(from string, opts *smtp.MailOptions) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.tx != nil {
		return s.refuse("MAIL", envelope.Because(statusNested, nil))
	}
	env, err := mailParams(from, opts)
	if err != nil {
		return s.refuse("MAIL", err)
	}
	s.client.Received = time.Now()
	tx, err := s.srv.door.Start(&s.client, env)
	if err != nil {
		return s.refuse("MAIL", err)
	}
	s.srv.wg.Add(1)
	s.tx, s.utf8 = tx, env.SMTPUTF8
	s.conn.busy.Store(true)
	return nil
}

// mailParams makes an envelope of what go-smtp understood. Addresses are read
// again: its parser lets through what is none.
func mailParams(from string, opts *smtp.MailOptions) (envelope.Envelope, error) {
	env := envelope.Envelope{SMTPUTF8: opts.UTF8, EnvID: opts.EnvelopeID, Size: opts.Size}
	if from != "" {
		a, err := envelope.ParseAddress(from)
		if err != nil {
			return env, envelope.Because(statusBadSender, err)
		}
		env.ReversePath = envelope.ReversePathOf(a)
		if !opts.UTF8 && !ascii(from) {
			return env, envelope.Because(statusNotUTF8, nil)
		}
	}
	switch opts.Body {
	case smtp.Body8BitMIME:
		env.Body = envelope.Body8BitMIME
	case smtp.BodyBinaryMIME:
		return env, envelope.Because(statusBinary, nil)
	}
	switch opts.Return {
	case smtp.DSNReturnFull:
		env.Return = envelope.ReturnFull
	case smtp.DSNReturnHeaders:
		env.Return = envelope.ReturnHeaders
	}
	return env, nil
}

// Rcpt implements smtp.Session.
func (s *session) Rcpt(to string, opts *smtp.RcptOptions) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.tx == nil {
		return s.refuse("RCPT", envelope.Because(statusNeedMail, nil))
	}
	a, err := envelope.ParseAddress(to)
	if err != nil {
		return s.refuse("RCPT", envelope.Because(envelope.StatusBadAddress, err))
	}
	if !s.utf8 && !ascii(to) {
		return s.refuse("RCPT", envelope.Because(statusNotUTF8, nil))
	}
	r := envelope.Recipient{Address: a, Notify: notify(opts.Notify)}
	if opts.OriginalRecipient != "" && clean(opts.OriginalRecipient) {
		r.Original, r.OriginalType = opts.OriginalRecipient, strings.ToLower(string(opts.OriginalRecipientType))
	}
	ctx, cancel := context.WithTimeout(s.ctx, s.srv.cfg.RcptTimeout)
	defer cancel()
	if err := s.tx.AddRecipient(ctx, r); err != nil {
		return s.refuse("RCPT", err)
	}
	s.rcpts = append(s.rcpts, to)
	return nil
}

func notify(words []smtp.DSNNotify) (n envelope.Notify) {
	for _, w := range words {
		switch w {
		case smtp.DSNNotifyNever:
			n |= envelope.NotifyNever
		case smtp.DSNNotifySuccess:
			n |= envelope.NotifySuccess
		case smtp.DSNNotifyFailure:
			n |= envelope.NotifyFailure
		case smtp.DSNNotifyDelayed:
			n |= envelope.NotifyDelay
		}
	}
	return n
}

// Reset implements smtp.Session: RSET, and the end of each transaction. go-smtp
// calls it beside LMTPData too, which has taken the transaction with it then.
func (s *session) Reset() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.tx != nil {
		s.finish(s.tx)
	}
	s.tx, s.rcpts, s.utf8 = nil, nil, false
	s.conn.busy.Store(false)
}

// finish gives up what is left of tx. The server waits for it at shutdown.
func (s *session) finish(tx Transaction) {
	tx.Abort()
	s.srv.wg.Done()
}

// Logout implements smtp.Session: it writes the session's one line.
func (s *session) Logout() error {
	s.Reset()
	defer s.cancel()
	if s.srv.events == nil {
		return nil
	}
	took := time.Since(s.started)
	s.srv.events.Emit(s.ctx, event.Event{Level: slog.LevelInfo, Room: "mda/lmtpd", Msg: "session ended", Trace: s.client.Session, Attrs: []slog.Attr{
		slog.String("session", s.client.Session), slog.String("client", s.client.Addr), slog.String("helo", s.client.Helo),
		slog.Int64("messages", s.messages.Load()), slog.Int64("refused", s.refused.Load()), slog.Duration("delay", took),
	}, Span: event.Span{Name: "lmtp session", Root: true, Took: took}})
	return nil
}

// Data implements smtp.Session. An LMTP server never calls it.
func (s *session) Data(io.Reader) error {
	return smtpError(envelope.Because(statusNeedMail, nil))
}

// LMTPData implements smtp.LMTPSession: takes the content and gives each recipient
// its answer (RFC 2033 §4.2).
func (s *session) LMTPData(r io.Reader, status smtp.StatusCollector) error {
	s.mu.Lock()
	tx, rcpts := s.tx, s.rcpts
	s.tx, s.rcpts = nil, nil
	s.mu.Unlock()
	if tx == nil {
		return smtpError(envelope.Because(statusNeedMail, nil))
	}
	defer s.finish(tx)
	tx.Begin(s.ctx)
	if _, err := io.Copy(writeOnly{tx}, r); err != nil {
		return s.refuse("DATA", contentError(err))
	}
	ctx, cancel := context.WithTimeout(s.ctx, s.srv.cfg.CommitTimeout)
	defer cancel()
	id := tx.QueueID()
	began := time.Now()
	results, err := tx.Commit(ctx)
	s.srv.count.accept.Observe(time.Since(began).Seconds())
	if err != nil {
		return s.refuse("DATA", err)
	}
	s.srv.count.messages.Inc()
	s.messages.Add(1)
	for i, rcpt := range rcpts {
		if i < len(results) && results[i] != nil {
			status.SetStatus(rcpt, s.refuse("DATA", results[i]))
			continue
		}
		status.SetStatus(rcpt, &smtp.SMTPError{Code: 250, EnhancedCode: smtp.EnhancedCode{2, 1, 5}, Message: "Ok: queued as " + id.String()})
	}
	return nil
}

// writeOnly hides that a Transaction may be more than a Writer from io.Copy.
type writeOnly struct{ io.Writer }

// contentError is the error for content that could not be read.
func contentError(err error) error {
	if errors.Is(err, smtp.ErrDataTooLarge) {
		return envelope.Because(envelope.StatusTooBig, nil)
	}
	return envelope.Because(statusIncomplete, err)
}

// refuse is the only place where an error becomes an LMTP reply. The cause is for
// the log, the status for the client.
func (s *session) refuse(verb string, err error) error {
	st, level := envelope.StatusOf(err), slog.LevelInfo
	if st.Code == envelope.LocalError.Code && st.Enhanced == envelope.LocalError.Enhanced {
		level = slog.LevelError
	}
	s.srv.count.refuse(verb, st.Code)
	s.refused.Add(1)
	attrs := []slog.Attr{slog.String("session", s.client.Session), slog.String("client", s.client.Addr), slog.String("verb", verb),
		slog.Int("code", st.Code), slog.String("dsn", st.Enhanced), slog.Any("err", err)}
	if s.srv.events != nil {
		s.srv.events.Emit(s.ctx, event.Event{Time: time.Now(), Level: level, Room: "mda/lmtpd", Msg: "command refused", Trace: s.client.Session, Attrs: attrs})
	} else {
		s.srv.log.LogAttrs(s.ctx, level, "command refused", attrs...)
	}
	return smtpError(err)
}

// smtpError is the public part of err. go-smtp would tell the client the text of
// any other error.
func smtpError(err error) *smtp.SMTPError {
	st := envelope.StatusOf(err)
	e := &smtp.SMTPError{Code: st.Code, EnhancedCode: smtp.NoEnhancedCode, Message: oneLine(st.Text)}
	if words := strings.Split(st.Enhanced, "."); len(words) == 3 {
		for i, w := range words {
			e.EnhancedCode[i], _ = strconv.Atoi(w)
		}
	}
	return e
}

// oneLine makes s printable ASCII.
func oneLine(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, s)
}

// clean reports whether s can stand in a report.
func clean(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f || r == '\ufffd' })
}

func ascii(s string) bool {
	for i := range len(s) {
		if s[i] >= 0x80 {
			return false
		}
	}
	return true
}
