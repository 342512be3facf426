package message

import "strings"

// Limits bound what a Scanner keeps of a message. Beyond them the message is
// still counted and stored whole, only its description gets coarser.
type Limits struct {
	// MaxHeader bounds the octets of the message header, and once more the
	// sum of all MIME part headers. A header that is longer ends there, and
	// the rest counts as body (see DefectHeaderTooBig).
	MaxHeader int
	// MaxDepth bounds the nesting of multiparts and embedded messages. What
	// lies deeper is described as application/octet-stream.
	MaxDepth int
	// MaxParts bounds the number of parts. Later ones belong to the last.
	MaxParts int
}

// DefaultLimits are the limits of Dirpost: 100 levels, 10,000 parts, 1 MiB of
// header.
func DefaultLimits() Limits { return Limits{MaxHeader: 1 << 20, MaxDepth: 100, MaxParts: 10_000} }

// Defects is a set of things that are wrong or unusual in a message.
type Defects uint32

// The defects.
const (
	DefectBareCR Defects = 1 << iota
	DefectBareLF
	DefectNUL
	Defect8Bit           // octets above 127 in the body: no defect where 8BITMIME was announced
	Defect8BitHeader     // octets above 127 in the header (RFC 6532)
	DefectLongLine       // a line of more than 998 octets (RFC 5322 §2.1.1)
	DefectNoEmptyLine    // the message ends in its header
	DefectHeaderTooBig   // Limits.MaxHeader, of the message header or of all part headers
	DefectTooDeep        // Limits.MaxDepth
	DefectTooManyParts   // Limits.MaxParts
	DefectNoBoundary     // a multipart without a usable boundary parameter
	DefectNotClosed      // a multipart without its last boundary
	DefectBadHeaderLine  // a line in the message header that is no field
	DefectEncodedMessage // message/rfc822 or a multipart in base64 or quoted-printable
)

// Parsed describes a message.
type Parsed struct {
	Header     Header
	HeaderSize int64 // octets of the header as it came, with its empty line
	BodySize   int64 // octets after the empty line
	BodyLines  int64 // line ends after the empty line
	Root       *Part
	Defects    Defects
}

// defectNames are in the order of the bits.
var defectNames = [...]string{"bare-cr", "bare-lf", "nul", "8bit", "8bit-header", "long-line", "no-empty-line",
	"header-too-big", "too-deep", "too-many-parts", "no-boundary", "not-closed", "bad-header-line", "encoded-message"}

// String returns the names of the defects, for the log.
func (d Defects) String() string {
	var names []string
	for i, name := range defectNames {
		if d&(1<<i) != 0 {
			names = append(names, name)
		}
	}
	return strings.Join(names, ",")
}
