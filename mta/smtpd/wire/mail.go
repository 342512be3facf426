package wire

import (
	"errors"
	"math"
	"strconv"
	"strings"
	"unicode/utf8"

	"dirpost/internal/envelope"
)

// Statuses of what a client may get wrong in MAIL, RCPT and BDAT (RFC 5321
// §4.2.3, RFC 5248).
var (
	statusSyntax     = envelope.Status{Code: 501, Enhanced: "5.5.2", Text: "Syntax error"}
	statusArgument   = envelope.Status{Code: 501, Enhanced: "5.5.4", Text: "Invalid parameter"}
	statusParameter  = envelope.Status{Code: 555, Enhanced: "5.5.4", Text: "Parameter not recognized or not implemented"}
	statusBadSender  = envelope.Status{Code: 501, Enhanced: "5.1.7", Text: "Bad sender address syntax"}
	statusBadForward = envelope.Status{Code: 501, Enhanced: "5.1.3", Text: "Bad recipient address syntax"}
	statusNotUTF8    = envelope.Status{Code: 553, Enhanced: "5.6.7", Text: "Internationalized address needs SMTPUTF8"}
	statusBinary     = envelope.Status{Code: 555, Enhanced: "5.5.4", Text: "BINARYMIME not offered"}
)

// argument returns the error for a parameter that is known but wrong.
func argument(text string) error { return envelope.Because(statusArgument.WithText(text), nil) }

// ParseMail parses the argument of MAIL, "FROM:<path> parameters" (RFC 5321
// §4.1.1.2). White space after the colon is tolerated: old clients send it.
// auth says whether AUTH was offered, and so whether its parameter is known.
//
// Errors are envelope.Errors with the answer for the client.
func ParseMail(arg string, auth bool) (envelope.Envelope, error) {
	var env envelope.Envelope
	path, err := afterKeyword(arg, "FROM:")
	if err != nil {
		return env, err
	}
	reverse, params, err := envelope.ParseReversePath(path)
	if err != nil {
		return env, badPath(statusBadSender, err)
	}
	env.ReversePath = reverse
	var seen uint
	for params != "" {
		var name, value string
		if name, value, params, err = nextParameter(params); err != nil {
			return env, err
		}
		bit, err := mailParameter(&env, name, value, auth)
		if err != nil {
			return env, err
		}
		if seen&bit != 0 {
			return env, argument("Parameter given twice")
		}
		seen |= bit
	}
	return env, checkUTF8(path, env.SMTPUTF8)
}

// mailParameter sets what the parameter name says in env. It returns a bit that
// stands for the parameter.
func mailParameter(env *envelope.Envelope, name, value string, auth bool) (uint, error) {
	switch {
	case strings.EqualFold(name, "SIZE"): // RFC 1870 §3
		n, err := parseSize(value)
		env.Size = n
		return 1, err
	case strings.EqualFold(name, "BODY"): // RFC 6152 §2, RFC 3030 §3
		switch {
		case strings.EqualFold(value, "7BIT"):
		case strings.EqualFold(value, "8BITMIME"):
			env.Body = envelope.Body8BitMIME
		case strings.EqualFold(value, "BINARYMIME"):
			return 0, envelope.Because(statusBinary, nil)
		default:
			return 0, argument("BODY is 7BIT or 8BITMIME")
		}
		return 2, nil
	case strings.EqualFold(name, "SMTPUTF8"): // RFC 6531 §3.4
		if value != "" {
			return 0, argument("SMTPUTF8 takes no value")
		}
		env.SMTPUTF8 = true
		return 4, nil
	case strings.EqualFold(name, "RET"): // RFC 3461 §4.3
		switch {
		case strings.EqualFold(value, "FULL"):
			env.Return = envelope.ReturnFull
		case strings.EqualFold(value, "HDRS"):
			env.Return = envelope.ReturnHeaders
		default:
			return 0, argument("RET is FULL or HDRS")
		}
		return 8, nil
	case strings.EqualFold(name, "ENVID"): // RFC 3461 §4.4
		id, ok := decodeXtext(value)
		if !ok || id == "" || len(value) > 100 || !printable(id) {
			return 0, argument("ENVID is xtext of at most 100 characters")
		}
		env.EnvID = id
		return 16, nil
	case strings.EqualFold(name, "AUTH") && auth: // RFC 4954 §5
		if s, ok := decodeXtext(value); !ok || s == "" || !printable(s) {
			return 0, argument("AUTH is xtext")
		}
		// RFC 4954 §5: a server that does not trust the client with another
		// identity acts as if AUTH=<> had been given, which is how we act.
		return 32, nil
	}
	return 0, envelope.Because(statusParameter, nil)
}

// parseSize parses the value of SIZE: 1 to 20 digits (RFC 1870 §3). What an
// int64 cannot hold is as good as the greatest one.
func parseSize(s string) (int64, error) {
	if s == "" || len(s) > 20 || !digits(s) {
		return 0, argument("SIZE is a number of octets")
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		return math.MaxInt64, nil
	}
	return n, nil
}

// ParseRcpt parses the argument of RCPT, "TO:<path> parameters" (RFC 5321
// §4.1.1.3). utf8 says whether MAIL asked for SMTPUTF8.
func ParseRcpt(arg, postmasterDomain string, utf8 bool) (envelope.Recipient, error) {
	var r envelope.Recipient
	path, err := afterKeyword(arg, "TO:")
	if err != nil {
		return r, err
	}
	address, params, err := envelope.ParseForwardPath(path, postmasterDomain)
	if err != nil {
		return r, badPath(statusBadForward, err)
	}
	r.Address = address
	for params != "" {
		var name, value string
		if name, value, params, err = nextParameter(params); err != nil {
			return r, err
		}
		switch {
		case strings.EqualFold(name, "NOTIFY"):
			if r.Notify != 0 {
				return r, argument("Parameter given twice")
			}
			if r.Notify, err = parseNotify(value); err != nil {
				return r, err
			}
		case strings.EqualFold(name, "ORCPT"):
			if r.OriginalType != "" {
				return r, argument("Parameter given twice")
			}
			if r.OriginalType, r.Original, err = parseOriginal(value); err != nil {
				return r, err
			}
		default:
			return r, envelope.Because(statusParameter, nil)
		}
	}
	return r, checkUTF8(path, utf8)
}

// parseNotify parses the value of NOTIFY (RFC 3461 §4.1).
func parseNotify(s string) (envelope.Notify, error) {
	var n envelope.Notify
	for word := range strings.SplitSeq(s, ",") {
		var bit envelope.Notify
		switch {
		case strings.EqualFold(word, "NEVER"):
			bit = envelope.NotifyNever
		case strings.EqualFold(word, "SUCCESS"):
			bit = envelope.NotifySuccess
		case strings.EqualFold(word, "FAILURE"):
			bit = envelope.NotifyFailure
		case strings.EqualFold(word, "DELAY"):
			bit = envelope.NotifyDelay
		}
		if bit == 0 || n&bit != 0 {
			return 0, argument("NOTIFY is NEVER or of SUCCESS, FAILURE, DELAY")
		}
		n |= bit
	}
	if n&envelope.NotifyNever != 0 && n != envelope.NotifyNever {
		return 0, argument("NOTIFY=NEVER stands alone")
	}
	return n, nil
}

// parseOriginal parses the value of ORCPT, "type;address" (RFC 3461 §4.2,
// RFC 6533 §3). The address is returned decoded: it ends up in reports, so it
// may hold nothing that is not printable.
func parseOriginal(s string) (typ, addr string, err error) {
	typ, enc, ok := strings.Cut(s, ";")
	if !ok || len(s) > 500 {
		return "", "", argument("ORCPT is type;address")
	}
	switch {
	case strings.EqualFold(typ, "rfc822"):
		typ = "rfc822"
		if addr, ok = decodeXtext(enc); ok {
			ok = printable(addr)
		}
	case strings.EqualFold(typ, "utf-8"):
		typ = "utf-8"
		addr, ok = decodeUnitext(enc)
	default:
		ok = false
	}
	if !ok || addr == "" {
		return "", "", argument("ORCPT is type;address")
	}
	return typ, addr, nil
}

// afterKeyword returns what follows "FROM:" or "TO:".
func afterKeyword(arg, keyword string) (string, error) {
	if len(arg) < len(keyword) || !strings.EqualFold(arg[:len(keyword)], keyword) {
		return "", envelope.Because(statusSyntax.WithText("Syntax: "+keyword+"<address>"), nil)
	}
	return strings.TrimLeft(arg[len(keyword):], " \t"), nil
}

// nextParameter takes " NAME[=VALUE]" from the front of s (RFC 5321 §4.1.2:
// esmtp-param). A parameter needs a blank before it.
func nextParameter(s string) (name, value, rest string, err error) {
	if s[0] != ' ' {
		return "", "", "", envelope.Because(statusSyntax, nil)
	}
	s = strings.TrimLeft(s, " ")
	word, rest := s, ""
	if i := strings.IndexByte(s, ' '); i >= 0 {
		word, rest = s[:i], s[i:]
	}
	name, value, given := strings.Cut(word, "=")
	if name == "" || given && value == "" {
		return "", "", "", argument("Parameter without name or value")
	}
	for i := range len(name) {
		if c := name[i]; !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '-' && i > 0) {
			return "", "", "", argument("Bad parameter name")
		}
	}
	for i := range len(value) {
		if c := value[i]; c <= ' ' || c == '=' && !strings.EqualFold(name, "AUTH") || c == 0x7f {
			return "", "", "", argument("Bad parameter value")
		}
	}
	return name, value, rest, nil
}

// badPath gives the error of an address parser its public face.
func badPath(st envelope.Status, err error) error {
	if errors.Is(err, envelope.ErrUTF8) {
		st = statusNotUTF8
	}
	return envelope.Because(st, err)
}

// checkUTF8 refuses octets beyond ASCII that were not announced, and octets that
// are no UTF-8 at all (RFC 6531 §3.5). A domain counts as it was written:
// U-labels are internationalized too.
func checkUTF8(s string, announced bool) error {
	for i := range len(s) {
		if s[i] < utf8.RuneSelf {
			continue
		}
		if !utf8.ValidString(s) {
			return envelope.Because(statusSyntax.WithText("Invalid UTF-8"), nil)
		}
		if !announced {
			return envelope.Because(statusNotUTF8, nil)
		}
		return nil
	}
	return nil
}

func digits(s string) bool {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return s != ""
}

// printable reports whether s is graphic ASCII and blanks only.
func printable(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}
