package ldap

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"

	"dirpost/internal/gssapi"
)

// The security layers of RFC 4752 §3.3. We take sealing or nothing: the
// connection has no TLS.
const layerSeal = 4

const (
	// maxSealed bounds one sealed frame, both ways, in octets: what three octets
	// of the negotiation can say.
	maxSealed = 1<<24 - 1
	// keepSealed is how large a buffer for frames is kept between them.
	keepSealed = 256 << 10
)

// sealer does the SASL mechanism GSSAPI (RFC 4752 §3.1) for the library, from an
// exchange of which the first token is there.
type sealer struct {
	exchange *gssapi.Exchange
	context  *gssapi.Context
	maxSend  int // octets of a frame that the server takes
}

// InitSecContext implements ldap.GSSAPIClient.
func (s *sealer) InitSecContext(target string, token []byte) ([]byte, bool, error) {
	return s.InitSecContextWithOptions(target, token, nil)
}

// InitSecContextWithOptions implements ldap.GSSAPIClient.
func (s *sealer) InitSecContextWithOptions(_ string, token []byte, _ []int) (out []byte, more bool, err error) {
	if token == nil {
		return s.exchange.Token, true, nil
	}
	s.context, err = s.exchange.Complete(token)
	return nil, false, err
}

// NegotiateSaslAuth implements ldap.GSSAPIClient: it takes the server's offer of
// layers and chooses to seal.
func (s *sealer) NegotiateSaslAuth(token []byte, authzid string) ([]byte, error) {
	if s.context == nil {
		return nil, errors.New("server offers layers before it has shown who it is")
	}
	offer, _, err := s.context.Open(token)
	if err != nil {
		return nil, fmt.Errorf("offer of security layers: %w", err)
	}
	if len(offer) != 4 || offer[0]&layerSeal == 0 {
		return nil, fmt.Errorf("server does not offer to seal the connection (offer %x)", offer)
	}
	s.maxSend = int(binary.BigEndian.Uint32(offer) & maxSealed)
	if s.maxSend < 2*gssapi.Overhead {
		return nil, fmt.Errorf("server takes frames of %d octets only", s.maxSend)
	}
	answer := binary.BigEndian.AppendUint32(nil, layerSeal<<24|maxSealed)
	return s.context.Sign(append(answer, authzid...))
}

// DeleteSecContext implements ldap.GSSAPIClient. The context lives on in the
// connection.
func (s *sealer) DeleteSecContext() error { return nil }

// sealable is a connection that is in clear for the bind and sealed from then
// on: each frame is a sealed token with its length in front (RFC 4422 §3.7).
type sealable struct {
	net.Conn
	context atomic.Pointer[gssapi.Context] // nil: in clear
	maxSend int                            // set before context

	in    *bufio.Reader
	frame bytes.Buffer // of the reader
	plain []byte       // opened, not yet read

	write sync.Mutex // one frame after the other: they are numbered
}

func newSealable(c net.Conn) *sealable { return &sealable{Conn: c, in: bufio.NewReader(c)} }

// seal begins to seal, after a bind that chose it.
func (s *sealable) seal(c *gssapi.Context, maxSend int) {
	s.maxSend = maxSend
	s.context.Store(c)
}

// Write implements net.Conn.
func (s *sealable) Write(p []byte) (int, error) {
	c := s.context.Load()
	if c == nil {
		return s.Conn.Write(p)
	}
	s.write.Lock()
	defer s.write.Unlock()
	done := 0
	for done < len(p) {
		n := min(len(p)-done, s.maxSend-gssapi.Overhead)
		token, err := c.Seal(p[done : done+n])
		if err != nil {
			return done, err
		}
		if _, err := s.Conn.Write(append(binary.BigEndian.AppendUint32(make([]byte, 0, 4+len(token)), uint32(len(token))), token...)); err != nil {
			return done, err
		}
		done += n
	}
	return done, nil
}

// Read implements net.Conn. The library reads on while the bind goes on, so one
// Read begins in clear and ends sealed: it waits without taking anything.
func (s *sealable) Read(p []byte) (int, error) {
	for len(s.plain) == 0 {
		if _, err := s.in.Peek(1); err != nil {
			return 0, err
		}
		c := s.context.Load()
		if c == nil {
			return s.in.Read(p)
		}
		var err error
		if s.plain, err = s.open(c); err != nil {
			_ = s.Conn.Close()
			return 0, fmt.Errorf("sealed connection: %w", err)
		}
	}
	n := copy(p, s.plain)
	s.plain = s.plain[n:]
	return n, nil
}

// open reads one frame. Memory is taken as octets come, not as the length in
// front promises them.
func (s *sealable) open(c *gssapi.Context) ([]byte, error) {
	var head [4]byte
	if _, err := io.ReadFull(s.in, head[:]); err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint32(head[:])
	if n > maxSealed {
		return nil, fmt.Errorf("frame of %d octets", n)
	}
	if s.frame.Reset(); s.frame.Cap() > keepSealed {
		s.frame = bytes.Buffer{}
	}
	if _, err := io.CopyN(&s.frame, s.in, int64(n)); err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return nil, err
	}
	plain, sealed, err := c.Open(s.frame.Bytes())
	if err == nil && !sealed {
		err = errors.New("frame is not sealed")
	}
	return plain, err
}
