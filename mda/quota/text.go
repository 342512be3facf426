package quota

import (
	"bytes"
	"fmt"
	"io"
	"time"

	"dirpost/internal/envelope"
	"dirpost/internal/message"
)

// warning is the mail to whoever has a nearly full mailbox.
type warning struct {
	usage
	config *Config
	id     int64
	at     time.Time
}

// WriteTo implements io.WriterTo.
func (m *warning) WriteTo(w io.Writer) (int64, error) {
	var b bytes.Buffer
	subject := "Your mailbox is nearly full"
	if m.limit > 0 {
		subject = fmt.Sprintf("Your mailbox is %d %% full", m.used*100/m.limit)
	}
	for _, f := range [][2]string{
		{"From", message.FormatAddress("Postmaster", m.config.Postmaster)},
		{"To", message.FormatAddress(m.entry.DisplayName, m.entry.Primary)},
		{"Subject", subject},
		{"Date", m.at.Format("Mon, 2 Jan 2006 15:04:05 -0700")},
		{"Message-ID", "<" + envelope.QueueID(m.id).String() + "@" + m.config.Hostname + ">"},
		{"Auto-Submitted", "auto-generated"}, // RFC 3834 §5
		{"MIME-Version", "1.0"},
		{"Content-Type", "text/plain; charset=utf-8"},
	} {
		line, err := message.FormatField(f[0], f[1])
		if err != nil {
			return 0, fmt.Errorf("field %s of a warning: %w", f[0], err)
		}
		b.Write(line)
	}
	b.WriteString("\r\n")
	fmt.Fprintf(&b, "The mailbox of %s\r\nholds %s of mail", m.entry.Primary, octets(m.used))
	if m.limit > 0 {
		fmt.Fprintf(&b, ", of %s that it may hold.\r\n\r\nWhen it is full, new mail is not delivered: its senders are told to try again\r\nlater, and after some days it is returned to them.\r\n", octets(m.limit))
	} else {
		b.WriteString(".\r\n")
	}
	b.WriteString("\r\nPlease delete what you need no more, and empty the trash: what lies there counts too.\r\nLarge messages are often in Sent.\r\n")
	return b.WriteTo(w)
}

// octets is a size as people read it.
func octets(n int64) string {
	for _, u := range []struct {
		size int64
		name string
	}{{1 << 30, "GiB"}, {1 << 20, "MiB"}, {1 << 10, "KiB"}} {
		if n >= u.size {
			return fmt.Sprintf("%.1f %s", float64(n)/float64(u.size), u.name)
		}
	}
	return fmt.Sprintf("%d octets", n)
}
