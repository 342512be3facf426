package ldap

import (
	"bytes"
	"encoding/binary"
	"io"
	"net"
	"strings"
	"testing"

	"dirpost/internal/gssapi"
)

func contextOf(t testing.TB, side gssapi.Side) *gssapi.Context {
	t.Helper()
	c, err := gssapi.NewContext(bytes.Repeat([]byte{7}, 32), side)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// sealedPair is a sealed connection and the far end of it in clear.
func sealedPair(t testing.TB) (*sealable, net.Conn) {
	t.Helper()
	near, far := net.Pipe()
	t.Cleanup(func() { _ = near.Close(); _ = far.Close() })
	s := newSealable(near)
	s.seal(contextOf(t, gssapi.InitiatorSide), 1<<16)
	return s, far
}

// TestSealed: whatever is written arrives, in frames as small as the other side
// takes them, and read in pieces of any size.
func TestSealed(t *testing.T) {
	t.Parallel()
	for _, size := range []int{2 * gssapi.Overhead, 1000, 1 << 16, maxSealed} {
		near, far := net.Pipe()
		t.Cleanup(func() { _ = near.Close(); _ = far.Close() })
		a, b := newSealable(near), newSealable(far)
		a.seal(contextOf(t, gssapi.InitiatorSide), size)
		b.seal(contextOf(t, gssapi.AcceptorSide), size)
		sent := bytes.Repeat([]byte("0123456789"), 1<<15)
		want := sent
		go func() {
			for _, n := range []int{1, 10, 4096, len(want) - 4107} {
				if _, err := a.Write(want[:n]); err != nil {
					t.Error(err)
				}
				want = want[n:]
			}
			_ = near.Close()
		}()
		got, err := io.ReadAll(b)
		if err != nil || !bytes.Equal(got, sent) {
			t.Errorf("frames of %d: %d octets of %d, %v", size, len(got), len(sent), err)
		}
	}
}

// TestSealedInClear: a token that is signed and not sealed is not taken, however
// right it is.
func TestSealedInClear(t *testing.T) {
	t.Parallel()
	s, far := sealedPair(t)
	token, err := contextOf(t, gssapi.AcceptorSide).Sign([]byte("signed"))
	if err != nil {
		t.Fatal(err)
	}
	go func() { _, _ = far.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(token))), token...)) }()
	if _, err := s.Read(make([]byte, 10)); err == nil || !strings.Contains(err.Error(), "not sealed") {
		t.Errorf("%v", err)
	}
}

// TestLayers: of what a server offers, sealing is chosen or nothing (RFC 4752
// §3.1).
func TestLayers(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name  string
		offer []byte
		want  string // part of the error, "" for none
	}{
		{"all", []byte{7, 1, 0, 0}, ""},
		{"sealing alone", []byte{4, 1, 0, 0}, ""},
		{"signing", []byte{3, 1, 0, 0}, "does not offer to seal"},
		{"nothing", []byte{1, 0, 0, 0}, "does not offer to seal"},
		{"frames too small", []byte{4, 0, 0, 10}, "frames of 10 octets"},
		{"short", []byte{4}, "does not offer to seal"},
	} {
		server := contextOf(t, gssapi.AcceptorSide)
		token, err := server.Sign(tt.offer)
		if err != nil {
			t.Fatal(err)
		}
		s := &sealer{context: contextOf(t, gssapi.InitiatorSide)}
		answer, err := s.NegotiateSaslAuth(token, "")
		if tt.want != "" {
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%s: %v, want %q", tt.name, err, tt.want)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", tt.name, err)
			continue
		}
		if got, _, err := server.Open(answer); err != nil || !bytes.Equal(got, []byte{4, 0xff, 0xff, 0xff}) || s.maxSend != 1<<16 {
			t.Errorf("%s: answer %x, frames of %d, %v", tt.name, got, s.maxSend, err)
		}
	}
	if _, err := new(sealer).NegotiateSaslAuth([]byte{7, 1, 0, 0}, ""); err == nil {
		t.Error("layers offered before the server has shown who it is")
	}
}

// TestSealedHostile: a frame that no server would send ends the connection, and
// takes no more memory than what came of it.
func TestSealedHostile(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		sent []byte
		want string
	}{
		{"too long", []byte{1, 0, 0, 0}, "frame of 16777216 octets"},
		{"absurd", []byte{0xff, 0xff, 0xff, 0xff}, "frame of 4294967295 octets"},
		{"empty", []byte{0, 0, 0, 0}, "not a wrap token"},
		{"in clear", anonymousResult, "frame of"},
		{"cut off", []byte{0, 0, 0, 9, 5, 4}, "unexpected EOF"},
		{"promises and ends", []byte{0, 0xff, 0xff, 0xff}, "unexpected EOF"},
		{"half a length", []byte{0, 0}, "unexpected EOF"},
	}
	for _, tt := range tests {
		s, far := sealedPair(t)
		go func() { _, _ = far.Write(tt.sent); _ = far.Close() }()
		n, err := s.Read(make([]byte, 100))
		if n != 0 || err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %d octets, %v; want %q", tt.name, n, err, tt.want)
		}
		if s.frame.Cap() > 1<<16 {
			t.Errorf("%s: a buffer of %d octets", tt.name, s.frame.Cap())
		}
		if _, err := far.Write([]byte("x")); err == nil {
			t.Errorf("%s: the connection goes on", tt.name)
		}
	}
}

// anonymousResult is a bind response in clear: what somebody underway might say.
var anonymousResult = []byte{0x30, 0x0c, 0x02, 0x01, 0x01, 0x61, 0x07, 0x0a, 0x01, 0x00, 0x04, 0x00, 0x04, 0x00}

// TestSealedBegins: a Read that began in clear waits for what is sealed.
func TestSealedBegins(t *testing.T) {
	t.Parallel()
	near, far := net.Pipe()
	t.Cleanup(func() { _ = near.Close(); _ = far.Close() })
	s := newSealable(near)
	go func() { _, _ = far.Write([]byte("clear")) }()
	b := make([]byte, 100)
	if n, err := s.Read(b); err != nil || string(b[:n]) != "clear" {
		t.Fatalf("%q, %v", b[:n], err)
	}
	result := make(chan error)
	go func() {
		_, err := s.Read(b)
		result <- err
	}()
	s.seal(contextOf(t, gssapi.InitiatorSide), 1<<16)
	if _, err := far.Write(anonymousResult); err != nil && err != io.ErrClosedPipe {
		t.Fatal(err)
	}
	if err := <-result; err == nil || !strings.Contains(err.Error(), "frame of") {
		t.Errorf("octets in clear after the bind: %v", err)
	}
}

// FuzzSealed: whatever comes in frames, nothing is taken that was not sealed for
// us, and no more memory than came.
func FuzzSealed(f *testing.F) {
	f.Add([]byte{0, 0, 0, 16, 5, 4, 1, 0xff, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0})
	f.Add([]byte{0, 0, 0, 17, 5, 4, 3, 0xff, 0, 0, 0, 28, 0, 0, 0, 0, 0, 0, 0, 0, 1})
	f.Add(binary.BigEndian.AppendUint32(nil, maxSealed))
	f.Add(anonymousResult)
	f.Fuzz(func(t *testing.T, b []byte) {
		s := newSealable(&octets{Reader: bytes.NewReader(b)})
		s.seal(contextOf(t, gssapi.InitiatorSide), 1<<16)
		if n, err := s.Read(make([]byte, 100)); n != 0 || err == nil {
			t.Errorf("took %d octets, %v", n, err)
		}
		if s.frame.Cap() > 4*len(b)+4096 {
			t.Errorf("a buffer of %d octets for %d", s.frame.Cap(), len(b))
		}
	})
}

// octets is a connection that has nothing but these to say.
type octets struct {
	io.Reader
	net.Conn
}

func (o *octets) Read(p []byte) (int, error) { return o.Reader.Read(p) }
func (o *octets) Close() error               { return nil }
