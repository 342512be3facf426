package gssapi

import (
	"encoding/binary"
	"errors"
	"testing"
	"time"

	"github.com/jcmturner/gokrb5/v8/types"
)

var changeKey = types.EncryptionKey{KeyType: 18, KeyValue: make([]byte, 32)}

// changeSeeds are answers that are cut off, or that lie about their lengths.
var changeSeeds = [][]byte{
	nil, {0}, {0, 6, 0, 1, 0, 0}, {0, 6, 0, 1, 0xff, 0xff}, {0, 8, 0, 1, 0, 0, 0x7e, 0x00}, {0, 9, 0, 1, 0, 2, 1, 2, 3},
	{0, 12, 0, 1, 0, 1, 0, 0x75, 0x84, 0xff, 0xff, 0xff},
}

// FuzzReadChange: whatever a server answers, nothing is believed that our key does not
// open.
func FuzzReadChange(f *testing.F) {
	for _, s := range changeSeeds {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if err := readChange(b, changeKey); err == nil {
			t.Errorf("%x says that the password was changed", b)
		}
	})
}

func TestChangeResult(t *testing.T) {
	t.Parallel()
	rules := []byte{0, 4, 0, 0}
	for _, n := range []uint32{7, 24, 1} {
		rules = binary.BigEndian.AppendUint32(rules, n)
	}
	rules = binary.BigEndian.AppendUint64(rules, uint64(42*24*time.Hour/100))
	rules = binary.BigEndian.AppendUint64(rules, uint64(24*time.Hour/100))
	var e *ChangeError
	if err := changeResult(rules); !errors.As(err, &e) || e.Result != ChangeSoft || e.Rules == nil || *e.Rules != (ChangeRules{MinLength: 7, History: 24, Complex: true, MinAge: 24 * time.Hour}) {
		t.Errorf("%v %+v", err, e.Rules)
	}
	if err := changeResult([]byte("\x00\x05not\xff yours")); !errors.As(err, &e) || e.Result != ChangeDenied || e.Text != "not? yours" || e.Rules != nil {
		t.Errorf("%v", err)
	}
	if err := changeResult([]byte{0, 0}); err == nil || errors.As(err, &e) {
		t.Errorf("success in clear: %v", err)
	}
}
