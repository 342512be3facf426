package envelope

import "time"

// Body is the body type that the client announced (RFC 6152, RFC 3030).
type Body uint8

// The values of the BODY parameter of MAIL.
const (
	Body7Bit Body = iota // absent or 7BIT
	Body8BitMIME
	BodyBinaryMIME
)

// Notify says on which outcomes the sender wants a DSN (RFC 3461 §4.1). Zero is
// the default: on failure, and on delay at our choice.
type Notify uint8

// The values of NOTIFY. NotifyNever excludes the others.
const (
	NotifyNever Notify = 1 << iota
	NotifySuccess
	NotifyFailure
	NotifyDelay
)

// Onward is what goes with the copies of a message beyond the one that answers
// for its delivery: those to the members of a list, and of a forward all but one
// (RFC 3461 §5.2.7.4 (c)). The sender hears of success once.
func (n Notify) Onward() Notify {
	if n&NotifySuccess == 0 {
		return n
	}
	if n &^= NotifySuccess; n == 0 {
		return NotifyNever // absent it would ask for failures
	}
	return n
}

// Return says how much of the message a DSN returns (RFC 3461 §4.3).
type Return uint8

// The values of RET; ReturnDefault leaves the choice to us.
const (
	ReturnDefault Return = iota
	ReturnFull
	ReturnHeaders
)

// Envelope is the SMTP envelope of one message (RFC 5598 §2.2.4).
type Envelope struct {
	ReversePath ReversePath
	Recipients  []Recipient
	Body        Body
	SMTPUTF8    bool   // RFC 6531: the message needs an internationalized next hop
	Return      Return // RET
	EnvID       string // ENVID, decoded from xtext; "" if absent
	Size        int64  // SIZE as announced, octets; 0 if absent
}

// Recipient is one forward-path with what RCPT said about it.
type Recipient struct {
	Address Address
	// Original is the address as the sender knew it: the value of ORCPT
	// without its type, else the RCPT address before aliases and groups.
	Original string
	// OriginalType is the address type of ORCPT, "rfc822" or "utf-8".
	OriginalType string
	Notify       Notify
}

// Client describes the connected side, for trace fields, policy and log.
type Client struct {
	Addr     string // IP address
	Name     string // verified host name of the address, "" if unknown
	Helo     string // argument of HELO, EHLO or LHLO as given
	Protocol string // WITH clause: SMTP, ESMTP, ESMTPS, ESMTPSA, UTF8SMTP…, LMTP (RFC 3848, RFC 6531 §4.3)
	TLS      string // "TLS1.3 TLS_AES_128_GCM_SHA256", "" without TLS
	Session  string // id of the session, in every log line
	Login    string // authenticated person, "" for none
	Received time.Time
}
