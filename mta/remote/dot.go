package remote

import (
	"bufio"
	"bytes"
)

// dotWriter writes the content of DATA (RFC 5321 §4.5.2): a dot at the beginning
// of a line is doubled, every line ends in CRLF, and close ends the content. A
// lone CR or LF, which cannot come in by our doors, becomes CRLF here as well:
// what some server takes for a line end must be one for all.
type dotWriter struct {
	w       *bufio.Writer
	inLine  bool // something was written since the last line end
	pending bool // the last octet was CR, not written yet
}

// Write implements io.Writer. An error of w is for good.
func (d *dotWriter) Write(p []byte) (int, error) {
	n := len(p)
	for len(p) > 0 {
		if d.pending {
			d.pending = false
			d.endLine()
			if p[0] == '\n' {
				p = p[1:]
				continue
			}
		}
		if !d.inLine && p[0] == '.' {
			_ = d.w.WriteByte('.') // bufio keeps the error for the next call
		}
		end := bytes.IndexByte(p, '\n')
		if end < 0 {
			end = len(p)
		}
		if cr := bytes.IndexByte(p[:end], '\r'); cr >= 0 {
			end = cr
		}
		if end > 0 {
			d.inLine = true
			if _, err := d.w.Write(p[:end]); err != nil {
				return 0, err
			}
		}
		if end < len(p) {
			if p[end] == '\r' {
				d.pending = true
			} else {
				d.endLine()
			}
			end++
		}
		p = p[end:]
	}
	return n, nil
}

func (d *dotWriter) endLine() {
	d.inLine = false
	_, _ = d.w.WriteString("\r\n")
}

// close ends the last line and the content.
func (d *dotWriter) close() error {
	if d.pending || d.inLine {
		d.pending = false
		d.endLine()
	}
	if _, err := d.w.WriteString(".\r\n"); err != nil {
		return err
	}
	return d.w.Flush()
}
