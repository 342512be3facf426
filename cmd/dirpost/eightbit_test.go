package main

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"dirpost/internal/testenv"

	"github.com/emersion/go-msgauth/dkim"
)

// TestEightBit: 8-bit mail reaches a next hop that takes 7 bits only, in a form
// that it takes, and with a signature that is right.
func TestEightBit(t *testing.T) {
	t.Parallel()
	peer := testenv.SMTP(t, testenv.SMTPRefusal{}, nil)
	s := newSystem(t, fmt.Sprintf("smarthost = %q\nsmarthost_tls = \"none\"", testenv.SMTPWithout(t, peer.Addr, "8BITMIME")))
	s.start()
	record := s.command(0, "dkim", "create", "corp.example", "--selector", "test")
	if err := s.submit("alice", "alice@corp.example", []string{"friend@elsewhere.example"}, "From: alice@corp.example\r\nSubject: out\r\nMIME-Version: 1.0\r\n"+
		"Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\nGrüße aus einem Haus, in dem es acht Bits gibt.\r\n"); err != nil {
		t.Fatal(err)
	}
	deadline := time.Now().Add(time.Minute)
	for len(peer.Messages()) == 0 {
		if time.Now().After(deadline) {
			t.Fatal("nothing arrived")
		}
		time.Sleep(10 * time.Millisecond) // the peer tells nobody
	}
	m := peer.Messages()[0]
	if !strings.HasSuffix(m.Data, "\r\n\r\nGr=C3=BC=C3=9Fe aus einem Haus, in dem es acht Bits gibt.\r\n") || !strings.Contains(m.Data, "\r\nContent-Transfer-Encoding: quoted-printable\r\n") {
		t.Errorf("arrived: %s", m.Data)
	}
	found, err := dkim.VerifyWithOptions(strings.NewReader(m.Data), &dkim.VerifyOptions{LookupTXT: func(string) ([]string, error) {
		var text strings.Builder
		for i, piece := range strings.Split(record, `"`) {
			if i%2 == 1 {
				text.WriteString(piece)
			}
		}
		return []string{text.String()}, nil
	}})
	if err != nil || len(found) != 1 || found[0].Err != nil {
		t.Errorf("signature: %v %+v in\n%s", err, found, m.Data)
	}
}
