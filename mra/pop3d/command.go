package pop3d

import (
	"bytes"
	"strconv"
)

// state is a set of the states of RFC 1939 §3. UPDATE is what QUIT does.
type state uint8

const (
	authorization state = 1 << iota
	transaction
)

// arguments says how many arguments a command takes.
type arguments struct{ least, most int }

var (
	none      = arguments{0, 0}
	one       = arguments{1, 1}
	oneOrNone = arguments{0, 1}
	two       = arguments{2, 2}
	rest      = arguments{-1, -1} // all of the line, spaces included
)

// command describes one command. What it returns ends the session.
type command struct {
	states state
	args   arguments
	run    func(c *conn, args [][]byte) error
}

// commands is the command table.
var commands = map[string]command{
	"CAPA": {authorization | transaction, none, capa}, // RFC 2449 §5
	"QUIT": {authorization | transaction, none, quit}, // RFC 1939 §4, §6
	"STLS": {authorization, none, stls},               // RFC 2595 §4
	"AUTH": {authorization, arguments{0, 2}, authCmd}, // RFC 5034 §4
	"USER": {authorization, rest, user},               // RFC 1939 §7
	"PASS": {authorization, rest, pass},               // RFC 1939 §7
	"STAT": {transaction, none, stat},                 // RFC 1939 §5
	"LIST": {transaction, oneOrNone, list},            // RFC 1939 §5
	"RETR": {transaction, one, retr},                  // RFC 1939 §5
	"DELE": {transaction, one, dele},                  // RFC 1939 §5
	"NOOP": {transaction, none, noop},                 // RFC 1939 §5
	"RSET": {transaction, none, rset},                 // RFC 1939 §5
	"TOP":  {transaction, two, top},                   // RFC 1939 §7
	"UIDL": {transaction, oneOrNone, uidl},            // RFC 1939 §7
}

// parsed is one line of a client.
type parsed struct {
	verb []byte // in capitals
	tail []byte // what stands behind the first space
}

// parse takes a line, without its line end, apart. It changes line: the verb is
// put into capitals in place (RFC 1939 §3).
func parse(line []byte) parsed {
	verb, tail, _ := bytes.Cut(line, []byte{' '})
	for i, b := range verb {
		if 'a' <= b && b <= 'z' {
			verb[i] = b - ('a' - 'A')
		}
	}
	return parsed{verb, tail}
}

// split returns the arguments in tail, and whether there are as many as a
// permits. Arguments are separated by a space (RFC 1939 §3); more than one, or
// one at the end, is forgiven.
func (a arguments) split(tail []byte) ([][]byte, bool) {
	if a == rest {
		return [][]byte{tail}, true
	}
	args := bytes.Fields(tail)
	return args, len(args) >= a.least && len(args) <= a.most
}

// number reads a message number or a number of lines: digits only.
func number(arg []byte) (int, bool) {
	if len(arg) == 0 || len(arg) > 10 {
		return 0, false
	}
	for _, b := range arg {
		if b < '0' || b > '9' {
			return 0, false
		}
	}
	n, err := strconv.Atoi(string(arg))
	return n, err == nil
}

// isText reports whether line has no octet that has no business in a command:
// NUL, and CR other than at the end.
func isText(line []byte) bool { return bytes.IndexByte(line, 0) < 0 && bytes.IndexByte(line, '\r') < 0 }
