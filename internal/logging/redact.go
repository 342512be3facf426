package logging

import (
	"fmt"
	"log/slog"
	"strings"
)

var redacted = slog.StringValue("[redacted]")

// Secret is a password, token or key. Logged or formatted it is [redacted]; its
// text is string(s).
type Secret string

// LogValue hides the text.
func (Secret) LogValue() slog.Value { return redacted }

// String hides the text.
func (Secret) String() string { return "[redacted]" }

// Format hides the text from every verb, %x and %#v included.
func (Secret) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte("[redacted]")) }

// MarshalText hides the text from encoders.
func (Secret) MarshalText() ([]byte, error) { return []byte("[redacted]"), nil }

// Content is message content. In a log it is its size.
type Content []byte

// LogValue hides the octets.
func (c Content) LogValue() slog.Value {
	return slog.StringValue(fmt.Sprintf("[redacted, %d octets]", len(c)))
}

// isSecretKey reports whether an attribute's key names what must not be logged.
// It is the net below Secret, not a replacement of it.
func isSecretKey(key string) bool {
	switch strings.ToLower(key) {
	case "password", "passwd", "pass", "secret", "token", "authorization", "credentials", "cookie":
		return true
	}
	return false
}
