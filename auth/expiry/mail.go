package expiry

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"time"

	"dirpost/internal/envelope"
	"dirpost/internal/message"
)

// warning is the message to one person.
type warning struct {
	cfg     Config
	to      envelope.Address
	at, now time.Time
	id      envelope.QueueID
}

// dateLayout is the date of RFC 5322 §3.3.
const dateLayout = "Mon, 2 Jan 2006 15:04:05 -0700"

// WriteTo implements io.WriterTo.
func (w *warning) WriteTo(out io.Writer) (int64, error) {
	var h message.Header
	for _, f := range [][2]string{
		{"From", message.FormatAddress("Mail system", w.cfg.From)},
		{"To", message.FormatAddress("", w.to)},
		{"Subject", w.subject()},
		{"Date", w.now.Format(dateLayout)},
		{"Message-ID", "<" + w.id.String() + ".password@" + w.cfg.Hostname + ">"},
		{"Auto-Submitted", "auto-generated"}, // RFC 3834 §5
	} {
		if err := h.Append(f[0], f[1]); err != nil {
			return 0, err
		}
	}
	var b bytes.Buffer
	if err := message.Compose(&b, message.Composition{Header: h, Pieces: []message.Piece{message.TextPiece(w.text())}}); err != nil {
		return 0, err
	}
	return b.WriteTo(out)
}

// left is the time that is left, in words.
func (w *warning) left() string {
	switch hours := int(w.at.Sub(w.now).Round(time.Hour) / time.Hour); {
	case hours < 1:
		return "in less than an hour"
	case hours == 1:
		return "in an hour"
	case hours < 36:
		return fmt.Sprintf("in %d hours", hours)
	default:
		return fmt.Sprintf("in %d days", (hours+12)/24)
	}
}

func (w *warning) subject() string { return "Your password expires " + w.left() }

func (w *warning) text() string {
	var b strings.Builder
	fmt.Fprintf(&b, "The password that you use for %s expires %s:\n\n    %s\n\n",
		w.to.Unicode(), w.left(), w.at.Local().Format("Monday, 2 January 2006, 15:04 MST"))
	b.WriteString("After that your mail programs cannot log in until you have changed it.\n")
	if w.cfg.URL != "" {
		fmt.Fprintf(&b, "You can change it here:\n\n    %s\n\n", w.cfg.URL)
	} else {
		b.WriteString("Please change it before, as you do at your place of work; whoever looks\nafter your account can tell you how.\n\n")
	}
	fmt.Fprintf(&b, "Then give the new password to your mail programs and devices. Nobody will\never ask you by mail for the password itself. This message was written by the\nmail system at %s.\n", w.cfg.Hostname)
	return b.String()
}
