package imapd

import (
	"encoding/base64"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"dirpost/internal/dialog"

	"github.com/emersion/go-imap/v2"
)

// The dialogues run against one server, each as a person of its own, logged in
// already unless the name of the file begins with "pre-". {user} is the person,
// {team} the shared mailbox, {other} the other one who may open it, who is
// client 9.
func TestDialogs(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/*.dialog")
	if err != nil {
		t.Fatal(err)
	}
	f := newFixture(t, func(c *Config, _ *bridge) { c.MaxMessage = 100_000 })
	t.Run("files", func(t *testing.T) {
		for i, file := range files {
			name := strings.TrimSuffix(filepath.Base(file), ".dialog")
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				f.play(t, file, 2*i+1, !strings.HasPrefix(name, "pre-"))
			})
		}
	})
}

func (f *fixture) play(t *testing.T, file string, person int, loggedIn bool) {
	user, other, team := fmt.Sprintf("p%d", person), fmt.Sprintf("p%d", person+1), fmt.Sprintf("team%d", person)
	r := dialog.Runner{
		Timeout: 20 * time.Second,
		TLS:     f.tls,
		Vars: map[string]string{
			"user": user, "other": other, "team": team,
			"right": base64.StdEncoding.EncodeToString([]byte("\x00" + user + "\x00" + password)),
			"wrong": base64.StdEncoding.EncodeToString([]byte("\x00" + user + "\x00wrong")),
		},
		Dial: func(n int) (net.Conn, error) {
			switch {
			case !loggedIn:
				return f.dial("")
			case n == 9:
				return f.dial(other)
			}
			return f.dial(user)
		},
		Given: func(text string) error { return f.given(t, user, strings.ReplaceAll(text, "{team}", team)) },
		Do: func(text string) error {
			switch {
			case text == "revoke":
				f.bridge.revoke(f.bridge.live.Snapshot().ByLogin(user).Key)
				return nil
			case strings.HasPrefix(text, "given "):
				return f.given(t, user, strings.ReplaceAll(text[6:], "{team}", team))
			}
			return fmt.Errorf("cannot do %q", text)
		},
	}
	r.Run(t, file)
}

// epoch is the internal date of the messages of "given".
var epoch = time.Date(2026, time.February, 3, 4, 5, 6, 0, time.UTC)

// given understands "MAILBOX: 3 messages", "MAILBOX: message NAME \Seen …" for
// testdata/NAME.eml, and "of LOGIN MAILBOX: …" for an account of somebody else.
func (f *fixture) given(t *testing.T, user, text string) error {
	if rest, ok := strings.CutPrefix(text, "of "); ok {
		user, text, _ = strings.Cut(rest, " ")
	}
	mailbox, what, ok := strings.Cut(text, ": ")
	words := strings.Fields(what)
	if !ok || len(words) == 0 {
		return fmt.Errorf("given %q is not understood", text)
	}
	if n, err := strconv.Atoi(words[0]); err == nil {
		for i := 1; i <= n; i++ {
			raw := fmt.Sprintf("From: Alice <alice@corp.example>\r\nTo: bob@corp.example\r\nSubject: Message %d\r\n"+
				"Date: Tue, 3 Feb 2026 04:05:%02d +0000\r\nMessage-ID: <%d@corp.example>\r\n\r\nBody %d\r\n", i, i, i, i)
			if err := f.put(t.Context(), user, mailbox, raw, epoch.Add(time.Duration(i)*time.Second)); err != nil {
				return err
			}
		}
		return nil
	}
	if words[0] != "message" || len(words) < 2 {
		return fmt.Errorf("given %q is not understood", text)
	}
	raw, err := os.ReadFile(filepath.Join("testdata", words[1]+".eml"))
	if err != nil {
		return err
	}
	var flags []imap.Flag
	for _, w := range words[2:] {
		flags = append(flags, imap.Flag(w))
	}
	crlf := strings.ReplaceAll(strings.ReplaceAll(string(raw), "\r\n", "\n"), "\n", "\r\n")
	return f.put(t.Context(), user, mailbox, crlf, epoch, flags...)
}
