package blob

// ID names the stored content of one large body.
type ID [16]byte

// SmallBody is the largest body, in octets, that is kept as a value beside each
// account instead of as one shared blob.
const SmallBody = 16 << 10

// The encodings of stored octets.
const (
	CodecRaw  int16 = 0
	CodecZstd int16 = 1
	CodecS2   int16 = 2
)

// Body is where the octets of a message after its empty line are: inline or in
// a blob. The zero value is an empty body.
type Body struct {
	Size   int64    // octets, uncompressed
	Lines  int64    // number of line ends
	Hash   [32]byte // SHA-256 of the octets; zero for a body read from the message store
	Blob   ID       // zero: inline
	Codec  int16    // of Inline
	Inline []byte   // encoded with Codec
}

// IsInline reports whether the octets stand in Inline.
func (b Body) IsInline() bool { return b.Blob == ID{} }
