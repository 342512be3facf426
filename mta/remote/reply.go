package remote

import (
	"bufio"
	"errors"
	"strings"
	"unicode"
	"unicode/utf8"

	"dirpost/mta/queue"
)

// Bounds of one reply.
const (
	maxReplyLine  = 4096 // RFC 5321 §4.5.3.1.5 says 512
	maxReplyLines = 256
	maxReplyText  = 500 // of what is kept for log and report
)

// errSyntax reports a server that does not speak SMTP.
var errSyntax = errors.New("not an SMTP reply")

// reply is one reply of a server (RFC 5321 §4.2).
type reply struct {
	code  int
	lines []string // without code, as the server wrote them
}

// readReply reads one reply.
func readReply(r *bufio.Reader) (reply, error) {
	var rep reply
	kept := 0
	for n := 0; ; n++ {
		line, err := r.ReadSlice('\n')
		switch {
		case errors.Is(err, bufio.ErrBufferFull) || n == maxReplyLines:
			return reply{}, errSyntax
		case err != nil:
			return reply{}, err
		}
		code, text, last, ok := splitReply(line)
		if !ok || n > 0 && code != rep.code {
			return reply{}, errSyntax
		}
		rep.code = code
		if kept < 8*maxReplyLine { // EHLO may say much, the rest is noise
			rep.lines = append(rep.lines, string(text))
			kept += len(text)
		}
		if last {
			return rep, nil
		}
	}
}

// splitReply takes one line of a reply apart: code, text, and whether it is the
// last. Servers that leave out the space after the code are common enough.
func splitReply(line []byte) (code int, text []byte, last, ok bool) {
	for len(line) > 0 && (line[len(line)-1] == '\n' || line[len(line)-1] == '\r') {
		line = line[:len(line)-1]
	}
	if len(line) < 3 || line[0] < '2' || line[0] > '5' || !isDigit(line[1]) || !isDigit(line[2]) {
		return 0, nil, false, false
	}
	code = int(line[0]-'0')*100 + int(line[1]-'0')*10 + int(line[2]-'0')
	switch {
	case len(line) == 3:
		return code, nil, true, true
	case line[3] == ' ':
		return code, line[4:], true, true
	case line[3] == '-':
		return code, line[4:], false, true
	}
	return 0, nil, false, false
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

// class is the first digit of the code.
func (r reply) class() int { return r.code / 100 }

// enhancedCode takes a status code of RFC 2034 from the front of s: one whose
// class is that of the reply.
func enhancedCode(s string, class int) (code, rest string) {
	end := strings.IndexByte(s, ' ')
	if end < 0 {
		end = len(s)
	}
	parts := strings.Split(s[:end], ".")
	if len(parts) != 3 || len(parts[0]) != 1 || int(parts[0][0]-'0') != class {
		return "", s
	}
	for _, p := range parts[1:] {
		if len(p) < 1 || len(p) > 3 || strings.Trim(p, "0123456789") != "" {
			return "", s
		}
	}
	return s[:end], strings.TrimPrefix(s[end:], " ")
}

// outcome is r as log and report have it. An enhanced code that the server left
// out is "x.0.0".
func (r reply) outcome(relay string) queue.Reply {
	out := queue.Reply{Code: r.code, Relay: relay, Enhanced: string(rune('0'+r.class())) + ".0.0"}
	var b strings.Builder
	for i, line := range r.lines {
		code, rest := enhancedCode(line, r.class())
		if i == 0 && code != "" {
			out.Enhanced = code
		}
		if b.Len() > 0 {
			b.WriteByte(' ')
		}
		b.WriteString(rest)
		if b.Len() > 4*maxReplyText {
			break
		}
	}
	out.Text = printable(b.String())
	return out
}

// printable makes a stranger's text fit for a log line and a report: one line,
// no controls, not too long.
func printable(s string) string {
	var b strings.Builder
	for _, r := range s {
		switch {
		case r == utf8.RuneError:
			r = '?'
		case r < ' ' || r == 0x7f || unicode.IsControl(r) || !unicode.IsPrint(r) && r != ' ':
			r = ' '
		}
		if b.Len()+utf8.RuneLen(r) > maxReplyText {
			break
		}
		b.WriteRune(r)
	}
	return strings.TrimSpace(b.String())
}
