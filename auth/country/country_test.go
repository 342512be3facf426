package country

import (
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"dirpost/internal/testenv"
)

// TestOf: addresses of both kinds, in a file that is replaced, also by nonsense.
func TestOf(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "country.mmdb")
	write := func(b []byte, at time.Time) {
		t.Helper()
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(path, at, at); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := Open(path); err == nil {
		t.Error("no file, and no error")
	}
	now := time.Now()
	write(testenv.Countries(map[string][2]string{"192.0.2.0/24": {"DE", "Germany"}, "2001:db8::/32": {"BR", "Brazil"}, "198.51.100.0/24": {"xx", "Nowhere"}, "203.0.113.0/24": {"FR", "France\nBcc: x"}}), now)
	d, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	for address, want := range map[string][2]string{
		"192.0.2.7": {"DE", "Germany"}, "::ffff:192.0.2.7": {"DE", "Germany"}, "2001:db8:1::1": {"BR", "Brazil"},
		"198.51.100.1": {"", ""}, "203.0.113.1": {"FR", "FR"}, "10.1.2.3": {"", ""}, "fe80::1%eth0": {"", ""}, "::1": {"", ""},
	} {
		if code, name := d.Of(netip.MustParseAddr(address)); [2]string{code, name} != want {
			t.Errorf("%s: %q %q, want %q", address, code, name, want)
		}
	}
	if d.Built().IsZero() {
		t.Error("never built")
	}
	write(testenv.Countries(map[string][2]string{"192.0.2.0/24": {"AT", "Austria"}}), now.Add(time.Minute))
	if code, _ := d.Of(netip.MustParseAddr("192.0.2.7")); code != "AT" {
		t.Errorf("after it was replaced: %q", code)
	}
	write([]byte("nonsense"), now.Add(2*time.Minute))
	if code, _ := d.Of(netip.MustParseAddr("192.0.2.7")); code != "AT" {
		t.Errorf("after nonsense: %q", code)
	}
}

// FuzzFile: no octets do harm.
func FuzzFile(f *testing.F) {
	f.Add(testenv.Countries(map[string][2]string{"192.0.2.0/24": {"DE", "Germany"}}))
	path := filepath.Join(f.TempDir(), "country.mmdb")
	f.Fuzz(func(t *testing.T, b []byte) {
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		d, err := Open(path)
		if err != nil {
			return
		}
		if code, name := d.Of(netip.MustParseAddr("192.0.2.7")); code != "" && (len(code) != 2 || len(name) > 64) {
			t.Errorf("%q %q", code, name)
		}
	})
}
