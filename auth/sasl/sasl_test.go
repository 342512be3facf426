package sasl

import (
	"errors"
	"testing"
)

var errJudged = errors.New("judged")

// FuzzServer: whatever a client sends, the exchange ends or asks on, and the
// password is judged at most once, with a name and a password that were sent.
func FuzzServer(f *testing.F) {
	f.Add("PLAIN", []byte("\x00alice\x00secret"), []byte(nil))
	f.Add("PLAIN", []byte{}, []byte("bob\x00alice\x00secret"))
	f.Add("PLAIN", []byte("\x00\x00\x00\x00"), []byte("x"))
	f.Add("LOGIN", []byte("alice"), []byte("secret"))
	f.Add("LOGIN", []byte{}, []byte{0})
	f.Fuzz(func(t *testing.T, mech string, first, second []byte) {
		calls := 0
		s := NewServer(mech, func(authzid, authcid, password string) error {
			calls++
			if n := len(authzid) + len(authcid) + len(password); n > len(first)+len(second) {
				t.Errorf("judged %q %q %q", authzid, authcid, password)
			}
			return errJudged
		})
		if s == nil {
			return
		}
		over := false
		for _, r := range [][]byte{nil, first, second, second} {
			challenge, done, err := s.Next(r)
			if over && !errors.Is(err, ErrMalformed) {
				t.Errorf("an exchange that is over goes on: %q %v %v", challenge, done, err)
			}
			if done {
				t.Error("done without a right password")
			}
			over = over || err != nil
		}
		if calls > 1 {
			t.Errorf("judged %d times", calls)
		}
	})
}

func TestNewServerUnknown(t *testing.T) {
	t.Parallel()
	if s := NewServer("CRAM-MD5", nil); s != nil {
		t.Error("CRAM-MD5 is known")
	}
}

// RFC 4616 §2: an empty initial response is a response, and no valid one.
func TestSuccess(t *testing.T) {
	t.Parallel()
	for mech, responses := range map[string][]string{"PLAIN": {"z\x00n\x00p"}, "LOGIN": {"n", "p"}} {
		var got []string
		s := NewServer(mech, func(authzid, authcid, password string) error {
			got = []string{authzid, authcid, password}
			return nil
		})
		var done bool
		var err error
		for _, r := range responses {
			_, done, err = s.Next([]byte(r))
		}
		if !done || err != nil || got[1] != "n" || got[2] != "p" {
			t.Errorf("%s: %v %v %q", mech, done, err, got)
		}
	}
}
