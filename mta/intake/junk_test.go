package intake

import (
	"io"
	"strings"
	"testing"

	"dirpost/internal/envelope"
	"dirpost/internal/message"
)

// A message that policy judged junk carries the reason, behind the trace field,
// wherever it goes from here; its body is untouched.
func TestMarkJunk(t *testing.T) {
	h := newHouse(t, person("bob", nil))
	tx, err := h.Start(&envelope.Client{Protocol: "ESMTP"}, nil, MailParams{})
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Abort()
	if err := tx.AddRecipient(t.Context(), envelope.Recipient{Address: address(t, "bob@corp.example")}); err != nil {
		t.Fatal(err)
	}
	tx.Begin(t.Context())
	io.WriteString(tx, plain)
	tx.MarkJunk("helo: client uses our name")
	if _, err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	got := h.inbox("bob")
	if len(got) != 1 || !strings.HasSuffix(got[0], "\r\n"+message.JunkField+": helo: client uses our name\r\n"+plain) {
		t.Errorf("got %q", got)
	}
}
