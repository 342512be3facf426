package dialog

import (
	"encoding/base64"
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// op is what one step of a script does.
type op uint8

const (
	opSend     op = iota + 1 // text with CRLF
	opSendRaw                // text as it is
	opSendN                  // n octets, text repeated
	opWant                   // a line that matches text
	opSkip                   // any number of lines
	opWantN                  // n octets
	opGiven                  // text for Runner.Given
	opDo                     // text for Runner.Do
	opConnect                // client comes
	opStartTLS               // client begins TLS
	opClose                  // client goes
	opEOF                    // server goes
)

// step is one line of a script.
type step struct {
	op     op
	client int // from 1
	line   int // in the file
	text   string
	n      int
	source string // the line as written
}

var (
	clientLine = regexp.MustCompile(`^([CS])([0-9]*)([:*-]) ?(.*)$`)
	verbLine   = regexp.MustCompile(`^(connect|starttls|close|eof)(?: [CS]([0-9]+))?$`)
	variable   = regexp.MustCompile(`^\{([A-Za-z][A-Za-z0-9_-]*)\}`)
	encoded    = regexp.MustCompile(`^\{base64:([^}]*)\}`)
)

// parse reads a script; the error names the line.
func parse(src string) ([]step, error) {
	lines := strings.Split(src, "\n")
	if !strings.HasPrefix(lines[0], "#") {
		return nil, fmt.Errorf("1: the first line is a comment that cites the rule under test")
	}
	var steps []step
	for i, line := range lines {
		line = strings.TrimSuffix(line, "\r")
		if strings.TrimSpace(line) == "" || strings.HasPrefix(line, "#") {
			continue
		}
		s, err := parseLine(line)
		if err != nil {
			return nil, fmt.Errorf("%d: %w: %q", i+1, err, line)
		}
		s.line, s.source = i+1, line
		if n := len(steps); n > 0 && steps[n-1].op == opSkip && !(s.op == opWant && s.client == steps[n-1].client) {
			return nil, fmt.Errorf("%d: after S: *... there must be a line of the server that ends it", i+1)
		}
		steps = append(steps, s)
	}
	if n := len(steps); n > 0 && steps[n-1].op == opSkip {
		return nil, fmt.Errorf("%d: S: *... is ended by no other line", steps[n-1].line)
	}
	return steps, nil
}

func parseLine(line string) (step, error) {
	if m := verbLine.FindStringSubmatch(line); m != nil {
		ops := map[string]op{"connect": opConnect, "starttls": opStartTLS, "close": opClose, "eof": opEOF}
		return step{op: ops[m[1]], client: clientNumber(m[2])}, nil
	}
	if text, ok := strings.CutPrefix(line, "given "); ok {
		return step{op: opGiven, text: text}, nil
	}
	if text, ok := strings.CutPrefix(line, "do "); ok {
		return step{op: opDo, text: text}, nil
	}
	m := clientLine.FindStringSubmatch(line)
	if m == nil {
		return step{}, fmt.Errorf("not a step of a dialogue")
	}
	s := step{client: clientNumber(m[2]), text: m[4]}
	switch m[1] + m[3] {
	case "C:":
		s.op = opSend
	case "C-":
		s.op = opSendRaw
	case "S:":
		s.op = opWant
		if s.text == "*..." {
			s.op = opSkip
		}
	case "C*", "S*":
		s.op = opWantN
		if m[1] == "C" {
			s.op = opSendN
		}
		count, text, _ := strings.Cut(s.text, " ")
		n, err := strconv.Atoi(count)
		if err != nil || n < 0 {
			return step{}, fmt.Errorf("a number of octets is wanted")
		}
		if text == "" {
			text = "x"
		}
		s.n, s.text = n, text
	default:
		return step{}, fmt.Errorf("not a step of a dialogue")
	}
	return s, nil
}

func clientNumber(s string) int {
	n, err := strconv.Atoi(s)
	if err != nil {
		return 1
	}
	return n
}

// escape takes an escape from the front of s, which begins with a backslash.
func escape(s string) (octet byte, n int) {
	if len(s) < 2 {
		return '\\', 1
	}
	switch s[1] {
	case 'r':
		return '\r', 2
	case 'n':
		return '\n', 2
	case 't':
		return '\t', 2
	case '0':
		return 0, 2
	case '\\', '{', '*':
		return s[1], 2
	case 'x':
		if len(s) >= 4 {
			if v, err := strconv.ParseUint(s[2:4], 16, 8); err == nil {
				return byte(v), 4
			}
		}
	}
	return '\\', 1
}

// expand is the octets that a client sends for text.
func expand(text string, vars map[string]string) (string, error) {
	var b strings.Builder
	for i := 0; i < len(text); {
		switch text[i] {
		case '\\':
			c, n := escape(text[i:])
			b.WriteByte(c)
			i += n
		case '{':
			if m := encoded.FindStringSubmatch(text[i:]); m != nil {
				plain, err := expand(m[1], vars)
				if err != nil {
					return "", err
				}
				b.WriteString(base64.StdEncoding.EncodeToString([]byte(plain)))
				i += len(m[0])
				continue
			}
			m := variable.FindStringSubmatch(text[i:])
			if m == nil {
				b.WriteByte('{')
				i++
				continue
			}
			value, ok := vars[m[1]]
			if !ok {
				return "", fmt.Errorf("{%s} has no value (a plain brace is \\{)", m[1])
			}
			b.WriteString(value)
			i += len(m[0])
		default:
			b.WriteByte(text[i])
			i++
		}
	}
	return b.String(), nil
}

// pattern matches a line that a server sends.
type pattern struct {
	re    *regexp.Regexp
	names []string
}

// compile makes a pattern of text; names that have a value stand for it.
func compile(text string, vars map[string]string) (pattern, error) {
	var b strings.Builder
	var names []string
	b.WriteString(`(?s)\A`)
	for i := 0; i < len(text); {
		switch text[i] {
		case '\\':
			c, n := escape(text[i:])
			b.WriteString(literal(c))
			i += n
		case '*':
			b.WriteString(`.*`)
			i++
		case '{':
			m := variable.FindStringSubmatch(text[i:])
			if m == nil {
				b.WriteString(`\{`)
				i++
				continue
			}
			if value, ok := vars[m[1]]; ok {
				for j := 0; j < len(value); j++ {
					b.WriteString(literal(value[j]))
				}
			} else {
				names = append(names, m[1])
				b.WriteString(`(.+?)`)
			}
			i += len(m[0])
		default:
			b.WriteString(literal(text[i]))
			i++
		}
	}
	b.WriteString(`\z`)
	re, err := regexp.Compile(b.String())
	return pattern{re, names}, err
}

// literal is c in a regular expression. Patterns match octets mapped to the
// first 256 characters, see latin1.
func literal(c byte) string {
	if c < 0x80 {
		return regexp.QuoteMeta(string(rune(c)))
	}
	return fmt.Sprintf(`\x{%02x}`, c)
}

// match reports whether line fits, and sets the values of new names.
func (p pattern) match(line string, vars map[string]string) bool {
	m := p.re.FindStringSubmatch(latin1(line))
	if m == nil {
		return false
	}
	for i, name := range p.names {
		vars[name] = octets(m[i+1])
	}
	return true
}

// latin1 maps each octet to the character of the same number, so that a regular
// expression sees octets that are no UTF-8 as themselves.
func latin1(s string) string {
	r := make([]rune, len(s))
	for i := 0; i < len(s); i++ {
		r[i] = rune(s[i])
	}
	return string(r)
}

// octets is the reverse of latin1.
func octets(s string) string {
	b := make([]byte, 0, len(s))
	for _, r := range s {
		b = append(b, byte(r))
	}
	return string(b)
}
