package seal

import (
	"bytes"
	"errors"
	"testing"
)

func sealer(t testing.TB, keys ...[]byte) *Sealer {
	t.Helper()
	s, err := New(bytes.Join(keys, nil))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestSeal(t *testing.T) {
	t.Parallel()
	oldKey, newKey := GenerateKey(), GenerateKey()
	was, is, both := sealer(t, oldKey), sealer(t, newKey), sealer(t, []byte("# new first\n\n"), newKey, oldKey)
	for _, value := range [][]byte{nil, []byte("secret"), bytes.Repeat([]byte("x"), 5000)} {
		sealed := was.Seal("dkim/corp.example/s1", value)
		if bytes.Contains(sealed, []byte("secret")) {
			t.Errorf("sealed value shows %q", sealed)
		}
		if bytes.Equal(sealed, was.Seal("dkim/corp.example/s1", value)) {
			t.Error("the same value sealed twice is the same")
		}
		for _, s := range []*Sealer{was, both} {
			got, err := s.Open("dkim/corp.example/s1", sealed)
			if err != nil || !bytes.Equal(got, value) {
				t.Errorf("Open = %q, %v, want %q", got, err, value)
			}
		}
		if _, err := is.Open("dkim/corp.example/s1", sealed); !errors.Is(err, ErrNoKey) {
			t.Errorf("Open with another key: %v, want %v", err, ErrNoKey)
		}
		if _, err := was.Open("dkim/corp.example/s2", sealed); !errors.Is(err, ErrSealed) {
			t.Errorf("Open for another purpose: %v, want %v", err, ErrSealed)
		}
		if !was.IsCurrent(sealed) || both.IsCurrent(sealed) || both.IsCurrent(nil) {
			t.Error("IsCurrent is wrong")
		}
		for i := range sealed {
			bad := bytes.Clone(sealed)
			bad[i] ^= 1
			if _, err := was.Open("dkim/corp.example/s1", bad); err == nil {
				t.Errorf("octet %d changed and it opens", i)
			}
			if _, err := was.Open("dkim/corp.example/s1", sealed[:i]); err == nil {
				t.Errorf("cut at %d and it opens", i)
			}
		}
	}
}

func TestNew(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"", "\n", "# none\n", "short", "AAAA", string(GenerateKey()) + "x\n"} {
		if _, err := New([]byte(text)); !errors.Is(err, ErrKey) || err.Error() != ErrKey.Error() {
			t.Errorf("New(%q): %v, want %v", text, err, ErrKey)
		}
	}
}
