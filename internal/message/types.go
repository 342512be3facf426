package message

// Part is a node of the MIME tree of a message (RFC 2045, RFC 2046). Offsets are
// octets from the start of the message's body (the octet after the empty line of
// the message header), so that they hold for every copy, whatever fields stand
// before its header.
type Part struct {
	// HeaderOffset and HeaderSize are this part's MIME header including its
	// empty line; for the root both are 0, since its header is the message's.
	HeaderOffset, HeaderSize int64
	// BodyOffset and BodySize are the content; BodyLines counts its line ends.
	BodyOffset, BodySize, BodyLines int64

	Type, Subtype    string // lower case, "text", "plain" by default
	Params           []Param
	ID, Description  string // Content-ID, Content-Description as written
	Encoding         string // Content-Transfer-Encoding, lower case, "7bit" by default
	MD5              string
	Disposition      string // lower case, "" if absent
	DispositionParam []Param
	Language         []string
	Location         string

	// Children are the parts of a multipart. For message/rfc822 and
	// message/global, Embedded describes the message inside.
	Children []*Part
	Embedded *Embedded
}

// Param is a parameter of a structured MIME field, name in lower case, value
// with quoting removed but RFC 2231 and RFC 2047 encodings as they were.
type Param struct{ Name, Value string }

// Embedded is a message inside a message/rfc822 part.
type Embedded struct {
	Envelope []byte // rendered IMAP ENVELOPE
	Root     *Part  // its HeaderOffset/HeaderSize are the embedded message's header
}
