package pop3d

import (
	"bytes"
	"errors"
	"io"
)

// dotWriter writes the lines of a multi-line response: a dot at the start of a
// line is doubled, and close ends it (RFC 1939 §3). The lines must end with CRLF,
// as those of every stored message do.
type dotWriter struct {
	w    io.Writer
	tail [2]byte // the last octets written
	some bool    // whether there were any
}

var (
	dot      = []byte{'.'}
	lineDot  = []byte("\n.")
	errWrite = errors.New("short write")
)

// Write writes p with dots doubled. n counts the octets of p.
func (d *dotWriter) Write(p []byte) (n int, err error) {
	if len(p) == 0 {
		return 0, nil
	}
	if p[0] == '.' && (!d.some || d.tail[1] == '\n') {
		if _, err := d.w.Write(dot); err != nil {
			return 0, err
		}
	}
	for n < len(p) {
		k := bytes.Index(p[n:], lineDot)
		end := len(p)
		if k >= 0 {
			end = n + k + 2 // up to and with the dot, which then comes once more
		}
		m, err := d.w.Write(p[n:end])
		n += m
		if err != nil {
			return n, err
		}
		if n < end {
			return n, errWrite
		}
		if k >= 0 {
			if _, err := d.w.Write(dot); err != nil {
				return n, err
			}
		}
	}
	d.some = true
	if len(p) > 1 {
		d.tail[0] = p[len(p)-2]
	} else {
		d.tail[0] = d.tail[1]
	}
	d.tail[1] = p[len(p)-1]
	return n, nil
}

// close ends the last line if it has no end, and the response.
func (d *dotWriter) close() error {
	end := ".\r\n"
	if d.some && d.tail != [2]byte{'\r', '\n'} {
		end = "\r\n.\r\n"
	}
	_, err := io.WriteString(d.w, end)
	return err
}

// errEnough ends the copying of a message for TOP.
var errEnough = errors.New("enough lines")

// lineLimit passes on the first skip octets, and then lines lines.
type lineLimit struct {
	w     io.Writer
	skip  int64
	lines int
}

// Write writes what is within the limit, and returns errEnough beyond it.
func (l *lineLimit) Write(p []byte) (int, error) {
	end := int(min(l.skip, int64(len(p))))
	l.skip -= int64(end)
	for end < len(p) && l.lines > 0 {
		k := bytes.IndexByte(p[end:], '\n')
		if k < 0 {
			end = len(p)
			break
		}
		end += k + 1
		l.lines--
	}
	n, err := l.w.Write(p[:end])
	if err == nil && n == end && (end < len(p) || l.skip == 0 && l.lines == 0) {
		err = errEnough
	}
	return n, err
}
