package main

import (
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"dirpost/directory"
)

// A Duration is a time span in the configuration: "30s", "5m", "1h30m", "4d".
type Duration time.Duration

// UnmarshalText parses a time span.
func (d *Duration) UnmarshalText(b []byte) error {
	s := string(b)
	if days, ok := strings.CutSuffix(s, "d"); ok {
		n, err := strconv.ParseUint(days, 10, 16)
		if err != nil {
			return fmt.Errorf("%q is no time span: write as 30s, 5m, 12h or 4d", s)
		}
		*d = Duration(time.Duration(n) * 24 * time.Hour)
		return nil
	}
	v, err := time.ParseDuration(s)
	if err != nil || v < 0 {
		return fmt.Errorf("%q is no time span: write as 30s, 5m, 12h or 4d", s)
	}
	*d = Duration(v)
	return nil
}

// A Size is a number of octets in the configuration: "75MiB", "16KiB", "500B".
type Size int64

// UnmarshalText parses a size with a binary unit.
func (z *Size) UnmarshalText(b []byte) error {
	s := string(b)
	for _, u := range []struct {
		name  string
		shift uint
	}{{"KiB", 10}, {"MiB", 20}, {"GiB", 30}, {"TiB", 40}, {"B", 0}} {
		digits, ok := strings.CutSuffix(s, u.name)
		if !ok {
			continue
		}
		n, err := strconv.ParseInt(strings.TrimSpace(digits), 10, 64)
		if err != nil || n < 0 || n > math.MaxInt64>>u.shift {
			break
		}
		*z = Size(n << u.shift)
		return nil
	}
	return fmt.Errorf("%q is no size: write as 500B, 16KiB, 75MiB or 2GiB", s)
}

// A Limit is a Size, or "unlimited".
type Limit int64

// UnmarshalText parses a limit; "unlimited" is directory.Unlimited.
func (l *Limit) UnmarshalText(b []byte) error {
	if string(b) == "unlimited" {
		*l = Limit(directory.Unlimited)
		return nil
	}
	var z Size
	if err := z.UnmarshalText(b); err != nil {
		return fmt.Errorf(`%w, or "unlimited"`, err)
	}
	if z == 0 {
		return errors.New(`0 would say nothing: leave the key out, or write "unlimited"`)
	}
	*l = Limit(z)
	return nil
}

// A Secret says where a secret is: "file:PATH" or "credential:NAME", a
// credential of the service manager (systemd.exec(5), LoadCredential=). It is
// no secret itself.
type Secret struct {
	ref  string
	held []byte // what stands there, while it is not written yet; nil: look
}

// String returns the reference.
func (s Secret) String() string { return s.ref }

// UnmarshalText refuses what is no reference, without repeating it: it may be
// the secret itself.
func (s *Secret) UnmarshalText(b []byte) error {
	if t := string(b); !strings.HasPrefix(t, "file:/") && !strings.HasPrefix(t, "credential:") {
		return errors.New("a secret never stands in the configuration: write file:/PATH or credential:NAME")
	}
	s.ref = string(b)
	return nil
}

// maxSecret bounds the file that a reference may name.
const maxSecret = 64 << 10

// Resolve reads the secret; a line end at its end is not part of it.
func (s Secret) Resolve() (string, error) {
	b, err := s.ResolveBytes()
	if err != nil || b == nil {
		return "", err
	}
	v := strings.TrimRight(string(b), "\r\n")
	if v == "" {
		return "", fmt.Errorf("secret %s: the file is empty", s)
	}
	return v, nil
}

// ResolveBytes reads a secret that is no text, as it is; nil if there is none.
func (s Secret) ResolveBytes() ([]byte, error) {
	if s.ref == "" {
		return nil, nil
	}
	if s.held != nil {
		return s.held, nil
	}
	path, ok := strings.CutPrefix(s.ref, "file:")
	if !ok {
		dir := os.Getenv("CREDENTIALS_DIRECTORY")
		name := strings.TrimPrefix(s.ref, "credential:")
		if dir == "" {
			return nil, fmt.Errorf("%s: the service manager passed no credentials: is there a LoadCredential=%s: line in the unit?", s, name)
		}
		if name == "" || strings.Contains(name, "/") {
			return nil, fmt.Errorf("%s: not the name of a credential", s)
		}
		path = filepath.Join(dir, name)
	}
	st, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("secret %s: %w", s, err)
	}
	if st.Mode().Perm()&0o007 != 0 {
		return nil, fmt.Errorf("secret %s: everybody may read it: chmod o= %s", s, path)
	}
	if st.Size() > maxSecret {
		return nil, fmt.Errorf("secret %s: larger than %d octets", s, maxSecret)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("secret %s: %w", s, err)
	}
	if len(b) == 0 {
		return nil, fmt.Errorf("secret %s: the file is empty", s)
	}
	return b, nil
}
